"""`Throttle`: how often, and how many at once.

Guarantees: never more starts than the limits allow; callers that wait start in the order in which they
came; whoever stops waiting, by a timeout, an error or Ctrl-C, leaves no gap behind. No thread is started:
each caller waits on a bell of its own. The first in the line sleeps until its exact moment, all others,
and the first one while all places are taken, until they are rung.

Three parties come from unusual directions:

- A signal handler or a destructor may interrupt a thread anywhere. On top of a thread that sleeps in the
  line, a call goes into the line right before that thread, which can't go on anyway. On top of a thread
  that holds the lock it starts at once if it may, and is refused if it would have to wait: the others
  couldn't move on. See `_places`.
- In a forked child the lock may be held by a thread that isn't there. The child gets new books.
- Ctrl-C may come while a place is given back: then it is given back once more.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from batcher import _reentry
from batcher._clock import Bell, current_clock
from batcher._heirs import restart_in_child
from batcher._options import check_callable, check_count, check_rate, check_seconds, require_seconds
from batcher._pace import Pace
from batcher._places import Books, Place
from batcher._process import check_process
from batcher._report import Reporter
from batcher._turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from batcher._places import Rings

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleStatus:
    """A snapshot of a throttle.

    Attributes:
        active: Calls that have started and not ended.
        waiting: Callers that wait for their start.
        per_second: Starts in the last second; counted up to 10,000 where `max_per_second` isn't set.
        cooling: Whether nothing starts because of a burst.
    """

    active: int
    waiting: int
    per_second: int
    cooling: bool


class Throttle:
    """Limits how often calls start, and how many run at once.

    A call that may not start yet blocks until it may. Nobody waits longer than the limits demand: starts
    aren't spaced evenly. A start is the moment at which `acquire` returns; a call that fails has started
    all the same, and gives back its place among the concurrent ones.

    A throttle isn't re-entrant: a throttled call inside a throttled call takes a second place. Where
    Ctrl-C may come at any moment, prefer `execute` to a `with` block, which Python can't protect on the
    last step out of it.

    Thread safety: may be used from any thread. A signal handler and a destructor may use it wherever they
    interrupt; on top of a call of this throttle that can't be left they are refused with
    ReentrantCallError where they would have to wait. A forked child begins with nothing active, nobody
    waiting and an empty second.

    Args:
        max_concurrent: Calls at once. None: no limit.
        max_per_second: Starts in any window of one second. Below 1, one start in any 1/value seconds; a
            fraction above 1 counts for nothing, since no part of a call can start. None: no limit.
        max_burst: After so many starts within one second nothing starts for `cooldown` seconds, and
            starts are counted anew after that. None: no limit.
        cooldown: Seconds; goes together with `max_burst`.
        on_throttle: Called once by each call that has to wait, before it waits, with the number of those
            who wait, itself included. It runs in the calling thread; while it runs, others may go first.
            An exception that it raises is logged.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range, there is no limit at all, or `max_burst` and `cooldown`
            don't come together.

    Example:
        >>> throttle = Throttle(max_per_second=100, max_concurrent=8)
        >>> throttle.execute(str.upper, "abc")
        'ABC'
        >>> with throttle:
        ...     throttle.status().active
        1
    """

    def __init__(
        self,
        *,
        max_concurrent: int | None = None,
        max_per_second: float | None = None,
        max_burst: int | None = None,
        cooldown: float = 0.0,
        on_throttle: Callable[[int], object] | None = None,
    ) -> None:
        if max_concurrent is None and max_per_second is None and max_burst is None:
            raise ValueError("a throttle needs at least one of max_concurrent, max_per_second and max_burst, got none")
        self._max_concurrent = None if max_concurrent is None else check_count("max_concurrent", max_concurrent)
        self._max_per_second = check_rate("max_per_second", max_per_second)
        self._max_burst = None if max_burst is None else check_count("max_burst", max_burst)
        self._cooldown = require_seconds("cooldown", cooldown)
        if (self._max_burst is None) is not (self._cooldown == 0):
            raise ValueError(f"max_burst and cooldown need each other, got {max_burst!r} and {cooldown!r}")
        check_callable("on_throttle", on_throttle)
        self._on_throttle = on_throttle
        self._clock = current_clock()
        self._reporter = Reporter("throttle", self._clock)
        self._books = self._new_books(0)
        restart_in_child(self)

    def execute(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` when it may start, and return its result; blocks until then.

        Raises:
            ReentrantCallError: See the class.
            Exception: Whatever `fn` raises.
        """
        place = Place(self._books)
        try:
            self._start(place, None)
            return fn(*args, **kwargs)
        finally:
            try:
                self._end(place)
            except BaseException:
                self._end(place)
                raise

    def acquire(self, timeout: float | None = None) -> bool:
        """Wait for a start, and make it; `release` ends it.

        Args:
            timeout: Seconds to wait at most; 0: not at all. None: as long as it takes.

        Returns:
            Whether it started; False if the timeout came first.

        Raises:
            ReentrantCallError: See the class.
        """
        seconds = check_seconds("timeout", timeout)
        place = Place(self._books)
        try:
            return self._start(place, seconds)
        except BaseException:
            self._end(place)
            raise

    def release(self) -> None:
        """End a call that `acquire` has started; from any thread.

        Raises:
            RuntimeError: Nothing is active.
        """
        check_process()
        place = Place(self._books)
        try:
            place.books.release(place)
        except RuntimeError:
            raise
        except BaseException:
            place.books.release(place)
            raise

    def turn(self, ring: Callable[[], object]) -> Turn:
        """Return what starts a call without ever blocking, for those who have other things to wait for.

        Args:
            ring: Called, as long as the turn waits in the line, whenever it should ask again. Any thread
                may call it, a signal handler and a destructor too, while the throttle's lock is held: it
                may only wake whoever will ask.
        """
        check_callable("ring", ring, optional=False)
        return Turn(self._books, ring, self._ask, self._end, self._clock)

    def __enter__(self) -> Self:
        """Wait for a start, and make it."""
        place = Place(self._books)
        try:
            self._start(place, None)
        except BaseException:
            self._end(place)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the call."""
        self.release()

    def status(self) -> ThrottleStatus:
        """Return a snapshot."""
        check_process()
        books = self._books
        now = self._clock.monotonic()
        with books.lock:
            return ThrottleStatus(
                active=books.active,
                waiting=sum(not place.is_gone for place in books.line),
                per_second=books.pace.per_second(now),
                cooling=books.pace.last.resume > now,
            )

    def __repr__(self) -> str:
        """Show the limits."""
        limits = {
            "max_concurrent": self._max_concurrent,
            "max_per_second": self._max_per_second,
            "max_burst": self._max_burst,
            "cooldown": self._cooldown or None,
        }
        shown = ", ".join(f"{name}={value!r}" for name, value in limits.items() if value is not None)
        return f"{type(self).__name__}({shown})"

    def _start(self, place: Place, timeout: float | None) -> bool:
        """Wait for the start of `place`, and make it; False if the timeout came first."""
        deadline = inf if timeout is None else self._clock.monotonic() + timeout
        bell = Bell()
        while True:
            moment = self._look(place, bell)
            if place.is_started:
                return True
            if self._clock.monotonic() >= deadline:
                self._end(place)
                return False
            if place.bell is None:
                place.books.join(place, bell)
            elif not self._tell(place):
                until = min(moment, deadline)
                _reentry.here.waits += 1
                try:
                    self._clock.wait(bell, None if until == inf else until)
                finally:
                    _reentry.here.waits -= 1

    def _ask(self, place: Place, bell: Rings) -> float | None:
        """Start `place` if it may, else see that it is in the line; return when to ask again."""
        while True:
            moment = self._look(place, bell)
            if place.is_started:
                return None
            if place.bell is None:
                place.books.join(place, bell)  # and look again: what has changed since rang nobody
            elif not self._tell(place):
                return moment

    def _look(self, place: Place, bell: Rings) -> float:
        """Start `place` if it may; if not, return when to look again, unless rung before."""
        check_process()
        if place.books is not self._books:  # this is a forked child: the place was the parent's
            place.books, place.bell, place.is_started = self._books, None, False
        return inf if place.is_started else self._try(place, bell)

    def _try(self, place: Place, bell: Rings) -> float:  # noqa: ARG002 - some stand in the line before they ask
        """Start `place` if it may; if not, return when to look again."""
        books = place.books
        with books.lock:
            while books.is_next_locked(place) and not books.is_full:
                now = self._clock.monotonic()
                moment = books.pace.next_moment()
                if moment > now:
                    return moment
                if books.record_locked(place, now):
                    books.leave_locked(place)
                    break
        return inf

    def _tell(self, place: Place) -> bool:
        """Call the hook, once; say whether that took its time."""
        hook = self._on_throttle
        if hook is None or place.is_told:
            return False
        books = place.books
        place.is_told = True
        try:
            with books.lock:
                place.is_away = True
                waiting = len(books.line)
                books.ring_locked()
            hook(waiting)
        except Exception as error:  # noqa: BLE001 - a bad hook must not stop the call
            self._reporter.report("on_throttle raised", error)
        finally:
            place.is_away = False
        return True

    def _end(self, place: Place) -> None:
        """Give back all that `place` has, unless it is a parent process's."""
        check_process()
        if place.books is self._books:
            place.books.end(place)

    def _new_books(self, inherited: int) -> Books:
        pace = Pace(self._max_per_second, self._max_burst, self._cooldown)
        return Books(self._max_concurrent, pace, inherited)

    def restart(self) -> None:
        """Begin anew in a forked child."""
        old = self._books
        self._reporter = Reporter("throttle", self._clock)
        self._books = self._new_books(old.inherited + old.active)
        for place in old.line:
            if place.owner == threading.get_ident():  # it lies below on this thread's own stack
                assert place.bell is not None  # noqa: S101 - it has one as long as it is in the line
                place.bell.ring()
