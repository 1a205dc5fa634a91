"""Batchers of every kind under a load of everything at once, and a count of what must come out."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import CancelledError, Future
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

from batcher import Batcher, BatcherError, QueueFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What takes longer hangs.
PATIENCE: Final = 30.0

KINDS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "eager": {"max_batch_size": 5, "max_delay": 0.0, "max_pending": 50},
    "keyed": {"batch_key": lambda item: item % 7, "max_concurrent": 3, "max_delay": 0.002},
    "weighed": {"weigh": lambda item: 1 + item % 5, "max_batch_weight": 20, "max_pending_weight": 100},
    "watched": {"handler_timeout": 0.02, "max_concurrent": 2, "max_delay": 0.001},
    "refusing": {"overflow": "raise", "max_pending": 20, "max_delay": 0.01},
    "oldest": {"overflow": "drop_oldest", "max_pending": 20, "max_delay": 0.02, "max_batch_size": 10},
    "newest": {"overflow": "drop_newest", "max_pending": 300, "max_delay": 0.005},
}


class LoadError(Exception):
    """What the handlers fail with."""


def handle(items: list[int]) -> list[tuple[str, int] | Exception]:
    """Answer each item with what only its caller may see; be slow, hang, or fail in some way, now and then."""
    chance = random.random()
    if chance < 0.02:
        raise LoadError
    if chance < 0.03:
        raise SystemExit
    if chance < 0.04:
        sleep(0.05)
    elif chance < 0.3:
        sleep(0.001)
    return [LoadError(item) if chance > 0.9 and item % 3 == 0 else ("result", item) for item in items]


class Target:
    """One batcher under load, and what was offered to it."""

    def __init__(self, kind: str, options: dict[str, Any]) -> None:
        """Make the batcher."""
        self.batcher: Batcher[int, Any] = Batcher(handle, name=kind, on_error=lambda error, items: None, **options)
        self.is_refusing = options.get("overflow") == "raise"
        # Guards: counts.
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    def note(self, what: str, count: int = 1) -> None:
        """Count what became of an offer."""
        with self._lock:
            self.counts[what] += count

    def offer(self, call: Callable[[], Future[Any] | None]) -> Future[Any] | None:
        """Make a call that adds one item."""
        try:
            future = call()
        except QueueFullError:
            self.note("refused")
            return None
        self.note("accepted")
        return future

    def offer_many(self, items: list[int]) -> list[tuple[int, Future[Any]]]:
        """Add several items; return those that entered."""
        try:
            futures = self.batcher.add_many(items, block_timeout=0.1)
        except QueueFullError:
            self.note("refused", len(items))
            return []
        pairs = list(zip(items, futures, strict=True))
        entered = [pair for pair in pairs if not (pair[1].done() and _is_refused(pair[1]))]
        self.note("accepted", len(entered))
        self.note("refused", len(pairs) - len(entered))
        return entered

    def close(self) -> None:
        """Close, and see that it all adds up."""
        self.batcher.resume()
        report = self.batcher.close(PATIENCE)
        status = self.batcher.status()
        ended = status.succeeded + status.failed + status.cancelled + status.expired + status.dropped
        assert report.pending == 0
        assert (status.pending, status.processing) == (0, 0), status
        assert status.accepted == ended == self.counts["accepted"], (status, self.counts)
        assert status.refused == self.counts["refused"], (status, self.counts)


def _is_refused(future: Future[Any]) -> bool:
    return not future.cancelled() and isinstance(future.exception(0), QueueFullError)


def check(item: int, future: Future[Any]) -> None:
    """See that the item's caller gets what is his, or an error, and doesn't wait for ever."""
    try:
        answer: object = future.result(PATIENCE)
    except (BatcherError, CancelledError, LoadError, SystemExit) as error:
        answer = error
    if isinstance(answer, LoadError):
        assert answer.args in ((), (item,))
    elif not isinstance(answer, BaseException):
        assert answer == ("result", item)


class User(threading.Thread):
    """Somebody who does anything with any of the targets until the time is over."""

    def __init__(self, targets: list[Target], seed: int, until: float) -> None:
        """Do the same for the same seed, as far as threads can."""
        super().__init__(name=f"user-{seed}")
        self._targets = targets
        self._random = random.Random(seed)
        self._until = until
        self._next = seed * 1_000_000_000
        self.problem: BaseException | None = None

    def run(self) -> None:
        """Do one thing after another."""
        try:
            while monotonic() < self._until:
                self.act()
        except BaseException as error:
            self.problem = error

    def act(self) -> None:
        """Do one thing."""
        target = self._random.choice(self._targets)
        action = self._random.choice(
            [self._ask, self._ask, self._crowd, self._put, self._hurry, self._regret, self._map]
        )
        action(target)
        if self._random.random() < 0.02:
            self._disturb(target)

    def _items(self, count: int) -> list[int]:
        self._next += count
        return list(range(self._next - count, self._next))

    def _ask(self, target: Target) -> None:
        """Wait for a result, as a web view does."""
        [item] = self._items(1)
        future = target.offer(lambda: target.batcher.add(item, block_timeout=1.0))
        if future is not None:
            if target.batcher.status().state == "paused" or target.counts["accepted"] % 5 == 0:
                target.batcher.flush(0)
            check(item, future)

    def _crowd(self, target: Target) -> None:
        """Add many, and look at each."""
        entered = target.offer_many(self._items(self._random.randint(1, 40)))
        target.batcher.flush(0.5)
        for item, future in entered:
            if future.done():
                check(item, future)

    def _put(self, target: Target) -> None:
        """Send a few readings, as a sensor does."""
        for item in self._items(10):
            target.offer(lambda item=item: target.batcher.put(item, block_timeout=0.1))  # type: ignore[misc]

    def _hurry(self, target: Target) -> None:
        """Give an item a short deadline; one way or another it ends."""
        [item] = self._items(1)
        timeout = self._random.choice([0.0, 0.0005, 0.002])
        future = target.offer(lambda: target.batcher.add(item, timeout=timeout))
        if future is not None:
            check(item, future)

    def _regret(self, target: Target) -> None:
        """Add and cancel."""
        for item in self._items(5):
            future = target.offer(lambda item=item: target.batcher.add(item, block_timeout=0.1))  # type: ignore[misc]
            if future is not None:
                future.add_done_callback(lambda _: target.batcher.status())
                if future.cancel():
                    assert future.cancelled()
                else:
                    target.batcher.flush(0)
                    check(item, future)

    def _map(self, target: Target) -> None:
        """Iterate over results; an error ends it, and what was read ahead is given back."""
        if target.is_refusing:
            return  # which of the items were refused, nobody outside could tell
        first, *_ = items = self._items(30)
        entered: list[int] = []

        def feed() -> Iterator[int]:
            for item in items:
                entered.append(item)
                yield item

        try:
            for place, result in enumerate(target.batcher.map(feed(), timeout=PATIENCE)):
                assert result == ("result", first + place)
        except (LoadError, BatcherError, SystemExit):
            pass
        target.note("accepted", len(entered))

    def _disturb(self, target: Target) -> None:
        """Pause for a moment, or swap the handler."""
        target.batcher.pause()
        sleep(0.002)
        target.batcher.resume()
        target.batcher.register_handler(handle)
