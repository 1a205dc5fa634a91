"""End items that nothing will send any more: by the overflow policy, or as a batcher closes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from batcher._failure import Failure
from batcher._flights import end_ticket, with_members
from batcher._future import ItemFuture, cancelled_state, settle_locked
from batcher._group import Ticket, is_tracked
from batcher._tell import call_hook, tell_futures
from batcher.errors import BatcherClosedError

if TYPE_CHECKING:
    from batcher._group import Batch
    from batcher._line import Line
    from batcher.errors import BatcherError

_TOO_LATE = "the batcher closes before this item's next attempt"


def drop_unsent(line: Line, reason: str) -> None:
    """Fail all that is pending with BatcherClosedError: nothing will send it any more."""
    dropped: list[Any] = []
    held: list[Batch] = []
    try:
        with line.lock:
            line.queue.drop_held(-math.inf, line.running, line.counters, held)
            line.queue.drop_all(line.counters, dropped)
        _settle_unsent(line, held, dropped, reason)
    except BaseException:  # Ctrl-C; what was told already isn't told again
        _settle_unsent(line, held, dropped, reason)
        raise


def drop_late(line: Line, drain_by: float) -> None:
    """Fail what waits for an attempt that would come too late, instead of waiting in vain."""
    held: list[Batch] = []
    with line.lock:
        line.queue.drop_held(drain_by, (), line.counters, held)
    _settle_unsent(line, held, [], _TOO_LATE)


def _settle_unsent(line: Line, held: list[Batch], dropped: list[Any], reason: str) -> None:
    """Settle what was dropped: first the batches that were tried before, each with its own last error."""
    for batch in held:
        for part in (batch, *batch.rest):
            settle_dropped(line, part.entries, BatcherClosedError, reason, batch.last_error)
    settle_dropped(line, dropped, BatcherClosedError, reason)


def cancel_unsent(line: Line) -> None:
    """Cancel the futures of all that is pending; what has no future is dropped, and `on_drop` hears of it."""
    cancelled: list[ItemFuture[Any]] = []
    try:
        with line.lock:
            waiting = line.queue.waiting()
            if line.flights is not None:
                waiting = [member for ticket in waiting for member in ticket.members]
            items = [entry._result for entry in waiting if type(entry) is ItemFuture]  # until the lock is released
            for future in waiting:
                if type(future) is ItemFuture:
                    cancelled.append(future)
                    if line.queue.end(future, cancelled_state(future), "cancelled", line.counters):
                        future._result = None
            line.queue.account_for_ended()
        del items
        tell_futures(line, cancelled)
    except BaseException:
        for future in cancelled:
            line.tell_later(future)  # Ctrl-C, perhaps before those who wait were woken
        raise
    drop_unsent(line, "the batcher was closed without draining")


class _Loss:
    """An entry that was dropped, and its item, which its future lets go of when it is settled."""

    __slots__ = ("entry", "item")

    def __init__(self, entry: object) -> None:
        self.entry = entry
        self.item = entry._result if is_tracked(entry) else entry


def settle_dropped(
    line: Line, dropped: list[Any], kind: type[BatcherError], reason: str, cause: BaseException | None = None
) -> None:
    """Settle the futures of dropped entries, which the queue has let go of, and call `on_drop` for each.

    May be repeated with the same list: it is emptied as the hook is called.
    """
    if not dropped:
        return
    with line.lock:
        losses = _losses(line, dropped)
    error = kind(reason)
    error.__cause__ = cause
    failure = Failure(error, shared=len(losses) > 1)
    futures = [loss.entry for loss in losses if type(loss.entry) is ItemFuture]
    with line.lock:
        for future in futures:
            settle_locked(future, failure)
    tell_futures(line, futures)
    told = 0
    try:
        for loss in losses:
            told += 1
            if type(loss.entry) is Ticket:
                loss.entry._result = None  # the queue may keep the husk for a while
            _tell_dropped(line, loss.entry, loss.item, error)
    finally:
        del dropped[:told]


def _losses(line: Line, dropped: list[Any]) -> list[_Loss]:
    """Put what was lost in the place of each entry, those who shared it one by one, and free shared places."""
    tickets = [entry for entry in dropped if type(entry) is Ticket and entry.members is not None]
    if line.flights is not None:
        for ticket in tickets:
            line.flights.free(ticket)
    losses = [entry if type(entry) is _Loss else _Loss(entry) for entry in with_members(dropped)]
    dropped[:] = losses  # before the tickets let go of their members
    for ticket in tickets:
        end_ticket(ticket)
    return losses


def _tell_dropped(line: Line, entry: object, item: object, error: BaseException) -> None:
    """Call `on_drop`; without one, and without a future that would tell, the log has to do."""
    if line.options.on_drop is not None:
        call_hook(line, "on_drop", line.options.on_drop, item, error)
    elif type(entry) is not ItemFuture:
        line.reporter.report("an item was dropped and nobody listens", error)
