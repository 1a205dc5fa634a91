"""Let items in: the slow way of an add, which keeps every rule.

The fast way, in `Batcher.add`, is open while the gate is: nothing to date, nobody waiting, plenty of
room. Every other add comes through here: under the lock it looks whether the batcher is open and has
room, and if not follows the overflow policy. Either way an item has entered exactly when it was appended
to the inbox.

Producers that wait for room are served in order, by whoever makes room: the flusher moves a waiter's
item in and only then rings it, so that no later add can overtake.
"""

from __future__ import annotations

from concurrent.futures._base import RUNNING
from typing import TYPE_CHECKING, Any

from batcher import _reentry
from batcher._clock import Bell
from batcher._group import is_tracked
from batcher._line import NEVER, Line, Waiter, inline_mode
from batcher._settle import drop_unsent, settle_dropped
from batcher._status import State
from batcher.errors import BatcherClosedError, BatcherError, ItemDroppedError, QueueFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLOSED = "the batcher is closed"
_DROPPED = "the queue was full and the overflow policy is {!r}"


class Intake:
    """The slow way into one line.

    Thread safety: as `Batcher.add`.
    """

    def __init__(self, line: Line, start: Callable[[], None]) -> None:
        """Let items into `line`; `start` starts its flusher."""
        self._line = line
        self._start = start

    def admit(self, entries: Sequence[Any], block_until: float | None = None) -> tuple[int, BatcherError | None]:
        """Let `entries` in, in order, by the overflow policy; return how many entered, and why not all.

        Args:
            entries: Futures, tickets or bare items; their keys and weights are set.
            block_until: When waiting for room ends; None: never.

        Raises:
            BatcherClosedError: No thread can be started; nothing entered.
        """
        line = self._line
        is_nested = line.is_nested
        if line.post is None and not inline_mode.depth:
            self._start()
        try:
            if is_nested:
                return self._admit_nested(entries)
            return self._admit_in_turn(entries, block_until)
        except BaseException:
            line.wake()  # Ctrl-C may have come after items entered, and before the flusher was rung
            raise

    def _admit_in_turn(self, entries: Sequence[Any], block_until: float | None) -> tuple[int, BatcherError | None]:
        """Let items in, as far as there is room each time; wait in between."""
        line = self._line
        may_wait = not (line.is_own_thread or _reentry.is_waiting())
        position = 0
        while position < len(entries):
            dropped: list[Any] = []
            waiter: Waiter | None = None
            try:
                with line.lock:
                    error = self._refusal_locked(entries, position)
                    if error is not None:
                        return position, error
                    position, waiter = self._admit_locked(entries, position, may_wait=may_wait, dropped=dropped)
            finally:
                if dropped:
                    settle_dropped(line, dropped, ItemDroppedError(_DROPPED.format(line.options.overflow)))
            line.wake_if_due()
            if waiter is not None:
                self._wait(waiter, block_until)
                if not waiter.is_admitted and line.state is State.OPEN:
                    line.counters.refused += len(entries) - position
                    return position, QueueFullError(self._full(len(entries) - position))
                position += waiter.is_admitted
        return position, None

    def _admit_nested(self, entries: Sequence[Any]) -> tuple[int, BatcherError | None]:
        """Let items in on top of a call that holds the lock: append and nothing else."""
        line = self._line
        if line.state is not State.OPEN:
            line.counters.refused += len(entries)
            return 0, BatcherClosedError(CLOSED)
        now = line.clock.monotonic()
        for entry in entries:
            if is_tracked(entry):
                entry._since = now
        line.inbox.extend(entries)
        line.wake()
        return len(entries), None

    def _refusal_locked(self, entries: Sequence[Any], position: int) -> BatcherError | None:
        """Return why none of the rest may enter, and count them as refused; None if they may."""
        line = self._line
        rest = len(entries) - position
        error: BatcherError | None = None
        if line.state is not State.OPEN:
            error = BatcherClosedError(CLOSED)
        elif line.options.overflow == "raise" and self._fitting_locked(entries, position) < rest:
            error = QueueFullError(self._full(rest))
        if error is not None:
            line.counters.refused += rest
        return error

    def _admit_locked(
        self, entries: Sequence[Any], position: int, *, may_wait: bool, dropped: list[Any]
    ) -> tuple[int, Waiter | None]:
        """Let in what may enter; return how far it came, and the wait that is needed to go on."""
        line = self._line
        overflow = line.options.overflow
        rest = len(entries) - position
        fitting = self._fitting_locked(entries, position)
        if overflow == "block" and not may_wait:
            fitting = rest
        self._enter_locked(entries[position : position + fitting])
        position += fitting
        waiter = None
        if fitting < rest:
            if overflow == "drop_newest":
                self._drop_arriving_locked(entries[position:], dropped)
                position = len(entries)
            elif overflow == "drop_oldest":
                line.queue.drop_oldest(line.counters, dropped)
            else:
                entry = entries[position]
                waiter = Waiter(entry, _weight(entry), Bell())
                line.waiters.append(waiter)
        line.refresh_gate_locked()
        return position, waiter

    def _fitting_locked(self, entries: Sequence[Any], position: int) -> int:
        """Return how many of the next entries have room, one after another."""
        line, options = self._line, self._line.options
        if line.waiters:
            return 0  # first come, first served
        fitting = min(options.max_pending - line.queue.count, len(entries) - position)
        if options.max_pending_weight is None:
            return max(fitting, 0)
        weight = line.queue.weight
        for offset in range(fitting):
            weight += _weight(entries[position + offset])
            if weight > options.max_pending_weight:
                return offset
        return max(fitting, 0)

    def _enter_locked(self, entries: Sequence[Any]) -> None:
        line, queue = self._line, self._line.queue
        if not entries:
            return
        now = line.clock.monotonic()
        queue.date_next(now, len(entries))
        for entry in entries:
            if is_tracked(entry):
                entry._since = now
                if line.options.overflow == "drop_oldest":
                    queue.remember_order(entry)
        queue.weight += sum(map(_weight, entries))
        queue.inbox.extend(entries)

    def _drop_arriving_locked(self, entries: Sequence[Any], dropped: list[Any]) -> None:
        """Count items as entered and dropped; they never are in the queue."""
        counters = self._line.counters
        for entry in entries:
            if is_tracked(entry):
                entry._state = RUNNING  # claimed, for whoever settles it
            counters.passed += 1
            counters.dropped += 1
            dropped.append(entry)

    def _wait(self, waiter: Waiter, until: float | None) -> None:
        """Wait until the flusher has let the waiter's item in, the batcher closes, or the time is over."""
        line = self._line
        line.wake()  # a full queue forces a batch, whatever the delay
        try:
            with _reentry.waiting():
                while not waiter.is_admitted and line.state is State.OPEN:
                    if not line.clock.wait(waiter.bell, until):
                        break
        finally:
            with line.lock:
                if not waiter.is_admitted:
                    line.waiters.remove(waiter)
                    line.refresh_gate_locked()

    def _full(self, count: int) -> str:
        options, queue = self._line.options, self._line.queue
        weight = (
            "" if options.max_pending_weight is None else f", weight {queue.weight} of {options.max_pending_weight}"
        )
        return f"no room for {count} more: {queue.count} of {options.max_pending} items wait{weight}"

    def attend(self) -> None:
        """Do what an append on the fast way made necessary: ring, or end what came in after the close."""
        line = self._line
        with line.lock:
            is_closed = line.state is State.CLOSED
            if not is_closed:
                line.ring_at = NEVER  # rung once is enough: the flusher sets it anew when it has looked
        line.wake()
        if is_closed:
            drop_unsent(line, CLOSED)


def admit_waiters_locked(line: Line) -> list[Bell]:
    """Let waiting producers' items in while there is room; return whom to ring. The caller holds the lock."""
    options, queue = line.options, line.queue
    bells = []
    while line.waiters and queue.count < options.max_pending:
        waiter = line.waiters[0]
        if options.max_pending_weight is not None and queue.weight + waiter.weight > options.max_pending_weight:
            break
        now = line.clock.monotonic()
        if is_tracked(waiter.entry):
            waiter.entry._since = now
        queue.date_next(now, 1)
        queue.weight += waiter.weight
        queue.inbox.append(waiter.entry)
        waiter.is_admitted = True
        line.waiters.popleft()
        bells.append(waiter.bell)
    return bells


def _weight(entry: object) -> float:
    return entry._weight if is_tracked(entry) else 0.0
