"""One thread that keeps the time of all debounces of a clock, and workers that run what it starts.

The thread runs no user's code: it looks at who is due, hands the work to a daemon thread, and sleeps until
the next one is due. So a slow function delays neither it nor another debounce. It starts with the first
call, and is kept from then on, because starting one for each burst would cost more than all the rest.
Idle it waits without a limit and knows its timer only by a weak reference; when the last debounce of the
clock is collected, the timer is too, and the thread and the idle workers end.

Everything that concerns the thread comes through `attend`: one append to an inbox, and a ring. That takes
no lock, so that signal handlers and destructors may call it wherever they interrupt. The heap belongs to
the thread alone.

A fork: the child has the timer without its thread, and starts one of its own with the next call.
"""

from __future__ import annotations

import contextvars
import functools
import heapq
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Protocol

from batcher import _reentry
from batcher._clock import Bell
from batcher._lifecycle import hook_exit
from batcher._workers import DaemonPool
from batcher.errors import BatcherClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._clock import Clock

_SLACK = 64


class Timed(Protocol):
    """What a timer looks after."""

    def look(self) -> float | None:
        """Do what is due, on the timer's thread; return when to look again, None: not before it asks."""
        ...


class _Post:
    """Where one timer thread is reached; `held` keeps the timer alive while something is to come."""

    __slots__ = ("bell", "held", "vacancies")

    def __init__(self) -> None:
        self.bell = Bell()
        self.held: Timer | None = None
        self.vacancies = [1]  # the thread that takes it serves; see `Timer._start`


class _Agenda:
    """Who is to be looked at when. Each has one moment; a new one takes the place of the old."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._moments: dict[Timed, tuple[float, int]] = {}
        self._entries: dict[int, Timed] = {}  # what else is in the heap was replaced, and keeps nobody alive
        self._number = 0

    def put(self, timed: Timed, when: float | None) -> None:
        """Set, or with None unset, the moment of `timed`."""
        moment = self._moments.pop(timed, None)
        if moment is not None:
            del self._entries[moment[1]]
        if when is not None:
            self._number += 1
            self._moments[timed] = (when, self._number)
            self._entries[self._number] = timed
            heapq.heappush(self._heap, (when, self._number))
        if len(self._heap) > 2 * len(self._moments) + _SLACK:
            self._heap = sorted(self._moments.values())

    def first(self) -> float | None:
        """Return the earliest moment."""
        while self._heap and self._heap[0][1] not in self._entries:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> Timed | None:
        """Return one whose moment has come, and unset that; None: there is none."""
        first = self.first()
        if first is None or first > now:
            return None
        timed = self._entries[self._heap[0][1]]
        self.put(timed, None)
        return timed


class Timer:
    """Keeps the time for all debounces of one clock.

    Thread safety: `ensure` and `attend` may be called from any thread, from signal handlers and from
    destructors; `run` by the timer's own thread, in `Timed.look`.
    """

    def __init__(self, clock: Clock) -> None:
        """Keep time by `clock`; no thread is started yet."""
        self.clock = clock
        self._set_up()

    def _set_up(self) -> None:
        """Be without a thread, and have nothing to do."""
        # Guards: _post. Re-entrant for signal handlers.
        self._lock = threading.RLock()
        self._post: _Post | None = None
        self._inbox: deque[Timed] = deque()
        self._agenda = _Agenda()
        self._workers = DaemonPool("debounce", _reentry.new_token())
        self.is_closed = False

    def restart(self) -> None:
        """Start anew: this is a forked child, and what is due is due in the parent."""
        self._workers.forget()  # a function that has forked returns to one of them: it ends there
        self._set_up()

    def ensure(self) -> None:
        """See that there is a thread.

        Raises:
            BatcherClosedError: The interpreter is shutting down, or no thread can be started.
        """
        if self.is_closed:
            raise BatcherClosedError("the interpreter is shutting down: nothing would run this call")
        if self._post is None:
            hook_exit()
            _reentry.follow_patches()
            self._start()

    def attend(self, timed: Timed) -> None:
        """Have the thread look at `timed` soon."""
        self._inbox.append(timed)
        post = self._post
        if post is not None:
            post.held = self
            post.bell.ring()

    def run(self, work: Callable[[], None]) -> None:
        """Run `work`, which must raise nothing, on a thread of its own."""
        try:
            self._workers.start(work)
        except RuntimeError:
            work()  # no thread can be started, at exit for one; this one is there

    def _start(self) -> None:
        """Start the thread, once."""
        post = _Post()
        try:
            with self._lock:
                if self._post is not None:
                    return
                self._post = post
            self._launch(post)
        except RuntimeError as error:
            self._post = None
            raise BatcherClosedError("no thread can be started; is the interpreter shutting down?") from error
        except BaseException:
            # Ctrl-C, and nobody can say whether the thread will come up; others may count on it already.
            if self._post is post:
                self._launch(post)
            raise

    def _launch(self, post: _Post) -> None:
        bell = post.bell
        home = weakref.ref(self, lambda _: bell.ring())  # collected while idle: the thread looks, and ends
        # Daemon: whoever waits for a run waits for its future; delivery at exit is seen to by `_debounce`.
        # Nobody joins it. Its loop ends when the timer was collected. After a fork it isn't there: the
        # child starts another. The context is empty on every Python version, as is that of the workers.
        threading.Thread(
            target=contextvars.Context().run,
            args=(_serve, post, home, self._workers),
            name="batcher-debounce-timer",
            daemon=True,
        ).start()

    def turn(self, post: _Post) -> tuple[bool, float | None]:
        """Look at all that are due; return whether that was all for now, and until when to sleep."""
        for _ in range(len(self._inbox)):
            self._look_at(self._inbox.popleft())
        now = self.clock.monotonic()
        while (timed := self._agenda.take(now)) is not None:
            self._look_at(timed)
        until = self._agenda.first()
        if until is None:
            post.held = None
        if self._inbox:  # attended to just before that
            post.held = self
            return False, None
        return True, until

    def _look_at(self, timed: Timed) -> None:
        self._agenda.put(timed, timed.look())


def _serve(post: _Post, home: weakref.ref[Timer], workers: DaemonPool) -> None:
    """Be a timer's thread: turn after turn, until the timer is gone."""
    try:
        post.vacancies.pop()
    except IndexError:
        return  # another thread was faster
    while (timer := post.held or home()) is not None:
        is_rest, until = timer.turn(post)
        clock = timer.clock
        del timer  # asleep and idle, the thread keeps no timer alive
        if is_rest:
            clock.wait(post.bell, until)
    workers.shutdown(wait=False)


# Every timer that is alive, by the id of its clock, which it keeps. Changed by single dict operations only.
_timers: dict[int, weakref.ref[Timer]] = {}


def timer_of(clock: Clock) -> Timer:
    """Return the timer of `clock`, the same one for all."""
    key = id(clock)
    while True:
        found = _timers.get(key)
        timer = None if found is None else found()
        if timer is not None:
            return timer
        if found is not None:
            _forget(key, found)  # just collected
        timer = Timer(clock)
        ref = weakref.ref(timer, functools.partial(_forget, key))
        if _timers.setdefault(key, ref) is ref:
            return timer


def _forget(key: int, ref: weakref.ref[Timer]) -> None:
    """Let go of a collected timer's place, unless that is another's by now.

    Should another come in between all the same, its clock gets two timers, which does no harm.
    """
    if _timers.get(key) is ref:
        _timers.pop(key, None)


def _all() -> list[Timer]:
    return [timer for ref in list(_timers.values()) if (timer := ref()) is not None]


def close_all() -> None:
    """Have every timer refuse what is new: the interpreter is shutting down."""
    for timer in _all():
        timer.is_closed = True


def restart_all() -> None:
    """In a forked child: have every timer start anew. Whoever was to be looked at may be gone after it."""
    for timer in _all():
        timer.restart()
