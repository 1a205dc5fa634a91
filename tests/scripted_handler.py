"""A handler that does what a script says: answers in every shape, fails in every way, or hangs until it is let go.

It keeps a record of each call, knows what each item's caller must get from it, and notes at once what a batcher may
never do: hand over too much, mix keys, hand an item over twice, run too many calls at the same time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from batcher import MissingResultError, ResultShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from batcher.testing import FakeClock

# No call is held longer, whatever goes wrong.
PATIENCE: Final = 20.0


class ItemError(Exception):
    """What an item fails with that fails alone."""


class BatchFailureError(Exception):
    """What a batch fails with as a whole; carries its items."""


def result_of(item: int) -> tuple[str, int]:
    """Return the result that only this item's caller may see."""
    return "result", item


def fail(items: list[int]) -> object:
    """Fail as a whole."""
    raise BatchFailureError(*items)


def leave(items: list[int]) -> object:
    """Fail with what no handler of Exception catches."""
    raise SystemExit(tuple(items))


MODES: Final[dict[str, Callable[[list[int]], object]]] = {
    "list": lambda items: [result_of(item) for item in items],
    "tuple": lambda items: tuple(map(result_of, items)),
    "mapping": lambda items: {item: result_of(item) for item in items},
    "none": lambda items: None,
    "raise": fail,
    "exit": leave,
    "partial": lambda items: [ItemError(item) if item % 2 else result_of(item) for item in items],
    "missing": lambda items: {item: result_of(item) for item in items if not item % 2},
    "short": lambda items: [result_of(item) for item in items[1:]],
}


@dataclass
class Call:
    """One call of the handler."""

    items: list[int]
    mode: str
    began: float
    thread: threading.Thread
    gate: threading.Event = field(default_factory=threading.Event)
    is_held: bool = False

    def fits(self, item: int, result: object) -> bool:
        """Say whether this is the result that the item's own caller must get."""
        if self.mode == "none":
            return result is None
        is_fine = self.mode in ("list", "tuple", "mapping") or (self.mode in ("partial", "missing") and not item % 2)
        return is_fine and result == result_of(item)

    def fits_error(self, item: int, error: BaseException) -> bool:
        """Say whether this is the error that the item's own caller must get."""
        match self.mode:
            case "raise":
                return isinstance(error, BatchFailureError) and error.args == tuple(self.items)
            case "exit":
                return isinstance(error, SystemExit) and error.args == (tuple(self.items),)
            case "short":
                return isinstance(error, ResultShapeError)
            case "partial":
                return isinstance(error, ItemError) and error.args == (item,) and item % 2 == 1
            case "missing":
                return isinstance(error, MissingResultError) and item % 2 == 1
            case _:
                return False


class ScriptedHandler:
    """The handler, and all that it has seen.

    Attributes:
        mode: What the next calls do.
        is_holding: Whether the next calls hang until they are let go.
        calls: All calls, in order of their beginning.
        errands: What the next call does before it answers.
        wrongs: What the batcher did that it may not do.
    """

    def __init__(
        self,
        *,
        max_batch_size: int,
        max_batch_weight: float | None,
        max_concurrent: int,
        key: Callable[[int], Hashable] | None,
        weigh: Callable[[int], float],
        handler_timeout: float | None,
        clock: FakeClock,
    ) -> None:
        """Watch that the batcher keeps these options."""
        self._max_batch_size = max_batch_size
        self._max_batch_weight = max_batch_weight
        self._max_concurrent = max_concurrent
        self._key = key
        self._weigh = weigh
        self._handler_timeout = handler_timeout
        self._clock = clock
        # Guards: everything below.
        self._lock = threading.Lock()
        self.mode = "list"
        self.is_holding = False
        self.calls: list[Call] = []
        self.call_of: dict[int, Call] = {}
        self.wrongs: list[str] = []
        self._running: list[Call] = []
        self.errands: list[Callable[[], None]] = []

    def __call__(self, items: list[int]) -> Any:
        """Do what the script says."""
        with self._lock:
            call = Call(list(items), self.mode, self._clock.monotonic(), threading.current_thread())
            self._check_locked(call)
            self.calls.append(call)
            self.call_of.update(dict.fromkeys(items, call))
            self._running.append(call)
            errands, self.errands = self.errands, []
        items.clear()  # the list is the handler's own: nobody else may miss them
        for errand in errands:
            errand()
        call.is_held = self.is_holding  # not before: who does errands isn't at rest
        if call.is_held:
            assert call.gate.wait(PATIENCE)
        with self._lock:
            self._running.remove(call)
        return MODES[call.mode](call.items)

    def held(self) -> list[Call]:
        """Return the calls that hang."""
        with self._lock:
            return [call for call in self._running if call.is_held]

    def is_given_up(self, call: Call) -> bool:
        """Say whether the batcher no longer waits for a call that hangs."""
        timeout = self._handler_timeout
        return timeout is not None and self._clock.monotonic() - call.began >= timeout

    def let_go(self) -> None:
        """Let all calls go on, and hold no more."""
        with self._lock:
            self.is_holding = False
            for call in self._running:
                call.is_held = False
                call.gate.set()

    def _check_locked(self, call: Call) -> None:
        items = call.items
        rivals = [other for other in self._running if not self.is_given_up(other)]
        keys = {self._key(item) for item in items} if self._key else {None}
        weight = sum(map(self._weigh, items))
        checks = {
            "an empty batch": bool(items),
            "too many items": len(items) <= self._max_batch_size,
            "too heavy": self._max_batch_weight is None or weight <= self._max_batch_weight or len(items) == 1,
            "mixed keys": len(keys) == 1,
            "an item handed over twice": not self.call_of.keys() & set(items) and len(set(items)) == len(items),
            "too many calls at once": len(rivals) < self._max_concurrent,
            "two calls of one key at once": not self._key
            or not any(self._key(other.items[0]) in keys for other in rivals),
        }
        self.wrongs += [f"{what}: {items}" for what, is_right in checks.items() if not is_right]
