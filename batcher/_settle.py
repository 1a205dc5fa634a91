"""Settle a batch: count, end the futures, then tell everybody.

Two steps. Under the lock the counters change and every future of the batch gets its final state, in one
go. After it, blocked callers are woken, callbacks and hooks run, and what nobody would hear is logged.
So whoever sees a result also sees the counters that include it, and no user code runs under the lock.
"""

from __future__ import annotations

from concurrent.futures._base import FINISHED, PENDING, RUNNING
from typing import TYPE_CHECKING, Any

from batcher import _reentry
from batcher._execution import free_frames
from batcher._failure import Failure
from batcher._future import (
    ItemFuture,
    announce,
    cancelled_state,
    is_ctrl_c,
    is_watched,
    settle_locked,
)
from batcher._group import Ticket, is_tracked
from batcher._outcomes import fail_all
from batcher._status import BatchRecord
from batcher.errors import BatcherClosedError, HandlerTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from batcher._group import Batch
    from batcher._line import Line
    from batcher.errors import BatcherError


class Settlement:
    """What one settled batch leaves to be told."""

    __slots__ = ("failed_items", "failures", "is_heard", "succeeded", "watched")

    def __init__(self) -> None:
        """Start with nothing to tell."""
        self.watched: list[ItemFuture[Any]] = []
        self.failures: list[Failure] = []
        self.failed_items: list[Any] = []
        self.succeeded = 0
        self.is_heard = False


def _settle_locked(line: Line, batch: Batch, outcomes: Iterable[Any]) -> Settlement:
    """Count the batch's outcomes and end its futures; the caller holds the lock."""
    settlement, skipped = Settlement(), 0
    for entry, item, outcome in zip(batch.entries, batch.items, outcomes, strict=True):
        is_failure = type(outcome) is Failure
        if type(entry) is ItemFuture:
            if entry._watch is None and entry._state is RUNNING and not is_failure:
                entry._result = outcome  # `settle_locked`, spelled out for speed
                entry._state = FINISHED
                continue
            if not settle_locked(entry, outcome):
                skipped += 1  # its own deadline passed in the handler
                continue
            if entry._watch is not None:
                settlement.watched.append(entry)
        if is_failure:
            settlement.failures.append(outcome)
            settlement.failed_items.append(item)
    failed, counters, tally = len(settlement.failures), line.counters, batch.tally
    settlement.succeeded = len(batch.entries) - failed - skipped
    settlement.is_heard = any(is_watched(future) for future in settlement.watched)
    tally.processing -= settlement.succeeded + failed
    counters.succeeded += settlement.succeeded
    counters.failed += failed
    line.processing -= settlement.succeeded + failed
    tally.ended["succeeded"] += settlement.succeeded
    tally.ended["failed"] += failed
    tally.ring_if_complete()
    return settlement


def finish(line: Line, batch: Batch, outcomes: list[Any]) -> None:
    """Settle a batch whose handler call is over."""
    now = line.clock.monotonic()
    settlement = None
    with line.lock:
        if batch.given_up:
            line.stuck -= 1  # its futures were failed long ago; what came now is thrown away
        else:
            line.running.discard(batch)
            line.last_batch_seconds = now - batch.started
            settlement = _settle_locked(line, batch, outcomes)
            line.queue.release(batch.group)
    if settlement is not None:
        _tell(line, batch, settlement, now - batch.started)
    # In place: the frames that called the handler have these lists, and an error's traceback has the frames.
    batch.items.clear()
    batch.entries.clear()


def give_up(line: Line, batch: Batch) -> None:
    """Fail a batch whose handler call has outlasted `handler_timeout`, and free its place."""
    with line.lock:
        if batch not in line.running:
            return  # it has come to its end meanwhile
        batch.given_up = True
        line.stuck += 1
        line.running.discard(batch)
        seconds = line.clock.monotonic() - batch.started
        line.last_batch_seconds = seconds
        error = HandlerTimeoutError(f"the handler took longer than {line.options.handler_timeout} seconds")
        settlement = _settle_locked(line, batch, fail_all(len(batch.entries), error))
        line.queue.release(batch.group)
    if batch.lent is not None:
        batch.lent.cancel()  # where it hasn't begun, it needn't
    _tell(line, batch, settlement, seconds)


def drop_unsent(line: Line, reason: str) -> None:
    """Fail all that is pending with BatcherClosedError: nothing will send it any more."""
    dropped: list[Any] = []
    try:
        with line.lock:
            line.queue.drop_all(line.counters, dropped)
        settle_dropped(line, dropped, BatcherClosedError, reason)
    except BaseException:  # Ctrl-C; what was told already isn't told again
        settle_dropped(line, dropped, BatcherClosedError, reason)
        raise


def cancel_unsent(line: Line) -> None:
    """Cancel the futures of all that is pending; what has no future is dropped, and `on_drop` hears of it."""
    cancelled: list[ItemFuture[Any]] = []
    try:
        with line.lock:
            waiting = line.queue.waiting()
            items = [entry._result for entry in waiting if type(entry) is ItemFuture]  # until the lock is released
            for future in waiting:
                if type(future) is ItemFuture:
                    cancelled.append(future)
                    state = cancelled_state(future)
                    if future._state is PENDING:  # and one straight line from here
                        future._state = state
                        line.counters.cancelled += 1
                        line.queue.ended.append((future, "cancelled"))
                        future._result = None
            line.queue.account_for_ended()
        del items
        tell_futures(line, cancelled)
    except BaseException:
        for future in cancelled:
            line.tell_later(future)  # Ctrl-C, perhaps before those who wait were woken
        raise
    drop_unsent(line, "the batcher was closed without draining")


def settle_dropped(line: Line, dropped: list[Any], kind: type[BatcherError], reason: str) -> None:
    """Settle the futures of dropped entries, which the queue has let go of, and call `on_drop` for each.

    May be repeated with the same list: it is emptied as the hook is called.
    """
    if not dropped:
        return
    error = kind(reason)
    failure = Failure(error, shared=len(dropped) > 1)
    # Others were husks when their turn came, or Ctrl-C kept them from being dropped after all.
    gone = [entry for entry in dropped if not is_tracked(entry) or entry._state in (RUNNING, FINISHED)]
    items = [entry._result if is_tracked(entry) else entry for entry in gone]
    futures = [entry for entry in gone if type(entry) is ItemFuture]
    with line.lock:
        for future in futures:
            settle_locked(future, failure)
    tell_futures(line, futures)
    dropped[:] = gone
    told = 0
    try:
        for entry, item in zip(gone, items, strict=True):
            told += 1
            if type(entry) is Ticket:
                entry._result = None  # the queue may keep the husk for a while
            tell_dropped(line, entry, item, error)
    finally:
        del dropped[:told]


def tell_futures(line: Line, futures: list[ItemFuture[Any]]) -> None:
    """Wake those who wait for settled futures, and run their callbacks."""
    before = _reentry.here.running
    _reentry.here.running = (*before, line.token)
    try:
        announce(futures)
    except BaseException:
        # Ctrl-C on a user's thread that settles, in an add that drops or a close: the flusher goes on.
        line.untold.extend(futures)
        line.wake()
        raise
    finally:
        _reentry.here.running = before


def tell_dropped(line: Line, entry: object, item: object, error: BaseException) -> None:
    """Call `on_drop`; without one, and without a future that would tell, the log has to do."""
    if line.options.on_drop is not None:
        _call_hook(line, "on_drop", line.options.on_drop, item, error)
    elif type(entry) is not ItemFuture:
        line.reporter.report("an item was dropped and nobody listens", error)


def _tell(line: Line, batch: Batch, settlement: Settlement, seconds: float) -> None:
    """Tell everybody what became of a handler call's batch."""
    tell_futures(line, settlement.watched)
    options, failures = line.options, settlement.failures
    if failures:
        error = _summary(failures, batch.size)
        if options.on_error is not None:
            _call_hook(line, "on_error", options.on_error, error, settlement.failed_items)
        elif not settlement.is_heard:
            line.reporter.report("a batch failed and nobody listens", failures[0].error, batch.size)
    if options.on_batch is not None:
        record = BatchRecord(
            id=batch.id,
            size=batch.size,
            weight=batch.size if options.weigh is None else batch.weight,
            key=batch.group.key,
            waited=max(batch.started - batch.since, 0.0),
            seconds=seconds,
            succeeded=settlement.succeeded,
            failed=len(failures),
            expired=batch.expired,
        )
        _call_hook(line, "on_batch", options.on_batch, record)
    for failure in {id(failure): failure for failure in failures}.values():
        free_frames(failure.error)


def _summary(failures: list[Failure], size: int) -> BaseException:
    """Return the one error of a batch, or all of them as a group."""
    errors = list({id(failure.error): failure.error for failure in failures}.values())
    if len(errors) == 1:
        return errors[0]
    return BaseExceptionGroup(f"{len(failures)} of {size} items failed", errors)


def _call_hook(line: Line, name: str, hook: Callable[..., object], *args: object) -> None:
    """Call a user's hook; what it raises is logged and disturbs nobody."""
    before = _reentry.here.running
    _reentry.here.running = (*before, line.token)
    try:
        hook(*args)
    except BaseException as error:  # SystemExit in a hook must not end the flusher
        line.reporter.report(f"{name} raised", error)
        if is_ctrl_c(error):
            raise
    finally:
        _reentry.here.running = before
