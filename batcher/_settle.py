"""Settle a batch: count, end the futures, hold what is tried again, then tell everybody.

Two steps. Under the lock the counters change and every future of the batch gets its final state, in one
go. After it, blocked callers are woken, callbacks and hooks run, and what nobody would hear is logged.
So whoever sees a result also sees the counters that include it, and no user code runs under the lock.
"""

from __future__ import annotations

from concurrent.futures._base import FINISHED, RUNNING
from typing import TYPE_CHECKING, Any

from batcher._again import is_whole_failure, try_again
from batcher._drop import drop_late
from batcher._execution import batch_id, free_frames
from batcher._failure import Failure
from batcher._flights import extra_of
from batcher._future import ItemFuture, caller_of, is_watched, settle_locked
from batcher._group import are_bare
from batcher._kinds import has_kind
from batcher._outcomes import fail_all
from batcher._status import BatchRecord
from batcher._tell import call_hook, tell_futures
from batcher.errors import HandlerTimeoutError

if TYPE_CHECKING:
    from batcher._again import Again
    from batcher._group import Batch
    from batcher._line import Line, Post


class _Story:
    """What one handler call leaves to be told."""

    succeeded = 0
    retried = 0
    is_call = True
    is_late = False  # the next attempt would come after the batcher has closed

    def __init__(self, size: int, seconds: float) -> None:
        """Start with nothing to tell of a call with `size` items that took `seconds`."""
        self.size = size
        self.seconds = seconds
        self.watched: list[ItemFuture[Any]] = []
        self.failures: list[Failure] = []
        self.failed_items: list[Any] = []


def finish(line: Line, batch: Batch, outcomes: list[Any], post: Post | None = None) -> bool:
    """Settle a batch whose handler call is over, but for what is tried again.

    Returns whether `post`, if it is given, was laid to rest: nothing is left to do.
    """
    now = line.clock.monotonic()
    again = None if line.gives_up else _try_again(line, batch, outcomes, now)
    if line.cache is not None:
        # Before anybody sees a result. A copy: the flusher may give the batch up at any moment, and take it apart.
        line.cache.keep(list(batch.entries), outcomes)
    story = None
    is_rest, unpinned = False, None
    with line.lock:
        if batch.given_up:
            line.stuck -= 1  # its futures were failed long ago; what came now is thrown away
        else:
            story = _conclude_locked(line, batch, outcomes, again, now)
            line.last_batch_seconds = story.seconds
        if post is not None:
            is_rest, unpinned = line.rest_locked(post)
    if story is not None:
        if batch.start is not None:
            _end_start(line, batch, outcomes)
        _tell(line, batch, story, again)
    # In place: the frames that called the handler have these lists, and an error's traceback has the frames.
    batch.items.clear()
    batch.entries.clear()
    del unpinned  # here, where no lock is held
    return is_rest


def give_up(line: Line, batch: Batch) -> None:
    """End a handler call that has outlasted `handler_timeout`, and free its place."""
    now = line.clock.monotonic()
    error = HandlerTimeoutError(f"the handler took longer than {line.options.handler_timeout} seconds")
    outcomes = fail_all(batch.size, error)
    again = _try_again(line, batch, outcomes, now)
    with line.lock:
        if batch not in line.running:
            return  # it has come to its end meanwhile
        batch.given_up = True
        line.stuck += 1
        story = _conclude_locked(line, batch, outcomes, again, now)
        line.last_batch_seconds = story.seconds
    if batch.lent is not None:
        batch.lent.cancel()  # where it hasn't begun, it needn't
    _end_start(line, batch, outcomes)
    _tell(line, batch, story, again)


def refuse(line: Line, batch: Batch, error: BaseException) -> None:
    """Fail a batch whose handler must not be called."""
    outcomes = fail_all(batch.size, error)
    with line.lock:
        story = _conclude_locked(line, batch, outcomes, None, batch.started)
    story.is_call = False
    _tell(line, batch, story, None)
    batch.items.clear()
    batch.entries.clear()


def _end_start(line: Line, batch: Batch, outcomes: list[Any]) -> None:
    """Give back what the handler call needed to start: it failed if nothing of it succeeded.

    Of a part of a split batch that says nothing: the bad item is in it.
    """
    if batch.start is not None and line.starts is not None:
        is_failure = all(type(outcome) is Failure for outcome in outcomes)
        batch.start.end(is_failure=None if is_failure and batch.is_part else is_failure)
        line.starts.look_again()  # whoever finished the call has the flusher take a turn


def _try_again(line: Line, batch: Batch, outcomes: list[Any], now: float) -> Again | None:
    """Ask what of the batch is tried again."""
    options = line.options
    if line.gives_up or batch.given_up:
        return None
    return try_again(
        batch,
        outcomes,
        now - batch.first_started,
        policy=options.retry,
        splits=options.split_failed,
        report=line.reporter.report,
    )


def _conclude_locked(line: Line, batch: Batch, outcomes: list[Any], again: Again | None, now: float) -> _Story:
    """Free the batch's place, end its futures, and hold what is tried again."""
    story = _Story(batch.size, now - batch.started)
    line.running.discard(batch)
    if again is None and line.regroup is not None and not is_whole_failure(outcomes):
        line.queue.sizing.observe(batch.size, batch.started, now)
    following, due = batch.rest, now
    if again is not None:
        parts = _parts_locked(line, batch, again)
        following = [*parts, *following]
        due += again.wait
        story.retried = sum(part.size for part in parts)
        story.is_late = line.drain_by is not None and due > line.drain_by
        line.processing -= story.retried
        if line.flights is not None:
            extra = sum(extra_of(part.entries) for part in parts)
            line.queue.extra += extra
            line.processing -= extra
        line.counters.split += again.is_split
        outcomes = _keep_only_ended(batch, outcomes, again)
    if following:
        line.queue.hold(following, due)
    elif batch.group.is_busy:
        line.queue.release(batch.group)
    _settle_locked(line, batch, outcomes, story, now)
    return story


def _parts_locked(line: Line, batch: Batch, again: Again) -> list[Batch]:
    """Return the batches of the next attempt, without the items that have ended; at least one."""
    parts = []
    for positions in again.parts:
        # What a receiver has seen before comes under the same number; other contents are another batch.
        is_same = len(positions) == batch.size
        part = batch.successor(batch.number if is_same else line.queue.next_number(), positions)
        part.is_part = again.is_split
        part.last_error = again.error
        parts.append(part)
        line.queue.held.count_in(part)
    return parts


def _keep_only_ended(batch: Batch, outcomes: list[Any], again: Again) -> list[Any]:
    """Leave in the batch what isn't tried again, and return the outcomes of that."""
    retried = {position for positions in again.parts for position in positions}
    ended = [position for position in range(batch.size) if position not in retried]
    entries, items = batch.entries, batch.items
    entries[:] = [entries[position] for position in ended]
    items[:] = [items[position] for position in ended]
    return [outcomes[position] for position in ended]


def _settle_locked(line: Line, batch: Batch, outcomes: list[Any], story: _Story, now: float) -> None:
    """Count the batch's outcomes and end its futures; the caller holds the lock."""
    entries, items, skipped = batch.entries, batch.items, 0
    if line.flights is not None:
        entries, items, outcomes = line.flights.expand(batch, outcomes)
    is_silent = are_bare(entries) and not has_kind(outcomes, Failure)
    for entry, item, outcome in () if is_silent else zip(entries, items, outcomes, strict=True):
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
                story.watched.append(entry)
        if is_failure:
            story.failures.append(outcome)
            story.failed_items.append(item)
    failed, counters, tally = len(story.failures), line.counters, batch.tally
    succeeded = story.succeeded = len(entries) - failed - skipped
    if line.regroup is not None and story.watched:
        callers = [caller for future in story.watched if (caller := caller_of(future)) is not None]
        line.regroup.release(callers, now, story.seconds)
    tally.processing -= succeeded + failed
    counters.succeeded += succeeded
    counters.failed += failed
    line.processing -= succeeded + failed
    tally.ended["succeeded"] += succeeded
    tally.ended["failed"] += failed
    if tally.sealed:
        tally.ring_if_complete()


def _tell(line: Line, batch: Batch, story: _Story, again: Again | None) -> None:
    """Tell everybody what became of a handler call's batch."""
    options, failures = line.options, story.failures
    is_heard = bool(failures) and any(map(is_watched, story.watched))  # before they are told, and gone
    if story.watched:
        tell_futures(line, story.watched)
    if failures:
        error = _summary(failures, story.size)
        if options.on_error is not None:
            call_hook(line, "on_error", options.on_error, error, story.failed_items)
        elif not is_heard:
            line.reporter.report("a batch failed and nobody listens", failures[0].error, story.size)
    if options.on_batch is not None and story.is_call:
        call_hook(line, "on_batch", options.on_batch, _record(line, batch, story))
    for error in {id(failure): failure.error for failure in failures}.values() if failures else ():
        free_frames(error)
    if again is not None:
        free_frames(again.error)
    if story.is_late and line.drain_by is not None:
        drop_late(line, line.drain_by)


def _record(line: Line, batch: Batch, story: _Story) -> BatchRecord:
    return BatchRecord(
        id=batch_id(line.uid, batch.number),
        attempt=batch.attempt,
        size=story.size,
        weight=story.size if line.options.weigh is None else batch.weight,
        key=batch.group.key,
        waited=max(batch.started - batch.since, 0.0),
        seconds=story.seconds,
        succeeded=story.succeeded,
        failed=len(story.failures),
        expired=batch.expired,
        retried=story.retried,
    )


def _summary(failures: list[Failure], size: int) -> BaseException:
    """Return the one error of a batch, or all of them as a group."""
    errors = list({id(failure.error): failure.error for failure in failures}.values())
    if len(errors) == 1:
        return errors[0]
    return BaseExceptionGroup(f"{len(failures)} of {size} items failed", errors)
