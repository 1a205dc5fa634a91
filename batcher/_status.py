"""Frozen snapshots, and the guarded counters that they come from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable
    from datetime import datetime

    from batcher._clock import Bell


class State(Enum):
    """Where a batcher is in its life.

    Legal transitions: OPEN to CLOSING (close, or the batcher was dropped), CLOSING to CLOSED (drained,
    or the timeout passed). Never back: what was refused once can't have been accepted meanwhile.
    """

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatcherStatus:
    """A consistent snapshot of a batcher.

    At any quiet moment `accepted == pending + processing + succeeded + failed + cancelled + expired +
    dropped`.

    Attributes:
        state: "open", "closing" or "closed"; "paused" while open and paused.
        pending: Items accepted and not in a handler; those that wait for their next attempt included.
        processing: Items in a handler.
        processed: `succeeded + failed`.
        batches: Handler calls.
        average_batch_size: Items handed over per handler call; 0.0 before the first.
        last_batch_time: When the last handler call began (wall clock, UTC), or None.
        last_batch_seconds: How long the last finished handler call took, or None.
        accepted: Items that entered.
        succeeded: Items that ended with a result.
        failed: Items that ended with an error of the handler.
        cancelled: Items whose future was cancelled in time.
        expired: Items that ended by their own deadline.
        dropped: Items that entered and were dropped: by the overflow policy, or unsent when close ended.
        refused: Items that never entered: the queue was full, or the batcher closed.
        retried: Items handed to the handler again after a failure, each time counted.
        split: Batches that failed as a whole and were halved.
        deduplicated: Items that shared another one's place, or whose result was in the cache.
        oldest_pending_age: Seconds since the oldest pending item entered, or None.
        stuck_handlers: Handler calls that timed out and still run.
        batch_size_limit: The most items that a batch gets at present: `max_batch_size`, or less where smaller
            batches were found to bring more items through.
        delay_limit: How many seconds blocked callers wait for others at present: learnt, or `max_delay` where
            the batcher isn't adaptive.
    """

    state: str
    pending: int
    processing: int
    processed: int
    batches: int
    average_batch_size: float
    last_batch_time: datetime | None
    last_batch_seconds: float | None
    accepted: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    dropped: int
    refused: int
    retried: int
    split: int
    deduplicated: int
    oldest_pending_age: float | None
    stuck_handlers: int
    batch_size_limit: int
    delay_limit: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushReport:
    """What became of the items that a flush or close was about: all that were unsettled at the call.

    Attributes:
        succeeded: Items that ended with a result.
        failed: Items that ended with an error of the handler.
        cancelled: Items that were cancelled.
        expired: Items that ended by their own deadline.
        dropped: Items that were dropped.
        pending: Items left when the timeout ended, those in a handler included.
    """

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    dropped: int = 0
    pending: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing is left and nothing was lost: no item pending, failed, expired or dropped."""
        return not (self.pending or self.failed or self.expired or self.dropped)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """One handler call, as `on_batch` gets it.

    Attributes:
        id: What `current_batch().id` was in the handler.
        attempt: 1 for the first call with these items, 2 for the next.
        size: Items handed over.
        weight: The sum of their weights; their number where nothing weighs them.
        key: Their batch key, None without `batch_key`.
        waited: Seconds that the oldest item waited before the call.
        seconds: Seconds that the call took.
        succeeded: Items that ended with a result.
        failed: Items that ended with an error.
        expired: Items whose own deadline passed while they were in the handler.
        retried: Items that failed and are tried again.
    """

    id: str
    attempt: int
    size: int
    weight: float
    key: Hashable
    waited: float
    seconds: float
    succeeded: int
    failed: int
    expired: int
    retried: int


class Counters:
    """What has happened to a batcher's items so far.

    Thread safety: none of its own; the owner's lock guards every field. (A plain `+=` on an attribute is
    what a signal can't interrupt: Python runs signal handlers between calls and loops only.)
    """

    __slots__ = (
        "batches",
        "cancelled",
        "deduplicated",
        "dropped",
        "expired",
        "failed",
        "handed_over",
        "passed",
        "refused",
        "retried",
        "split",
        "succeeded",
    )

    def __init__(self) -> None:
        """Start at zero."""
        self.succeeded = self.failed = self.cancelled = self.expired = self.dropped = self.refused = 0
        self.batches = self.handed_over = self.retried = self.split = self.deduplicated = 0
        self.passed = (
            0  # items that entered and never were in the queue: dropped on arrival, or sharing another's place
        )


class Tally:
    """What becomes of the items that one flush is about.

    All items belong to the open tally until a flush seals it: from then on `pending` counts those of it
    that still wait, and the next items belong to a new one. `processing` counts those in a handler from
    the beginning. `ended` counts the rest by how they ended, with the names of `FlushReport`.

    Thread safety: the owner's lock guards every field.
    """

    __slots__ = ("bells", "ended", "pending", "processing", "sealed")

    def __init__(self) -> None:
        """Start an open tally."""
        self.pending = self.processing = 0
        self.ended: dict[str, int] = {"succeeded": 0, "failed": 0, "cancelled": 0, "expired": 0, "dropped": 0}
        self.sealed = False
        self.bells: list[Bell] = []

    @property
    def left(self) -> int:
        """Items of a sealed tally that haven't ended."""
        return self.pending + self.processing

    def ring_if_complete(self) -> None:
        """Wake the flushes that wait for this tally, if its last item has ended."""
        if self.sealed and not self.left:
            for bell in tuple(self.bells):  # one whose timeout is over may leave meanwhile
                bell.ring()
