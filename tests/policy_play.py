"""What the machine of all policies plays with: a handler that fails in every way, and what each caller may see."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from batcher import (
    BatcherClosedError,
    BatcherStatus,
    CircuitOpenError,
    HandlerTimeoutError,
    ItemDroppedError,
    ItemTimeoutError,
    MissingResultError,
    QueueFullError,
    ResultShapeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent.futures import Future

    from batcher.testing import FakeClock

# No call is held longer, whatever goes wrong.
PATIENCE: Final = 20.0
MODES: Final = ("list", "list", "mapping", "none", "raise", "exit", "partial", "flaky", "missing", "short", "set")


class ItemError(Exception):
    """What an item fails with that fails alone."""


_MODES_OF: Final[dict[type, set[str]]] = {
    ItemError: {"partial", "flaky"},
    MissingResultError: {"missing"},
    ResultShapeError: {"short", "set"},
}


def batch_key(item: int) -> int:
    """Return what keeps items apart."""
    return item % 2


def dedup_key(item: int) -> int | None:
    """Return what items share a place by, some none; such items have the same batch key and weight."""
    return None if item % 7 == 0 else item % 6


def weigh(item: int) -> float:
    """Return a weight that every limit of the machine allows."""
    return 1.0 + item % 3


@dataclass(eq=False)
class Call:
    """One call of the handler."""

    number: int
    items: list[int]
    mode: str
    began: float
    thread: threading.Thread
    gate: threading.Event = field(default_factory=threading.Event)
    is_held: bool = False
    is_over: bool = False


class PolicyHandler:
    """A handler that does what its mode says, and notes what a batcher may never do.

    Attributes:
        mode: What the next calls do.
        is_holding: Whether the next calls hang until they are let go.
        calls: All calls, in order of their beginning.
        wrongs: What the batcher did that it may not do.
    """

    def __init__(self, options: dict[str, Any], clock: FakeClock) -> None:
        """Watch that the batcher keeps its options."""
        self._options = options
        self._clock = clock
        self._lock = threading.Lock()  # guards: everything below
        self.mode = "list"
        self.is_holding = False
        self.calls: list[Call] = []
        self.wrongs: list[str] = []

    def ident(self, item: int) -> Hashable:
        """Return what two items have in common that may share a place."""
        key = dedup_key(item) if self._options["dedup_key"] else None
        return ("item", item) if key is None else ("key", key)

    def __call__(self, items: list[int]) -> Any:
        """Do what the mode says."""
        with self._lock:
            call = Call(len(self.calls), list(items), self.mode, self._clock.monotonic(), threading.current_thread())
            self._check_locked(call)
            self.calls.append(call)
            call.is_held = is_held = self.is_holding
        if is_held:
            assert call.gate.wait(PATIENCE)
        call.is_over = True
        return self._answer(call)

    def _answer(self, call: Call) -> Any:
        items = call.items
        match call.mode:
            case "none":
                return None
            case "raise":
                raise OSError(call.number)
            case "exit":
                raise SystemExit(call.number)
            case "short":
                return items[1:]
            case "set":
                return set(items)
            case "mapping" | "missing":
                by_item = self._options["dedup_key"] is None
                found = {
                    item if by_item or dedup_key(item) is None else dedup_key(item): self._result(item, call)
                    for item in items
                }
                return found if call.mode == "mapping" else dict(list(found.items())[::2])
            case _:
                return [self._result(item, call) if self._succeeds(item, call) else ItemError() for item in items]

    def _succeeds(self, item: int, call: Call) -> bool:
        if call.mode == "flaky":  # by the item's own calls: those of others come in any order
            return sum(item in other.items for other in self.calls[: call.number]) % 2 > 0
        return call.mode == "list" or item % 3 > 0

    def _result(self, item: int, call: Call) -> object:
        return "result", self.ident(item), call.number

    def fits(self, item: int, result: object) -> bool:
        """Say whether an item's caller may see such a result."""
        if result is None:
            return any(call.mode == "none" and self._has(call, item) for call in self.calls)
        assert isinstance(result, tuple)
        call = self.calls[result[2]]
        return bool(result[:2] == ("result", self.ident(item))) and self._has(call, item)

    def _has(self, call: Call, item: int) -> bool:
        return self.ident(item) in set(map(self.ident, call.items))

    def fits_error(self, item: int, error: BaseException) -> bool:
        """Say whether an item's caller may see such an error of the handler."""
        if isinstance(error, CircuitOpenError):
            return self._options["circuit_breaker"] is not None
        if isinstance(error, HandlerTimeoutError):
            return self._options["handler_timeout"] is not None
        if isinstance(error, SystemExit) or type(error) is OSError:
            call = self.calls[error.args[0]]
            return self._has(call, item) and call.mode in ("raise", "exit")
        modes = {call.mode for call in self.calls if self._has(call, item)}
        return bool(modes & _MODES_OF[type(error)])

    def held(self) -> list[Call]:
        """Return the calls that hang."""
        with self._lock:
            return [call for call in self.calls if call.is_held]

    def running(self) -> list[Call]:
        """Return the calls that the batcher waits for."""
        return [call for call in self.calls if not call.is_over and not self.is_given_up(call)]

    def is_given_up(self, call: Call) -> bool:
        """Say whether the batcher no longer waits for a call that hangs."""
        timeout = self._options["handler_timeout"]
        return timeout is not None and self._clock.monotonic() - call.began >= timeout

    def let_go(self) -> None:
        """Let all calls go on, and hold no more."""
        with self._lock:
            self.is_holding = False
            for call in self.calls:
                call.is_held = False
                call.gate.set()

    def _check_locked(self, call: Call) -> None:
        items, options = call.items, self._options
        rivals = self.running()
        taken = {item for other in rivals for item in other.items}
        idents = list(map(self.ident, items))
        weight = sum(map(weigh, items))
        is_keyed, limit = options["batch_key"] is not None, options.get("max_batch_weight")
        keys = set(map(batch_key, items))
        checks = {
            "an empty batch": bool(items),
            "too many items": len(items) <= options["max_batch_size"],
            "too heavy": limit is None or weight <= limit or len(items) == 1,
            "mixed keys": not is_keyed or len(keys) == 1,
            "an item twice at once": len(set(idents)) == len(idents) and not taken & set(items),
            "too many calls at once": len(rivals) < options["max_concurrent"],
            "two calls of a key at once": not is_keyed
            or all(batch_key(other.items[0]) not in keys for other in rivals),
        }
        self.wrongs += [f"{what}: {items}" for what, is_right in checks.items() if not is_right]


class PolicyLedger:
    """Every item that was offered, and how it ended as far as its caller and the hooks were told.

    Attributes:
        futures: The futures of the items that entered with one.
        puts: The items that entered without.
        priorities: What they were offered with.
    """

    def __init__(self, handler: PolicyHandler) -> None:
        """Begin with nothing offered."""
        self._handler = handler
        self._items = count(1)
        self.refused = 0
        self.failed: list[int] = []
        self.dropped: list[int] = []
        self.futures: dict[int, Future[Any]] = {}
        self.puts: list[int] = []
        self.priorities: dict[int, int] = {}

    def on_error(self, error: BaseException, items: list[int]) -> None:
        """Note the items that failed."""
        self.failed += items

    def on_drop(self, item: int, error: BaseException) -> None:
        """Note an item that was dropped."""
        self.dropped.append(item)

    def offer(self, call: Callable[[list[int]], list[Future[Any]] | None], number: int, priority: int) -> None:
        """Make a call that adds so many items, and note what became of them."""
        items = [next(self._items) for _ in range(number)]
        self.priorities |= dict.fromkeys(items, priority)
        try:
            futures = call(items)
        except (QueueFullError, BatcherClosedError):
            self.refused += number
            return
        if futures is None:
            self.puts += items
            return
        for item, future in zip(items, futures, strict=True):
            if future.done() and not future.cancelled() and isinstance(future.exception(), QueueFullError):
                self.refused += 1
            else:
                self.futures[item] = future

    def check(self, status: BatcherStatus) -> None:
        """Compare it all with what the batcher says at a quiet moment."""
        assert self._handler.wrongs == []
        ended = status.succeeded + status.failed + status.cancelled + status.expired + status.dropped
        assert status.accepted == status.pending + status.processing + ended == len(self.futures) + len(self.puts)
        assert (status.refused, status.failed, status.dropped) == (self.refused, len(self.failed), len(self.dropped))
        told = self.failed + self.dropped
        assert len(told) == len(set(told)), "told of an item twice"
        endings = [self._ending(item, future) for item, future in self.futures.items()]
        assert (status.cancelled, status.expired) == (endings.count("cancelled"), endings.count("expired"))
        assert endings.count("succeeded") <= status.succeeded <= endings.count("succeeded") + len(self.puts)
        left = (
            endings.count("waits") + len(set(self.puts) - set(told)) - (status.succeeded - endings.count("succeeded"))
        )
        assert status.pending + status.processing == left
        assert status.batches == len(self._handler.calls)

    def _ending(self, item: int, future: Future[Any]) -> str:
        """Return how an item ended, after a look whether it could."""
        if not future.done():
            return "waits"
        if future.cancelled():
            return "cancelled"
        error = future.exception(0)
        if error is None:
            assert self._handler.fits(item, future.result(0))
            return "succeeded"
        if isinstance(error, ItemTimeoutError):
            return "expired"
        if isinstance(error, (ItemDroppedError, BatcherClosedError)):
            assert item in self.dropped
            return "dropped"
        assert item in self.failed
        assert self._handler.fits_error(item, error), error
        return "failed"

    def check_order(self, line_of: Callable[[int], Hashable]) -> None:
        """Nothing overtakes an earlier item of its line: what was handed over before it was, with it or earlier."""
        lines: dict[Hashable, list[list[int]]] = {}
        for call in self._handler.calls:
            in_call: dict[Hashable, list[int]] = {}
            for item in call.items:
                in_call.setdefault((line_of(item), self.priorities[item]), []).append(item)
            for line, items in in_call.items():
                assert items == sorted(items)
                for before in lines.get(line, []):
                    assert all(item in before or item > max(before) for item in items), (before, items)
                lines.setdefault(line, []).append(items)
