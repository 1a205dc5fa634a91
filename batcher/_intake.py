"""Let items in: the slow way of an add, which keeps every rule.

The fast way, in `Batcher.add`, is open while the gate is: nothing to date, nobody waiting, plenty of
room. Where an item has to be dated and there is room for it, `Line.enter_dated` lets it in. Every other add
comes through here: under the lock it looks whether the batcher is open and has room, and if not follows
the overflow policy. Each way an item has entered exactly when it was appended to the inbox.

Producers that wait for room are served in order, by whoever makes room: the flusher moves a waiter's
item in and only then rings it, so that no later add can overtake.
"""

from __future__ import annotations

from concurrent.futures._base import RUNNING
from typing import TYPE_CHECKING, Any

from batcher import _reentry
from batcher._clock import Bell
from batcher._drop import drop_unsent, settle_dropped
from batcher._group import is_tracked
from batcher._line import NEVER, Line, Waiter, inline_mode
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
        if line.post is None and line.state is State.OPEN and not inline_mode.depth:
            self._start()
        try:
            if is_nested:
                return self._admit_nested(entries)
            if len(entries) == 1 and self._admit_at_once(entries):
                return 1, None
            return self._admit_in_turn(entries, block_until)
        except BaseException:
            line.wake()  # Ctrl-C may have come after items entered, and before the flusher was rung
            raise

    def _admit_at_once(self, entries: Sequence[Any]) -> bool:
        """Let one entry in where the rules have nothing to say but that there is room; say whether that was so."""
        line = self._line
        options, queue = line.options, line.queue
        with line.lock:
            is_usual = line.state is State.OPEN and not (line.waiters or inline_mode.depth)
            if not is_usual or options.max_pending_weight is not None or queue.count >= options.max_pending:
                return False
            line.enter_locked(entries)
            if not options.is_tracked:  # else the gate is shut for good
                line.refresh_gate_locked()
        line.wake_if_due()
        return True

    def _admit_in_turn(self, entries: Sequence[Any], block_until: float | None) -> tuple[int, BatcherError | None]:
        """Let items in, as far as there is room each time; wait in between."""
        line = self._line
        position = 0
        while position < len(entries):
            dropped: list[Any] = []
            waiting: list[Waiter] = []
            try:
                with line.lock:
                    error = self._refusal_locked(entries, position)
                    if error is not None:
                        line.wake()  # what there is no room for forces a batch, whatever the delay
                        return position, error
                    entered = self._admit_locked(entries, position, waiting, dropped)
                line.wake_if_due()
                position += entered
                for waiter in waiting:
                    error = self._wait(waiter, block_until, len(entries) - position)
                    if error is not None:
                        return position, error
                    position += 1
            finally:
                for waiter in waiting:
                    if not waiter.is_admitted:
                        self._withdraw(waiter)
                try:
                    self._settle_dropped(dropped)
                except BaseException:  # Ctrl-C; what was told already isn't told again
                    self._settle_dropped(dropped)
                    raise
        return position, None

    def _settle_dropped(self, dropped: list[Any]) -> None:
        if dropped:
            settle_dropped(self._line, dropped, ItemDroppedError, _DROPPED.format(self._line.options.overflow))

    def _admit_nested(self, entries: Sequence[Any]) -> tuple[int, BatcherError | None]:
        """Let items in on top of a call that holds the lock: append and nothing else."""
        line = self._line
        if line.state is not State.OPEN:
            line.counters.refused += len(entries)
            return 0, BatcherClosedError(CLOSED)
        line.enter_locked(entries, is_nested=True)
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
            line.was_full = True
        if error is not None:
            line.counters.refused += rest
        return error

    def _admit_locked(self, entries: Sequence[Any], position: int, waiting: list[Waiter], dropped: list[Any]) -> int:
        """Let in, or drop, as many as may be now; return how many. If the next must wait, one waits for it."""
        line = self._line
        overflow = line.options.overflow
        end = position
        while end < len(entries):  # again where items took no room: they share a place in a handler
            fitting = self._fitting_locked(entries, end)
            if fitting < len(entries) - end and overflow == "block" and not self._may_wait():
                fitting = len(entries) - end
            if not fitting:
                break
            line.enter_locked(entries[end : end + fitting])
            end += fitting
        if end < len(entries):
            line.was_full = True
            if overflow == "drop_newest":
                self._drop_arriving_locked(entries[end:], dropped)
                end = len(entries)
            elif overflow == "drop_oldest":
                if not line.queue.drop_oldest(line.counters, dropped):  # all that counts waits for its next attempt
                    self._drop_arriving_locked(entries[end : end + 1], dropped)
                    end += 1
            else:
                waiter = Waiter(Bell(), (entries[end],), _weight(entries[end]))
                waiting.append(waiter)  # first: whoever is in the line is known here
                line.waiters.append(waiter)
        line.refresh_gate_locked()
        return end - position

    def _may_wait(self) -> bool:
        """Say whether this thread may wait for room. Inline, nobody else would make any: what is too much is sent."""
        return not (self._line.is_own_thread or _reentry.here.waits or inline_mode.depth)

    def _fitting_locked(self, entries: Sequence[Any], position: int) -> int:
        """Return how many of the next entries have room, one after another."""
        line, options, queue = self._line, self._line.options, self._line.queue
        if line.waiters:
            return 0  # first come, first served
        fitting = max(min(options.max_pending - queue.count, len(entries) - position), 0)
        if options.max_pending_weight is None:
            return fitting
        queue.collect()  # what a nested call brought has its weight counted then
        weight = queue.heft
        for offset in range(fitting):
            weight += _weight(entries[position + offset])
            if weight > options.max_pending_weight and (offset or queue.count):  # an empty queue has room for one
                return offset
        return fitting

    def _drop_arriving_locked(self, entries: Sequence[Any], dropped: list[Any]) -> None:
        """Count items as entered and dropped; they never are in the queue."""
        counters = self._line.counters
        for entry in entries:
            if is_tracked(entry):
                entry._state = RUNNING  # claimed, for whoever settles it
            counters.passed += 1
            counters.dropped += 1
            dropped.append(entry)

    def _wait(self, waiter: Waiter, until: float | None, count: int) -> BatcherError | None:
        """Wait until the flusher has let the waiter's item in; return why it hasn't, if so."""
        line = self._line
        line.wake()  # a full queue forces a batch, whatever the delay
        _reentry.here.waits += 1
        try:
            while not waiter.is_admitted and waiter.error is None and line.state is State.OPEN:
                if not line.clock.wait(waiter.bell, until):
                    break
        finally:
            _reentry.here.waits -= 1
        with line.lock:
            if waiter.is_admitted:
                return None
            if waiter.error is not None:
                raise waiter.error
            line.counters.refused += count
            return BatcherClosedError(CLOSED) if line.state is not State.OPEN else QueueFullError(self._full(count))

    def _withdraw(self, waiter: Waiter) -> None:
        """Take back a waiter whose time is over, or whom Ctrl-C took away."""
        line = self._line
        with line.lock:
            if waiter in line.waiters:
                line.waiters.remove(waiter)
            line.refresh_gate_locked()
        line.wake()  # the next one may have room

    def _full(self, count: int) -> str:
        options, queue = self._line.options, self._line.queue
        weight = "" if options.max_pending_weight is None else f", weight {queue.heft} of {options.max_pending_weight}"
        return f"no room for {count} more: {queue.count} of {options.max_pending} items wait{weight}"

    def attend(self) -> None:
        """Do what an append on the fast way made necessary: ring, or end what came in after the close."""
        line = self._line
        with line.lock:
            is_closed = line.state is State.CLOSED
            if not is_closed:
                line.is_lingering = False
                line.ring_at = NEVER  # rung once is enough: the flusher sets it anew when it has looked
        line.wake()
        if is_closed:
            drop_unsent(line, CLOSED)


def _weight(entry: object) -> float:
    return entry._weight if is_tracked(entry) else 0.0
