"""Turns at a throttle that blocks when it is asked: a thread asks for them."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Throttle
from batcher._clock import Bell
from batcher._errand import Errands
from batcher._turn import Turn
from tests import stage
from tests.forks import FORKS, in_child
from tests.stage import PATIENCE, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._places import Place, Rings
    from batcher.testing import FakeClock

clock = stage.clock


class SlowThrottle(Throttle):
    """Asks elsewhere for its turns, as one that has a server to ask."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.errands: Errands | None = None
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None

    def turn(self, ring: Callable[[], object]) -> Turn:
        """Return a turn that sends errands."""
        self.errands = Errands(lambda: self._books, ring, self._ask, self._end, self._clock)
        return Turn(self._books, ring, self.errands.ask, self.errands.end, self._clock)

    def _try(self, place: Place, bell: Rings) -> float:
        self.before()
        try:
            return super()._try(place, bell)
        finally:
            self.after()


def test_asking_never_blocks(clock: FakeClock) -> None:
    """While the throttle hangs as it is asked, the turn answers: not before it rings."""
    throttle, bell, go = SlowThrottle(max_concurrent=1), Bell(), threading.Event()
    throttle.before = lambda: go.wait(PATIENCE)
    turn = throttle.turn(bell.ring)

    assert [turn.try_start(), turn.try_start()] == [inf, inf]
    go.set()
    assert bell.wait(PATIENCE)
    assert [turn.try_start(), turn.try_start()] == [None, None]
    assert throttle.status().active == 1
    turn.end()
    turn.end()
    assert throttle.status().active == 0


def test_throttle_goes_with_the_last_who_has_it(clock: FakeClock) -> None:
    """Once its turns have ended, a throttle that nobody has any more is freed at once, and so are its connections."""
    throttle, bell = SlowThrottle(max_concurrent=1), Bell()
    turn = throttle.turn(bell.ring)
    turn.try_start()
    assert bell.wait(PATIENCE)
    for thread in threading.enumerate():
        if thread.name == "batcher-throttle-errand":
            thread.join(PATIENCE)
    turn.end()
    throttle.errands = None  # what only this test's throttle keeps
    left = weakref.ref(throttle)
    gc.disable()  # this isn't to be its merit
    try:
        del turn, throttle
        assert left() is None
    finally:
        gc.enable()


def test_turn_waits_in_the_line_and_is_woken_by_time(clock: FakeClock) -> None:
    """Refused, the errand waits in its place in the line until its moment, and rings when it has started."""
    throttle, bell = SlowThrottle(max_per_second=1), Bell()
    throttle.acquire()
    turn = throttle.turn(bell.ring)
    turn.try_start()
    clock.wait_for_sleepers(1)
    behind = elsewhere(throttle.acquire)
    clock.wait_for_sleepers(2)
    assert throttle.status().waiting == 2

    clock.advance(1.0)
    assert bell.wait(PATIENCE)
    assert turn.try_start() is None
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    assert behind.result(PATIENCE)


def test_turn_that_ends_stops_its_errand(clock: FakeClock) -> None:
    """The thread that waits leaves the line, and a later ask sends another one."""
    throttle, bell = SlowThrottle(max_concurrent=1), Bell()
    throttle.acquire()
    turn = throttle.turn(bell.ring)
    turn.try_start()
    clock.wait_for_sleepers(1)

    turn.end()
    assert bell.wait(PATIENCE)
    assert throttle.status().waiting == 0
    throttle.release()
    assert turn.try_start() == inf
    assert bell.wait(PATIENCE)
    assert turn.try_start() is None
    turn.end()
    assert throttle.status().active == 0


def test_turn_that_ends_as_its_errand_starts_gives_the_place_back(clock: FakeClock) -> None:
    """1. The errand has started the call. 2. The turn ends. 3. The errand finds that nobody wants it."""
    throttle, bell = SlowThrottle(max_concurrent=1), Bell()
    turn = throttle.turn(bell.ring)
    throttle.after = turn.end
    turn.try_start()

    assert bell.wait(PATIENCE)
    throttle.after = lambda: None
    assert throttle.status().active == 0
    assert throttle.acquire(0)


def test_error_reaches_whoever_asks(clock: FakeClock) -> None:
    """What the errand came upon is raised by the next ask, once, and nothing is left in the line."""
    throttle, bell = SlowThrottle(max_concurrent=1), Bell()
    throttle.after = lambda: 1 / 0
    turn = throttle.turn(bell.ring)
    turn.try_start()
    assert bell.wait(PATIENCE)

    with pytest.raises(ZeroDivisionError):
        turn.try_start()
    assert (throttle.status().active, throttle.status().waiting) == (0, 0)
    throttle.after = lambda: None
    assert turn.try_start() == inf
    assert bell.wait(PATIENCE)
    assert turn.try_start() is None


def test_where_no_thread_can_be_started_the_turn_asks_itself(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """At exit, say: an answer that may take its time is better than none."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    throttle = SlowThrottle(max_per_second=1)
    throttle.acquire()
    turn = throttle.turn(lambda: None)
    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert turn.try_start() == 1.0
    clock.advance(1.0)
    assert [turn.try_start(), turn.try_start()] == [None, None]
    turn.end()
    assert (throttle.status().active, throttle.status().waiting) == (1, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("fork", FORKS)
def test_errand_of_the_parent_is_the_parents(fork: Callable[[], int], clock: FakeClock) -> None:
    """In a child, where its thread isn't, a turn has taken nothing, and sends an errand of its own."""
    throttle, bell = SlowThrottle(max_concurrent=2), Bell()
    throttle.acquire()
    started, waiting = throttle.turn(bell.ring), throttle.turn(bell.ring)
    started.try_start()
    assert bell.wait(PATIENCE)
    waiting.try_start()
    clock.wait_for_sleepers(1)

    def look() -> tuple[int, int | float | None, int]:
        started.end()
        before = throttle.status().active
        assert waiting.try_start() == inf
        assert bell.wait(PATIENCE)
        return before, waiting.try_start(), throttle.status().active

    assert in_child(look, fork) == (0, None, 1)
    assert throttle.status().active == 2
    waiting.end()
    assert bell.wait(PATIENCE)
    assert throttle.status().waiting == 0
