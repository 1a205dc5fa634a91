"""One bulk run, as its caller's thread goes through it.

The caller reads the input whenever there is a place for another batch, and takes what has ended. However
it leaves, by the end, an error, Ctrl-C, or because its generator is closed, it takes the conductor, the
workers, the checkpoint and the input with it.
"""

from __future__ import annotations

import threading
from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from batcher import _reentry
from batcher._bar import Bar
from batcher._clock import Bell, current_clock
from batcher._collection import Collection
from batcher._conductor import Conductor
from batcher._control import Control
from batcher._crew import Crew
from batcher._delivery import Delivery
from batcher._feed import Feed
from batcher._labour import Labour
from batcher._lent import Lent
from batcher._progress import Books, Teller
from batcher._report import Reporter
from batcher._result import BatchResult, Outcome
from batcher._verdict import FailureLimit, Judge

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from batcher._bulk_settings import BulkSettings
    from batcher._checkpoint import Checkpoint
    from batcher._crew import Staff
    from batcher._delivery import Group
    from batcher._job import Batch
    from batcher._progress import Progress

# When the caller leaves early, what runs has so many seconds to finish, and the books so many to be closed.
_GRACE = 0.5
_PATIENCE = 0.2
# Seconds after which a main thread that waits looks for Ctrl-C.
_LOOK = 0.2


class BulkRun:
    """One run over one input.

    Thread safety: `run` or `stream` belong to one thread; `control` and `progress` to any.

    Attributes:
        control: Pauses and stops it.
    """

    def __init__(
        self, items: Iterable[Any], settings: BulkSettings, *, streams: bool, is_ordered: bool = False
    ) -> None:
        """Open the checkpoint, if there is one; start no thread yet.

        Raises:
            TypeError: `items` isn't iterable.
            CheckpointError: The checkpoint can't be used.
            ModuleNotFoundError: tqdm is asked for and not installed.
        """
        _reentry.follow_patches()
        clock = current_clock()
        total = _count(items) if settings.total is None else settings.total
        self._settings = settings
        self._token = _reentry.new_token()
        bell = Bell()
        self.control = Control(bell)
        self._books = Books(clock, total, settings.batch_size)
        reporter = Reporter(settings.name, clock)
        limit = FailureLimit(settings.max_failures, total, settings.batch_size)
        judge = Judge(settings.policy, limit, self.control, clock, reporter)
        hooks: list[Callable[[Progress], object]] = [] if settings.on_progress is None else [settings.on_progress]
        if settings.progress:
            hooks.append(Bar(total))
        # Last: from here on there is something to close.
        self._checkpoint = None if settings.checkpoint is None else _open(settings.checkpoint)
        try:
            self._feed = Feed(items, settings, self._books, self._checkpoint, control=self.control, clock=clock)
        except BaseException:
            self._close_checkpoint()
            raise
        collection = Collection(is_shuffled=settings.priority is not None, keeps_results=settings.reduce is None)
        self._delivery = Delivery(
            self.control, self._checkpoint, settings.reduce, collection, streams=streams, is_ordered=is_ordered
        )
        self._conductor = Conductor(
            name=settings.name,
            bell=bell,
            control=self.control,
            clock=clock,
            books=self._books,
            judge=judge,
            limit=limit,
            delivery=self._delivery,
            tellers=[Teller(hook, clock, reporter) for hook in hooks],
        )
        self._staff: Staff
        if settings.executor is None:
            labour = Labour(settings, self.control, clock, judge)
            self._staff = Crew(settings, labour, judge, clock, token=self._token, ring=bell.ring)
        else:
            self._staff = Lent(
                settings, settings.executor, self.control, judge, clock, ring=bell.ring, fail=self._delivery.fail
            )
        self._offered = 0
        self._offered_items = 0

    def progress(self) -> Progress:
        """Return how far it is."""
        return self._conductor.progress()

    # All at once

    def run(self) -> BatchResult[Any, Any]:
        """Process the input; return what came of it.

        Raises:
            Exception: What the input, `reduce` or the checkpoint failed with; the result so far is its
                `batch_result`.
        """
        conductor = self._conductor
        try:
            try:
                conductor.start(self._staff, self._token)
                while self._read_one():
                    pass
                while not conductor.is_over:
                    self._wait()
            finally:
                try:
                    self._leave()
                except BaseException:  # Ctrl-C on the way out, wherever it came
                    self._leave()
                    raise
            self._raise_errors()
        except BaseException as error:
            _attach(error, self._result())
            raise
        return self._result()

    def _read_one(self) -> bool:
        """Wait for a place, read a batch and hand it in; say whether there may be more."""
        while not self._has_room():
            self._wait()
        return self._read_and_offer()

    def _wait(self) -> None:
        """Wait until the conductor rings."""
        # A signal that comes right before a thread blocks doesn't wake it: where Ctrl-C is delivered, look again.
        is_main = threading.current_thread() is threading.main_thread()
        self._delivery.bell.wait(_LOOK if is_main else None)

    def _has_room(self) -> bool:
        """Say whether another batch may be read, or nobody wants one."""
        return self._is_ending() or self._offered - self._delivery.closed < self._feed.places

    def _is_ending(self) -> bool:
        return self.control.is_stopping or self._conductor.is_over

    def _read_and_offer(self) -> bool:
        batch = None
        if not self._is_ending():
            batch = self._feed.next_batch(self._offered_items - self._delivery.closed_items)
        if batch is None:
            self._conductor.end_input()
            return False
        batch.number = self._offered
        self._offered += 1
        self._offered_items += len(batch.items)
        self._books.batches += 1
        self._conductor.offer(batch)
        return True

    def _leave(self) -> None:
        """Leave nothing behind; may be repeated."""
        try:
            self._conductor.leave(0.0 if self._conductor.is_over else _GRACE, _PATIENCE)
        finally:
            self._close_checkpoint()
            self._feed.close()

    def _close_checkpoint(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.close()

    def _raise_errors(self) -> None:
        """Raise what ended the run, or what the input ended with."""
        error = self._delivery.error or self._feed.error
        if error is not None:
            raise error

    def _result(self) -> BatchResult[Any, Any]:
        """Put together what came of it."""
        collection = self._delivery.collection
        collection.finish()
        successful, failed = collection.successful, collection.failed
        return BatchResult(
            successful=successful,
            results=collection.results if self._settings.reduce is None else self._delivery.value,
            failed=failed,
            total_processed=len(successful) + len(failed),
            total_batches=self._books.batches,
            skipped=self._books.skipped,
            processing_time=self._books.elapsed,
            stopped=self.control.is_stopping,
        )

    # One after another

    def stream(self) -> Iterator[Outcome[Any, Any]]:
        """Yield outcomes as they come."""
        conductor = self._conductor
        try:
            conductor.start(self._staff, self._token)
            is_reading = True
            while True:
                is_last = conductor.is_over  # before the look: whatever it has left is there then
                while self._delivery.groups:
                    yield from self._tell(self._delivery.groups.popleft())
                if is_last:
                    break
                if is_reading and self._has_room():
                    is_reading = self._read_and_offer()
                else:
                    self._wait()
            self._raise_errors()
        finally:
            try:
                self._leave()
            except BaseException:  # Ctrl-C on the way out, wherever it came
                self._leave()
                raise

    def _tell(self, group: Group) -> Iterator[Outcome[Any, Any]]:
        """Yield the outcomes of some items; they are dealt with when the caller comes back for the next."""
        batch, positions = group
        told = 0
        try:
            for position in positions:
                yield _outcome(batch, position)
                told += 1
        finally:
            self._conductor.confirm((batch, positions[:told]))


def _open(path: str | os.PathLike[str]) -> Checkpoint:
    from batcher._checkpoint import Checkpoint  # noqa: PLC0415 - few need sqlite3, and importing it takes a while

    return Checkpoint(path)


def _count(items: object) -> int | None:
    """Return how many items there are, if anybody knows."""
    return len(items) if isinstance(items, Sized) else None


def _outcome(batch: Batch, position: int) -> Outcome[Any, Any]:
    index, item = batch.indices[position], batch.items[position]
    failed = batch.failed.get(position)
    if failed is not None:
        return Outcome(index, item, False, None, failed.error, failed.attempts)  # noqa: FBT003 - a record's field
    attempts = batch.attempts[position][0] + 1 if position in batch.attempts else 1
    return Outcome(index, item, True, batch.results[position], None, attempts)  # noqa: FBT003 - as above


def _attach(error: BaseException, result: BatchResult[Any, Any]) -> None:
    """Let the error carry the result so far."""
    try:
        error.batch_result = result  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001, S110 - an exception with slots, or one that forbids it: then without
        pass
