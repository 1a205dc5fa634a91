"""When a batch leaves early: as soon as waiting can gather nothing more.

Callers that block on their results come in circles: a batch releases them together, and a moment later
they are back with their next items. Who leaves at once splits them into groups that then wait for each
other's handler calls; who waits a fixed time lets everybody wait who is alone. So each caller's way back
is timed. A batch that releases callers whose way back was short, measured by the handler's own time,
expects them; the next one leaves when all who are expected are back, or are overdue. Callers who come at
any other time are expected by nobody and wait for nobody.

Where several handler calls may run at once, a batch also leaves with its share of the callers: groups
that take turns use the slots better than one group that does everything together.

(The idea of waiting for as many callers as were released is "regrouping"; databases do the like in group
commit, and Nagle's algorithm in TCP waits while an answer is under way: RFC 896.)

Thread safety: none of its own; the owner's lock guards all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHARE = 0.6  # of the handler's time: who takes longer to come back isn't waited for
_LATENESS = 1.25  # times the longest way back that is expected, and then ...
_SLACK = 0.0002  # ... so many seconds more: who isn't back by then is overdue
_MEMORY = 0.2  # the weight of the latest handler call in the average
_TRUST = 0.3  # the weight of the latest way back, where it was shorter than before
_NEVER = 0  # an era that expects nobody


class Caller:
    """One thread, as one batcher knows it."""

    __slots__ = ("era", "freed_at", "way_back")

    def __init__(self) -> None:
        """Know nothing yet."""
        self.freed_at: float | None = None  # when a batch released it; None: it is back
        self.way_back = math.inf  # seconds from its release to its next wait, of late
        self.era = _NEVER  # the era in which it is expected


class Regroup:
    """Who is expected back, and until when."""

    __slots__ = ("_era", "_handler_seconds", "_released_at", "expected", "longest_wait", "until")

    def __init__(self) -> None:
        """Expect nobody."""
        self.expected = 0
        self.longest_wait = 0.0  # seconds that the callers of the last batch are waited for
        self.until = -math.inf  # from then on nobody is waited for
        self._era = _NEVER + 1
        self._released_at = -math.inf
        self._handler_seconds = 0.0  # of late; 0 before the first call

    def release(self, callers: Iterable[Caller], now: float, seconds: float) -> None:
        """Note that a handler call of so many `seconds` has ended, and whom it released."""
        if seconds > 0:  # else there was no call: the batch was refused
            before = self._handler_seconds
            self._handler_seconds = before + _MEMORY * (seconds - before) if before else seconds
        average = self._handler_seconds
        longest = 0.0
        self._released_at = now
        for caller in callers:
            caller.freed_at = now
            if caller.way_back < _SHARE * average:
                caller.era = self._era
                self.expected += 1
                longest = max(longest, caller.way_back)
        self.longest_wait = _LATENESS * longest + _SLACK if longest else 0.0
        self.until = max(self.until, now + self.longest_wait)

    def come_back(self, caller: Caller, now: float) -> None:
        """Note that a caller waits again."""
        if caller.freed_at is not None:
            way_back = now - caller.freed_at
            caller.freed_at = None
            if caller.way_back == math.inf or way_back > caller.way_back:
                caller.way_back = way_back  # who once takes long is soon distrusted, and ...
            else:
                caller.way_back += _TRUST * (way_back - caller.way_back)  # ... only slowly trusted again
        if caller.era == self._era:
            self.expected -= 1
        caller.era = _NEVER

    def forget_overdue(self, now: float) -> None:
        """Expect nobody any more when the time is over."""
        if self.expected and now >= self.until:
            self.expected = 0
            self._era += 1

    def leave_at(self, now: float, *, blocked: int, processing: int, slots: int) -> float:
        """Return from when on a batch with blocked callers may leave; the arguments are those of `enough`."""
        self.forget_overdue(now)
        if not self.expected or blocked >= self.enough(blocked=blocked, processing=processing, slots=slots):
            return now
        return self.until

    def hold_until(self, max_delay: float, *, leaves_at: float) -> float:
        """Return until when a crowd may wait for those who are expected, though its delay is over.

        It is, where the handler was busy for longer than that. The batcher itself makes nobody wait for
        longer than `max_delay`.
        """
        return min(leaves_at, self._released_at + max_delay)

    def enough(self, *, blocked: int, processing: int, slots: int) -> int:
        """Return with how many blocked callers a batch leaves, whoever else is expected: its share of all callers.

        Args:
            blocked: How many callers are blocked on items that wait.
            processing: How many items are in handlers.
            slots: How many handler calls may run at once.
        """
        return -((blocked + processing + self.expected) // -slots)
