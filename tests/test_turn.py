"""Turns: starts at a throttle for those who must not block."""

import os
from collections.abc import Callable
from math import inf

import pytest

from batcher import ReentrantCallError, Throttle
from batcher._clock import Bell
from batcher.testing import FakeClock
from tests import stage
from tests.forks import FORKS, in_child
from tests.interruptions import at_each_place, interrupt, press_ctrl_c
from tests.stage import PATIENCE, elsewhere

clock = stage.clock


def nothing() -> None:
    """Be woken and do nothing about it."""


def test_turn_starts_when_it_may(clock: FakeClock) -> None:
    """A turn starts at once if it may, says so however often it is asked, and takes one place until it ends."""
    throttle = Throttle(max_concurrent=1)
    turn = throttle.turn(nothing)

    assert [turn.try_start(), turn.try_start()] == [None, None]
    assert (throttle.status().active, throttle.status().per_second) == (1, 1)
    turn.end()
    turn.end()
    assert throttle.status().active == 0


def test_refused_turn_learns_from_which_moment_on(clock: FakeClock) -> None:
    """A refusal says when a start will be possible, and is asked again then; asking blocks never and counts once."""
    heard: list[int] = []
    throttle = Throttle(max_per_second=0.5, on_throttle=heard.append)
    clock.advance(1.0)
    throttle.acquire()
    turn = throttle.turn(nothing)

    assert [turn.try_start(), turn.try_start()] == [3.0, 3.0]
    assert (throttle.status().waiting, heard) == (1, [1])
    clock.advance(2.0)
    assert turn.try_start() is None
    assert throttle.status().waiting == 0


def test_turn_is_rung_when_a_place_is_given_back(clock: FakeClock) -> None:
    """Where only a place can help, the turn waits to be rung, and it is."""
    throttle = Throttle(max_concurrent=1)
    bell = Bell()
    throttle.acquire()
    turn = throttle.turn(bell.ring)

    assert turn.try_start() == inf
    assert not bell.is_rung
    throttle.release()
    assert bell.is_rung
    assert turn.try_start() is None


def test_turns_and_threads_start_in_the_order_in_which_they_came(clock: FakeClock) -> None:
    """A thread behind a turn doesn't overtake it, nor does a turn overtake a thread or another turn."""
    throttle = Throttle(max_per_second=1)
    throttle.acquire()
    bells = [Bell(), Bell()]
    first, last = (throttle.turn(bell.ring) for bell in bells)
    assert first.try_start() == 1.0
    thread = elsewhere(throttle.acquire)
    clock.wait_for_sleepers(1)
    assert last.try_start() == inf

    clock.advance(1.0)
    assert not throttle.acquire(0)
    assert last.try_start() == inf
    assert first.try_start() is None
    clock.wait_for_sleepers(1)  # the thread is the first now, and knows its moment
    assert not bells[1].is_rung
    clock.advance(1.0)
    assert thread.result(PATIENCE)
    assert bells[1].is_rung
    assert last.try_start() == 3.0


def test_turn_that_ends_in_the_line_lets_the_next_one_look(clock: FakeClock) -> None:
    """A turn that isn't wanted any more leaves the line, and wakes whoever is the first then."""
    throttle = Throttle(max_per_second=1)
    throttle.acquire()
    bell = Bell()
    first, second = throttle.turn(nothing), throttle.turn(bell.ring)
    assert (first.try_start(), second.try_start()) == (1.0, inf)

    first.end()
    assert bell.is_rung
    assert second.try_start() == 1.0
    assert throttle.status().waiting == 1


@pytest.mark.parametrize("running", [0, 1])
def test_turn_that_is_dropped_ends(clock: FakeClock, running: int) -> None:
    """A turn that nobody has any more gives back what it has: its place in the line, or the start."""
    throttle = Throttle(max_concurrent=1)
    for _ in range(running):
        throttle.acquire()
    bell = Bell()
    dropped, behind = throttle.turn(nothing), throttle.turn(bell.ring)
    dropped.try_start()
    assert behind.try_start() == inf

    del dropped
    assert bell.is_rung
    assert (throttle.status().active, throttle.status().waiting) == (running, 1)
    for _ in range(running):
        throttle.release()
    assert behind.try_start() is None


def test_turn_that_ends_on_top_of_a_call_is_passed_over(clock: FakeClock) -> None:
    """Where an interrupted step may be reading the line, the turn stays in it as one that is gone, for the next."""
    throttle = Throttle(max_per_second=1)
    throttle.acquire()
    books, bell = throttle._books, Bell()
    gone, behind = throttle.turn(nothing), throttle.turn(bell.ring)
    gone.try_start()
    behind.try_start()

    with books.lock:
        line = iter(books.line)
        next(line)
        gone.end()
        next(line)  # raises if the line has changed
    assert bell.is_rung
    assert (throttle.status().waiting, len(books.line)) == (1, 2)
    clock.advance(1.0)
    assert behind.try_start() is None
    assert len(books.line) == 0
    assert gone.try_start() == 2.0


def test_own_thread_does_not_pass_its_turn(clock: FakeClock) -> None:
    """A call of the thread whose turn waits is no call on top of it: it comes after it."""
    throttle = Throttle(max_per_second=1)
    throttle.acquire()
    turn, other = throttle.turn(nothing), throttle.turn(nothing)
    turn.try_start()
    clock.advance(1.0)

    assert not throttle.acquire(0)
    assert other.try_start() == inf
    assert turn.try_start() is None


def test_place_that_is_given_back_as_a_turn_joins_the_line(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given back between a turn's look and its standing in the line rings nobody: the turn looks again."""
    throttle = Throttle(max_concurrent=1)
    throttle.acquire()
    real = throttle._books.join

    def join(*arguments: object) -> None:
        elsewhere(throttle.release).result(PATIENCE)
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(throttle._books), "join", lambda books, *arguments: join(*arguments))
    assert throttle.turn(nothing).try_start() is None


def test_turn_on_top_of_a_call_that_holds_the_lock_is_refused() -> None:
    """Where a turn would stand in a line that an interrupted call is changing, it is told so."""
    throttle = Throttle(max_concurrent=1)
    throttle.acquire()

    with throttle._books.lock, pytest.raises(ReentrantCallError):
        throttle.turn(nothing).try_start()
    assert throttle.status().waiting == 0


@pytest.mark.parametrize("running", [0, 1])
def test_ctrl_c_leaves_a_turn_that_can_end(running: int) -> None:
    """Wherever Ctrl-C hits a turn that asks, its end gives back all that it has taken by then."""

    def run(place: int) -> str | None:
        throttle = Throttle(max_concurrent=1, on_throttle=lambda waiting: None)
        for _ in range(running):
            throttle.acquire()
        turn = throttle.turn(nothing)
        where = interrupt(turn.try_start, press_ctrl_c, place)
        turn.end()
        assert not throttle._books.is_nested
        assert (throttle.status().active, throttle.status().waiting) == (running, 0)
        return where

    assert at_each_place(run) > 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("fork", FORKS)
def test_turns_of_the_parent_are_the_parents(fork: Callable[[], int], clock: FakeClock) -> None:
    """In a child a turn has taken nothing, wherever it stood: its end gives nothing back, and it may start anew."""
    rung: list[int] = []
    throttle = Throttle(max_concurrent=2)
    started, waiting = throttle.turn(nothing), throttle.turn(lambda: rung.append(1))
    assert started.try_start() is None
    throttle.acquire()
    assert waiting.try_start() == inf

    def look() -> tuple[int, int, float | None, float | None, int]:
        started.end()
        before = throttle.status().active
        answers = waiting.try_start(), started.try_start()
        return len(rung), before, *answers, throttle.status().active

    assert in_child(look, fork) == (0, 0, None, None, 2)
    assert throttle.status().active == 2


def test_ring_is_checked() -> None:
    """What can't be called can't ring."""
    wrong: object = 3
    with pytest.raises(TypeError, match="ring must be callable, got 3"):
        Throttle(max_concurrent=1).turn(wrong)  # type: ignore[arg-type]
