"""When may the next call start? The rules of a `Throttle` that are about time alone: pure, without a lock or a clock.

A sliding log: the moments of the latest starts are kept, and with them it is exact how many there were in
any second, and when the next one may be. Windows are half open: what started at 1.0 and what starts at 2.0
are never in one second.

A start is planned first and recorded after, because a signal handler may interrupt between the two and
start something itself. A plan remembers the start that it follows; once that isn't the latest any more,
the plan is void and a new one has to be made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from math import inf
from sys import maxsize

_SECOND = 1.0
# How many starts are counted where no limit asks for it.
MOST_COUNTED = 10_000


class Start:
    """One start, planned or recorded.

    Attributes:
        moment: When it is.
        count: Which one it is since the last cooldown ended.
        resume: When the next start may be, if this one is the last of a burst.
        after: The moment's start before it, until this one is recorded.
    """

    __slots__ = ("after", "count", "moment", "resume")

    def __init__(self, moment: float, count: int, resume: float, after: Start | None) -> None:
        self.moment: float = moment
        self.count: int = count
        self.resume: float = resume
        self.after: Start | None = after


class Pace:
    """The log of starts, and what it allows.

    Thread safety: none of its own; the owner's lock guards it. A signal handler may call anything on top
    of anything.
    """

    __slots__ = ("_cooldown", "_limit", "_max_burst", "_window", "last", "starts")

    def __init__(self, max_per_second: float | None, max_burst: int | None, cooldown: float) -> None:
        """Start with an empty log; the options are those of `Throttle`, validated."""
        self._limit, self._window = limit_and_window(max_per_second)
        self._max_burst = max_burst
        self._cooldown = cooldown
        # All that the rules look back at, and no more.
        most = MOST_COUNTED if self._limit is None else self._limit
        self.starts: deque[float] = deque(maxlen=min(max(most, max_burst or 0), maxsize))
        self.last: Start = Start(-inf, 0, -inf, None)

    def next_moment(self) -> float:
        """Return the earliest moment of the next start; may have passed."""
        earliest = self.last.resume
        starts = self.starts
        if self._limit is not None and len(starts) >= self._limit:
            earliest = max(earliest, starts[-self._limit] + self._window)
        return earliest

    def plan(self, now: float) -> Start:
        """Return the start that would be made now."""
        last = self.last
        # Counted anew after each cooldown: what belonged to one burst belongs to no other.
        count = last.count + 1 if last.resume == -inf else 1
        return Start(now, count, now + self._cooldown if self._ends_burst(now, count) else -inf, last)

    def _ends_burst(self, now: float, count: int) -> bool:
        """Say whether a start made now would be the last one of a burst."""
        size = self._max_burst
        if size is None or count < size:
            return False
        return size == 1 or now < self.starts[1 - size] + _SECOND

    def per_second(self, now: float) -> int:
        """Return how many starts there were in the second before `now`."""
        starts = list(self.starts)  # in one go: a signal handler may append meanwhile
        return len(starts) - bisect_right(starts, now - _SECOND)


def limit_and_window(max_per_second: float | None) -> tuple[int | None, float]:
    """Return how many starts any window may hold, and its seconds: below one a second, one in a longer window."""
    if max_per_second is None:
        return None, _SECOND
    if max_per_second < 1:
        return 1, _SECOND / max_per_second
    return int(max_per_second), _SECOND
