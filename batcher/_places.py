"""The line of a `Throttle`: who waits for a start, who has one, and who is next.

What changes here changes under one lock, in short steps. Nobody is handed a start: whoever comes or wakes
looks for itself, and whoever leaves the line or gives a place back rings the next one.

A signal handler or a destructor may interrupt a thread that holds the lock and call in from there. The
lock is re-entrant, so nothing blocks; such a call may start and end, but never changes the line. So
everything under the lock is written to survive that a place is taken or given back between any two of
its calls. And because Ctrl-C may come anywhere, what a call has taken is noted on its `Place` in the very
step that takes it, and giving back can be repeated.
"""

from __future__ import annotations

import threading
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Protocol

from batcher import _reentry
from batcher.errors import ReentrantCallError

if TYPE_CHECKING:
    from batcher._pace import Pace


class Rings(Protocol):
    """How whoever waits in the line is woken."""

    def ring(self) -> object:
        """Have it look again. Called under the lock, from anywhere: it may only wake."""
        ...


class Place:
    """One call's way: it may wait in the line, starts, and ends.

    Attributes:
        books: Where it is noted; a fork replaces them.
        bell: What wakes it; None while it isn't in the line.
        is_started: Whether it counts as active.
        is_away: Whether its `on_throttle` runs: until it is back, others pass.
        is_gone: Whether it has ended where the line couldn't be changed: whoever leaves next takes it out.
        is_told: Whether its `on_throttle` was called.
        is_claimed: Whether it stands for a call that `release` ends.
        not_before: When it may look again, if somebody else has said so.
        owner: Whose it is: the thread that waits, or nobody else's object if no thread does.
    """

    __slots__ = ("bell", "books", "is_away", "is_claimed", "is_gone", "is_started", "is_told", "not_before", "owner")

    def __init__(self, books: Books) -> None:
        self.books: Books = books
        self.bell: Rings | None = None
        self.is_started: bool = False
        self.is_away: bool = False
        self.is_gone: bool = False
        self.is_told: bool = False
        self.is_claimed: bool = False
        self.not_before: float = -inf
        self.owner: object = threading.get_ident()


class Books:
    """What one throttle knows in one process."""

    __slots__ = ("_max_concurrent", "active", "inherited", "line", "lock", "pace")

    def __init__(self, max_concurrent: int | None, pace: Pace, inherited: int) -> None:
        """Begin with nothing active; `inherited` calls of a parent process may end here."""
        self._max_concurrent = max_concurrent
        # Guards: everything below. Re-entrant for signal handlers and destructors.
        self.lock: threading.RLock = threading.RLock()
        self.pace: Pace = pace
        self.active: int = 0
        self.inherited: int = inherited
        self.line: deque[Place] = deque()  # of those who wait, in order

    @property
    def is_nested(self) -> bool:
        """Whether this thread was interrupted while it held the lock."""
        # Private, but what `threading.Condition` relies on, and there is no other way to ask.
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]  # noqa: SLF001

    @property
    def is_full(self) -> bool:
        """Whether a start has to wait for an end."""
        return self._max_concurrent is not None and self.active >= self._max_concurrent

    def is_next_locked(self, place: Place) -> bool:
        """Say whether nobody stands before `place`, in the line or about to enter it."""
        for other in self.line:
            # Another place of the same thread is one that this call interrupted.
            if other is place or other.owner == place.owner:
                return True
            if not other.is_away:
                return False
        return True

    def record_locked(self, place: Place, now: float) -> bool:
        """Start the call of `place` now; False if an interruption has changed what was allowed."""
        pace = self.pace
        start = pace.plan(now)
        if self.is_full or pace.next_moment() > now:
            return False
        # From the comparison to the append nothing is called, so no signal comes in between.
        if pace.last is start.after:
            start.after = None
            self.active += 1
            place.is_started = True
            pace.last = start
            pace.starts.append(now)
        return place.is_started

    def join(self, place: Place, bell: Rings) -> None:
        """Put `place` into the line, to be woken by `bell`: at its end, or before the wait that it interrupts.

        Raises:
            ReentrantCallError: The interrupted call holds the lock.
        """
        if self.is_nested:
            raise ReentrantCallError(
                "a call on top of an interrupted call of the same throttle can't wait for its start"
            )
        place.bell = bell
        with self.lock:
            mine = None
            if _reentry.here.waits:
                mine = next((other for other in self.line if other.owner == place.owner), None)
            if mine is None:
                self.line.append(place)
            else:
                self.line.insert(self.line.index(mine), place)

    def leave_locked(self, place: Place) -> None:
        """Take `place` out of the line, if it is there, and have the next one look."""
        if place.bell is not None:
            for other in [other for other in self.line if other is place or other.is_gone]:
                self.line.remove(other)
            self.ring_locked()
            place.bell = None

    def end(self, place: Place) -> None:
        """Give back all that `place` has; may be repeated."""
        if place.bell is not None and self.is_nested:
            place.is_gone = place.is_away = True  # the interrupted step may be reading the line
            self.ring_locked()
            return
        with self.lock:
            self.leave_locked(place)
            if place.is_started:
                # Rung first: nobody can look before the lock is released, and an interruption in between
                # leaves a place that is still to be given back, not a sleeper that nobody rings.
                if self._max_concurrent is not None:
                    self.ring_locked()
                place.is_started = False
                self.active -= 1

    def release(self, place: Place) -> None:
        """End a call that isn't known by its place; `place` stands for it, and this may be repeated with it.

        Raises:
            RuntimeError: Nothing is active.
        """
        with self.lock:
            if not place.is_claimed:
                # One straight line, which no signal interrupts, up to the error.
                if self.active:
                    place.is_started = True
                elif self.inherited:
                    self.inherited -= 1
                else:
                    raise RuntimeError("release() without acquire(): nothing is active")
                place.is_claimed = True
            self.end(place)

    def ring_locked(self) -> None:
        """Wake the first in the line."""
        for place in self.line:
            if not place.is_away:
                assert place.bell is not None  # noqa: S101 - it has one as long as it is in the line
                place.bell.ring()
                return
