"""What a user knows of the items that he gave to a batcher, and whether that fits what the batcher says."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from batcher import (
    BatcherClosedError,
    BatchRecord,
    FlushReport,
    HandlerTimeoutError,
    ItemDroppedError,
    ItemTimeoutError,
    QueueFullError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent.futures import Future

    from batcher import BatcherStatus
    from tests.scripted_handler import ScriptedHandler


class Ledger:
    """Every item that was offered, and all that came back: futures, hooks, and the handler's record.

    Attributes:
        futures: The futures of the items that entered with one.
        puts: The items that entered without.
        priorities: What they were offered with.
        out_of_turn: Items of handlers and callbacks: others may be on their way in at the same time.
    """

    def __init__(self, handler: ScriptedHandler) -> None:
        """Begin with nothing offered."""
        self._handler = handler
        self._items = count()
        self._refused = 0
        self._failed: list[int] = []
        self._dropped: list[int] = []
        self._records: list[BatchRecord] = []
        self.futures: dict[int, Future[Any]] = {}
        self.puts: list[int] = []
        self.priorities: dict[int, int] = {}
        self.out_of_turn: set[int] = set()

    # What the batcher tells by its hooks; that each of them fails as well must change nothing.

    def on_error(self, error: BaseException, items: list[int]) -> None:
        """Note the items that failed."""
        self._failed.extend(items)
        raise error

    def on_drop(self, item: int, error: BaseException) -> None:
        """Note an item that was dropped."""
        self._dropped.append(item)
        raise SystemExit("a hook")

    def on_batch(self, record: BatchRecord) -> None:
        """Note what a handler call has come to."""
        self._records.append(record)
        raise KeyError

    # What the user does

    def offer(self, call: Callable[[int], Future[Any] | None], priority: int = 0) -> None:
        """Make a call that adds an item, and note what became of it."""
        item = next(self._items)
        self.priorities[item] = priority
        try:
            future = call(item)
        except (QueueFullError, BatcherClosedError):
            self._refused += 1
        else:
            self._enter(item, future)

    def offer_out_of_turn(self, call: Callable[[int], Future[Any] | None]) -> None:
        """Make a call that adds an item on a thread of the batcher's own."""

        def add(item: int) -> Future[Any] | None:
            self.out_of_turn.add(item)
            return call(item)

        self.offer(add)

    def offer_many(self, number: int, call: Callable[[list[int]], list[Future[Any]]], priority: int = 0) -> None:
        """Make a call that adds several items, and note what became of them."""
        items = [next(self._items) for _ in range(number)]
        self.priorities |= dict.fromkeys(items, priority)
        try:
            futures = call(items)
        except (QueueFullError, BatcherClosedError):
            self._refused += number
            return
        for item, future in zip(items, futures, strict=True):
            if future.done() and isinstance(future.exception(), QueueFullError):
                self._refused += 1
            else:
                self._enter(item, future)

    def _enter(self, item: int, future: Future[Any] | None) -> None:
        if future is None:
            self.puts.append(item)
        else:
            self.futures[item] = future

    # Whether all of it fits

    def check(self, status: BatcherStatus) -> None:
        """Compare it all with what the batcher says at a quiet moment."""
        assert self._handler.wrongs == []
        self._check_counts(status)
        self._check_work(status)
        self._check_endings(status)

    def _check_counts(self, status: BatcherStatus) -> None:
        """Every item that came in is somewhere, and counted once; every other one was refused."""
        ended = status.succeeded + status.failed + status.cancelled + status.expired + status.dropped
        assert status.accepted == status.pending + status.processing + ended
        assert status.accepted == len(self.futures) + len(self.puts)
        assert status.refused == self._refused
        assert status.processed == status.succeeded + status.failed
        assert (status.failed, status.dropped) == (len(self._failed), len(self._dropped))
        for heard_of_once in (self._failed, self._dropped):
            assert len(heard_of_once) == len(set(heard_of_once))

    def _check_work(self, status: BatcherStatus) -> None:
        """The calls were counted, and each one that is over was told about."""
        handler = self._handler
        assert status.batches == len(handler.calls)
        assert round(status.average_batch_size * status.batches) == len(handler.call_of)
        assert sum(record.succeeded for record in self._records) == status.succeeded
        assert all(record.size == record.succeeded + record.failed + record.expired for record in self._records)
        held = [call for call in handler.held() if not handler.is_given_up(call)]
        assert len(self._records) == len(handler.calls) - len(held)
        expired = sum(self.futures[item].done() for call in held for item in call.items if item in self.futures)
        assert status.processing == sum(len(call.items) for call in held) - expired
        assert status.stuck_handlers == len(handler.held()) - len(held)

    def _check_endings(self, status: BatcherStatus) -> None:
        """Every future has the result, or the error, of its own item and no other's."""
        endings = {item: self._ending(item, future) for item, future in self.futures.items()}
        told = list(endings.values())
        assert (status.cancelled, status.expired) == (told.count("cancelled"), told.count("expired"))
        gone = self._handler.call_of.keys() | set(self._dropped)
        assert status.pending == told.count("waiting") + len(set(self.puts) - gone)
        assert not self._handler.call_of.keys() & set(self._dropped)

    def _ending(self, item: int, future: Future[Any]) -> str:
        """Return how an item ended, after a look whether it could."""
        call = self._handler.call_of.get(item)
        if not future.done():
            assert future.running() == (call is not None)
            return "running" if call else "waiting"
        if future.cancelled():
            assert call is None
            return "cancelled"
        error = future.exception(0)
        if isinstance(error, ItemTimeoutError):
            return "expired"
        if isinstance(error, (ItemDroppedError, BatcherClosedError)):
            assert item in self._dropped
            return "dropped"
        assert call is not None
        if error is None:
            assert call.fits(item, future.result(0))
            return "succeeded"
        assert item in self._failed
        if isinstance(error, HandlerTimeoutError):
            assert self._handler.is_given_up(call)
        else:
            assert call.fits_error(item, error)
        return "failed"

    def check_order(self, key: Callable[[int], Hashable]) -> None:
        """Items of the same key and priority were handed over first in, first out."""
        lines: dict[Hashable, list[int]] = {}
        for call in self._handler.calls:
            for item in call.items:
                if item not in self.out_of_turn:
                    lines.setdefault((key(item), self.priorities[item]), []).append(item)
        assert all(line == sorted(line) for line in lines.values())


def check_report(report: FlushReport, unsettled: int) -> None:
    """See that a flush or close tells of each item that was unsettled at the call what became of it."""
    told = report.succeeded + report.failed + report.cancelled + report.expired + report.dropped + report.pending
    assert told == unsettled
