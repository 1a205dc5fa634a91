"""The timer's thread: one for all debounces of a clock, idle at no cost, and gone with the last of them."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from batcher import BatcherClosedError, Debounce, _timer
from batcher._clock import current_clock
from batcher._timer import _SLACK, Timer, _Agenda, timer_of
from batcher._workers import DaemonPool
from batcher.testing import FakeClock
from tests import debouncing, stage
from tests.debouncing import PATIENCE, Player

if TYPE_CHECKING:
    from collections.abc import Callable

clock, collected = stage.clock, debouncing.collected


class Timed:
    """Something to look at, which says when it wants to be looked at next."""

    def __init__(self, *moments: float | None) -> None:
        self._moments = list(moments)
        self.looks = 0
        self.looked = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []

    def look(self) -> float | None:
        """Note the look."""
        self.looks += 1
        self.threads.append(threading.current_thread())
        self.looked.release()
        return self._moments.pop(0) if self._moments else None

    def wait(self) -> None:
        """Block until there was one more look."""
        assert self.looked.acquire(timeout=PATIENCE)


def timer_threads() -> list[threading.Thread]:
    """Return the timers' threads of this process."""
    return [thread for thread in threading.enumerate() if thread.name == "batcher-debounce-timer"]


# The agenda


def test_agenda_gives_who_is_due() -> None:
    """The earliest comes first, nobody before the time, and each once."""
    agenda, early, late = _Agenda(), Timed(), Timed()
    agenda.put(late, 2.0)
    agenda.put(early, 1.0)

    assert agenda.first() == 1.0
    assert agenda.take(0.5) is None
    assert [agenda.take(2.0) for _ in range(3)] == [early, late, None]
    assert agenda.first() is None


def test_agenda_knows_one_moment_of_each() -> None:
    """A new moment takes the place of the old, be it later or earlier; None takes it away."""
    agenda, one, other = _Agenda(), Timed(), Timed()
    agenda.put(one, 1.0)
    agenda.put(one, 3.0)
    agenda.put(other, 4.0)
    agenda.put(other, 2.0)

    assert [agenda.take(3.0), agenda.take(3.0), agenda.take(9.0)] == [other, one, None]
    agenda.put(one, 1.0)
    agenda.put(one, None)
    assert agenda.first() is None


def test_agenda_doesnt_grow() -> None:
    """Moments that were replaced are thrown away, and keep nobody alive."""
    agenda, kept = _Agenda(), Timed()
    agenda.put(kept, 1.0)
    for number in range(10 * _SLACK):
        agenda.put(kept, 1000.0 - number)
    fleeting = Timed()
    agenda.put(fleeting, 2000.0)
    agenda.put(fleeting, None)
    gone = weakref.ref(fleeting)
    del fleeting

    assert gone() is None
    assert len(agenda._heap) <= 2 + _SLACK
    assert agenda.take(2000.0) is kept
    assert agenda.take(9000.0) is None


# One thread


def test_no_thread_before_the_first_call(clock: FakeClock) -> None:
    """Making a debounce, and looking at it, starts nothing."""
    before = timer_threads()
    player = Player(clock, 4)
    player.debounce.status()
    player.debounce.flush()
    player.debounce.cancel()

    assert timer_threads() == before
    player.call()
    assert len(timer_threads()) == len(before) + 1


def test_one_thread_serves_all(clock: FakeClock) -> None:
    """All debounces of a clock share a timer and its daemon thread; another clock has another one."""
    players = [Player(clock, 4) for _ in range(5)]
    with FakeClock() as other:
        stranger = Player(other, 4)
    for player in players:
        player.call()
    (thread,) = timer_threads()

    assert thread.daemon
    assert stranger.debounce._bursts.timer is not players[0].debounce._bursts.timer
    stranger.call()
    assert len(timer_threads()) == 2


def test_first_calls_at_once_start_one_thread(clock: FakeClock) -> None:
    """Of several threads that find no timer's thread, one starts it."""
    timer = timer_of(clock)
    starters = threading.Barrier(4)

    def ensure() -> None:
        starters.wait(PATIENCE)
        timer.ensure()

    for future in [stage.elsewhere(ensure) for _ in range(4)]:
        future.result(PATIENCE)

    assert len(timer_threads()) == 1


def test_other_thread_starts_it_in_between(clock: FakeClock) -> None:
    """Who looked and found no thread looks once more before starting one."""
    timer = timer_of(clock)
    timer.ensure()

    timer._start()

    assert len(timer_threads()) == 1


def test_idle_thread_waits_without_a_limit(clock: FakeClock) -> None:
    """With nothing to come the thread isn't woken by time at all; with something, at its moment."""
    player = Player(clock, 4)
    player.call()
    clock.wait_for_sleepers(1)
    assert [sleeper.deadline for sleeper in clock._sleepers] == [4.0]

    player.move_to(4)

    assert [sleeper.deadline for sleeper in clock._sleepers] == [None]


def test_calls_in_a_window_dont_wake_the_thread(clock: FakeClock) -> None:
    """Only the call that opens a window rings; the thread finds out about the rest when its time has come."""
    player = Player(clock, 4)
    player.call()
    clock.wait_for_sleepers(1)
    (sleeper,) = clock._sleepers
    clock.advance(1)
    for _ in range(100):
        player.call()

    assert clock._sleepers == [sleeper]
    assert not sleeper.bell.is_rung
    player.move_to(5)
    assert player.runs == [(5.0, 100)]


def test_thread_ends_with_the_last_debounce(clock: FakeClock) -> None:
    """When the last debounce is collected, the timer is, and its thread and the workers end by themselves."""
    gc.disable()
    try:
        player = Player(clock, 4)
        player.call()
        player.move_to(4)
        timer = weakref.ref(player.debounce._bursts.timer)
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("batcher-debounce-")]
        assert len(threads) == 2
        del player
        for thread in threads:
            thread.join(PATIENCE)
        assert [thread.is_alive() for thread in threads] == [False, False]
        assert timer() is None
    finally:
        gc.enable()


def test_thread_is_kept_between_bursts(clock: FakeClock) -> None:
    """The next burst finds the same thread."""
    player = Player(clock, 4)
    player.call()
    player.move_to(4)
    before = timer_threads()
    player.call()
    player.move_to(9)

    assert timer_threads() == before
    assert len(player.runs) == 2


def test_looks_as_asked(clock: FakeClock) -> None:
    """Whoever asks is looked at soon, and again at the moment that it names, on the timer's thread."""
    timer, timed = timer_of(clock), Timed(2.0, None)
    timer.ensure()
    timer.attend(timed)
    timed.wait()
    clock.wait_for_sleepers(1)
    clock.advance(1)
    clock.advance(1)
    timed.wait()

    assert timed.looks == 2
    assert {thread.name for thread in timed.threads} == {"batcher-debounce-timer"}


def test_attended_to_while_falling_asleep(clock: FakeClock) -> None:
    """Whoever asks between the last look and the sleep is looked at before the thread sleeps."""
    timer, late = timer_of(clock), Timed()

    class Prompting(Timed):
        """Asks for another one as it is looked at: after the inbox was gone through, before the sleep."""

        def look(self) -> float | None:
            super().look()
            timer._inbox.append(late)  # an `attend` that got no further yet
            return None

    prompting = Prompting()
    timer.ensure()
    timer.attend(prompting)
    prompting.wait()

    late.wait()
    clock.wait_for_sleepers(1)


# What can't be started


class NoThreads:
    """Stands for `threading` where no thread can be started, the first few times."""

    def __init__(self, error: type[BaseException], times: int) -> None:
        self._error = error  # no object of it: that would keep the frames that it went through, and what they know
        self._left = times
        self.begun: list[threading.Thread] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)

    def Thread(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - as the real one
        """Make a thread that refuses to start."""
        thread = threading.Thread(*args, **kwargs)
        if self._left:
            self._left -= 1
            thread.start = self._refuse  # type: ignore[method-assign]
        return thread

    def _refuse(self) -> None:
        raise self._error("can't start new thread")


def test_no_thread_can_be_started(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is refused, and nothing was accepted; the next one tries again."""
    monkeypatch.setattr(_timer, "threading", NoThreads(RuntimeError, 1))
    player = Player(clock, 4)

    with pytest.raises(BatcherClosedError, match="no thread can be started"):
        player.call()

    assert player.debounce.status().calls == 0
    player.call()
    player.move_to(4)
    assert player.runs == [(4.0, 0)]


def test_ctrl_c_while_the_thread_starts(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say then whether the thread comes up, so another is started: the timer has one in any case."""
    monkeypatch.setattr(_timer, "threading", NoThreads(KeyboardInterrupt, 1))
    player = Player(clock, 4)

    with pytest.raises(KeyboardInterrupt):
        player.call()

    assert len(timer_threads()) == 1
    player.call()
    player.move_to(4)
    assert player.runs == [(4.0, 0)]


def test_of_two_threads_one_serves(clock: FakeClock) -> None:
    """If both come up, the second one finds its place taken and ends."""
    timer = timer_of(clock)
    timer.ensure()
    assert timer._post is not None
    clock.wait_for_sleepers(1)
    (thread,) = timer_threads()

    timer._launch(timer._post)

    for other in timer_threads():
        if other is not thread:
            other.join(PATIENCE)
    assert timer_threads() == [thread]


def test_ctrl_c_before_the_start(clock: FakeClock) -> None:
    """Before anything was begun there is nothing to repair."""
    timer = timer_of(clock)

    class Interrupting:
        """A lock that never comes to be held."""

        def __enter__(self) -> None:
            raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None:
            """Be left."""

    real, timer._lock = timer._lock, Interrupting()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        timer.ensure()
    timer._lock = real

    assert timer_threads() == []
    timer.ensure()
    assert len(timer_threads()) == 1


def test_no_worker_can_be_started(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """At exit, say: then the timer's thread itself runs what has come to its edge."""

    def refuse(self: DaemonPool, job: Callable[[], object]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(DaemonPool, "start", refuse)
    debounce = Debounce(threading.current_thread, 4)
    debounce()

    thread = debounce.flush().result(PATIENCE)

    assert thread is not None
    assert thread.name == "batcher-debounce-timer"


# Which timer


def test_timer_of_a_clock_that_another_thread_makes(clock: FakeClock) -> None:
    """Whoever makes a timer second takes the first one's."""
    winner = Timer(clock)
    kept = weakref.ref(winner)

    class Register(dict[int, Any]):
        """Has an entry made by another thread right before its own."""

        def setdefault(self, key: int, default: Any = None) -> Any:
            self.setdefault = super().setdefault  # type: ignore[method-assign, assignment]
            self[key] = kept
            return super().setdefault(key, default)

    register = Register()
    real, _timer._timers = _timer._timers, register
    try:
        assert timer_of(clock) is winner
    finally:
        _timer._timers = real


def test_timer_that_was_just_collected(clock: FakeClock) -> None:
    """A reference that is dead, and not yet thrown away, is no timer."""
    dead = weakref.ref(Timer(clock))
    real, _timer._timers = _timer._timers, {id(clock): dead}
    try:
        timer = timer_of(clock)
        assert timer_of(clock) is timer
        _timer._forget(id(clock), dead)  # late: the place is another's by now
        assert timer_of(clock) is timer
    finally:
        _timer._timers = real


def test_collected_timers_are_forgotten() -> None:
    """A clock that nobody uses any more leaves nothing behind."""
    clock = FakeClock()
    timer = timer_of(clock)
    key = id(clock)
    assert key in _timer._timers
    del timer
    assert key not in _timer._timers
    assert current_clock() is not clock
