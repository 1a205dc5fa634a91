"""Settle a batch: count, end the futures, then tell everybody.

Two steps. Under the lock the counters change and every future of the batch gets its final state, in one
go. After it, blocked callers are woken, callbacks and hooks run, and what nobody would hear is logged.
So whoever sees a result also sees the counters that include it, and no user code runs under the lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batcher import _reentry
from batcher._execution import free_frames
from batcher._future import Failure, ItemFuture, announce, cancel_claimed_locked, is_watched, settle_locked
from batcher._outcomes import fail_all
from batcher._status import BatchRecord
from batcher.errors import BatcherClosedError, HandlerTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from batcher._group import Batch
    from batcher._line import Line


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


def _settle_locked(line: Line, batch: Batch, outcomes: Iterable[object], *, is_dropped: bool = False) -> Settlement:
    """Count the batch's outcomes and end its futures; the caller holds the lock."""
    settlement = Settlement()
    for entry, item, outcome in zip(batch.entries, batch.items, outcomes, strict=True):
        if type(entry) is ItemFuture:
            if not settle_locked(entry, outcome):
                continue  # its own deadline passed in the handler
            if entry._watch is not None:
                settlement.watched.append(entry)
        if type(outcome) is Failure:
            settlement.failures.append(outcome)
            settlement.failed_items.append(item)
        else:
            settlement.succeeded += 1
    failed, counters, tally = len(settlement.failures), line.counters, batch.tally
    settlement.is_heard = any(is_watched(future) for future in settlement.watched)
    tally.processing -= settlement.succeeded + failed
    if is_dropped:
        counters.dropped += failed
        tally.note("dropped", failed)
    else:
        counters.succeeded += settlement.succeeded
        counters.failed += failed
        line.processing -= settlement.succeeded + failed
        tally.succeeded += settlement.succeeded
        tally.note("failed", failed)
    return settlement


def finish(line: Line, batch: Batch, outcomes: list[Any]) -> None:
    """Settle a batch whose handler call is over."""
    now = line.clock.monotonic()
    with line.lock:
        if batch.given_up:
            line.stuck -= 1  # its futures were failed long ago; what came now is thrown away
            return
        line.running.discard(batch)
        line.last_batch_seconds = now - batch.started
        settlement = _settle_locked(line, batch, outcomes)
        line.queue.release(batch.group)
    _tell(line, batch, settlement, now - batch.started)


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
    _tell(line, batch, settlement, seconds)


def drop_unsent(line: Line, reason: str) -> None:
    """Fail all that is pending with BatcherClosedError: nothing will send it any more."""
    settled: list[tuple[Batch, Settlement]] = []
    with line.lock:
        for batch in line.queue.take_all(line.clock.monotonic()):
            outcomes = fail_all(len(batch.entries), BatcherClosedError(reason))
            settled.append((batch, _settle_locked(line, batch, outcomes, is_dropped=True)))
    for batch, settlement in settled:
        tell_futures(line, settlement.watched)
        for entry, item, failure in zip(batch.entries, settlement.failed_items, settlement.failures, strict=True):
            tell_dropped(line, entry, item, failure.error)


def cancel_unsent(line: Line) -> None:
    """Cancel the futures of all that is pending; what has no future is dropped, and `on_drop` hears of it."""
    cancelled: list[ItemFuture[Any]] = []
    with line.lock:
        batches = line.queue.take_all(line.clock.monotonic())
        for batch in batches:
            futures = [entry for entry in batch.entries if type(entry) is ItemFuture]
            for future in futures:
                cancel_claimed_locked(future)
            cancelled += futures
            dropped = len(batch.entries) - len(futures)
            line.counters.cancelled += len(futures)
            line.counters.dropped += dropped
            batch.tally.processing -= len(batch.entries)
            batch.tally.note("cancelled", len(futures))
            batch.tally.note("dropped", dropped)
    tell_futures(line, cancelled)
    for batch in batches:
        for entry, item in zip(batch.entries, batch.items, strict=True):
            if type(entry) is not ItemFuture:
                tell_dropped(line, entry, item, BatcherClosedError("the batcher was closed without draining"))


def tell_futures(line: Line, futures: list[ItemFuture[Any]]) -> None:
    """Wake those who wait for settled futures, and run their callbacks."""
    try:
        with _reentry.running(line.token):
            announce(futures)
    except BaseException:
        # Ctrl-C on a user's thread that settles, in an add that drops or a close: the flusher goes on.
        line.untold.extend(futures)
        line.wake()
        raise


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
            weight=batch.weight,
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
    try:
        with _reentry.running(line.token):
            hook(*args)
    except BaseException as error:  # noqa: BLE001 - SystemExit in a hook must not end the flusher
        line.reporter.report(f"{name} raised", error)
