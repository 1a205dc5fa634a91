"""Regroup: whom a batch waits for, and until when, as a pure decision."""

from __future__ import annotations

import math

import pytest

from batcher._regroup import Caller, Regroup

H = 0.010  # seconds that the handler takes


def veterans(regroup: Regroup, *ways_back: float, at: float = 0.0) -> list[Caller]:
    """Return callers that the batcher has timed, and that all wait again."""
    callers = [Caller() for _ in ways_back]
    regroup.release(callers, at, H)
    for caller, seconds in zip(callers, ways_back, strict=True):
        regroup.come_back(caller, at + seconds)
    return callers


def leave_at(regroup: Regroup, now: float, *, blocked: int, processing: int = 0, slots: int = 1) -> float:
    """Ask when the batch leaves."""
    return regroup.leave_at(now, blocked=blocked, processing=processing, slots=slots)


def test_strangers_are_not_waited_for() -> None:
    """Who was never released before is expected by nobody: a lone caller pays nothing."""
    regroup = Regroup()
    assert leave_at(regroup, 1.0, blocked=1) == 1.0
    regroup.release([Caller()], 2.0, H)

    assert leave_at(regroup, 2.0, blocked=1) == 2.0
    assert regroup.longest_wait == 0.0


def test_released_callers_are_waited_for() -> None:
    """Callers with a short way back are waited for, until the last is there."""
    regroup = Regroup()
    callers = veterans(regroup, 0.001, 0.002, 0.003)
    regroup.release(callers, 1.0, H)

    assert regroup.expected == 3
    assert leave_at(regroup, 1.0, blocked=1) == pytest.approx(1.0 + 0.003 * 1.25 + 0.0002)
    for number, caller in enumerate(callers, 1):
        assert leave_at(regroup, 1.001, blocked=number) > 1.001
        regroup.come_back(caller, 1.001)
    assert leave_at(regroup, 1.001, blocked=3) == 1.001


def test_the_overdue_are_waited_for_no_longer() -> None:
    """Who doesn't come back in time is expected no more, and coming late takes nobody else's place."""
    regroup = Regroup()
    late, punctual = veterans(regroup, 0.001, 0.001)
    regroup.release([late, punctual], 1.0, H)
    regroup.come_back(punctual, 1.001)
    over = regroup.until
    assert leave_at(regroup, over, blocked=1) == over
    assert regroup.expected == 0

    regroup.release([punctual], 2.0, H)
    regroup.come_back(late, 2.0)
    assert regroup.expected == 1


def test_a_long_way_back_is_not_waited_for() -> None:
    """Whoever takes about as long as the handler, or longer, isn't worth the wait."""
    regroup = Regroup()
    quick, slow = veterans(regroup, 0.001, 0.007)
    regroup.release([quick, slow], 1.0, H)

    assert regroup.expected == 1


def test_ways_back_are_learnt_anew() -> None:
    """A caller that takes long once isn't expected any more, until it has come back soon for some time."""
    regroup = Regroup()
    [caller] = veterans(regroup, 0.001)
    regroup.release([caller], 1.0, H)
    assert regroup.expected == 1
    regroup.come_back(caller, 1.009)
    regroup.release([caller], 2.0, H)
    assert regroup.expected == 0
    regroup.come_back(caller, 2.001)
    regroup.release([caller], 3.0, H)
    assert regroup.expected == 0
    for round_ in range(3, 7):
        regroup.come_back(caller, round_ + 0.001)
        regroup.release([caller], round_ + 1.0, H)

    assert regroup.expected == 1


def test_a_share_is_enough_for_one_of_several_slots() -> None:
    """Where two handler calls may run at once, half of the callers are a batch."""
    regroup = Regroup()
    callers = veterans(regroup, *[0.001] * 8)
    regroup.release(callers, 1.0, H)
    for caller in callers[:3]:
        regroup.come_back(caller, 1.001)

    assert leave_at(regroup, 1.001, blocked=3, slots=2) > 1.001
    assert leave_at(regroup, 1.001, blocked=3, processing=8, slots=4) > 1.001
    regroup.come_back(callers[3], 1.001)
    assert leave_at(regroup, 1.001, blocked=4, slots=2) == 1.001
    assert leave_at(regroup, 1.001, blocked=4, slots=1) > 1.001


def test_a_crowd_is_held_for_max_delay_at_most() -> None:
    """What was overdue already waits for the expected, but no longer than `max_delay` from the release."""
    regroup = Regroup()
    callers = veterans(regroup, 0.004, 0.004)
    regroup.release(callers, 1.0, H)

    assert regroup.hold_until(0.001, leaves_at=regroup.until) == 1.001
    assert regroup.hold_until(1.0, leaves_at=regroup.until) == regroup.until
    assert regroup.hold_until(0.0, leaves_at=regroup.until) == 1.0


def test_a_clock_that_stands_still_makes_nobody_wait() -> None:
    """Where no time passes, there is none to wait for."""
    regroup = Regroup()
    caller = Caller()
    for _ in range(3):
        regroup.release([caller], 5.0, 0.0)
        regroup.come_back(caller, 5.0)
    regroup.release([caller], 5.0, 0.0)

    assert leave_at(regroup, 5.0, blocked=1) == 5.0


def test_a_release_of_nobody_in_between_changes_no_deadline() -> None:
    """A batch without callers releases nobody, and those who are expected stay expected."""
    regroup = Regroup()
    callers = veterans(regroup, 0.002)
    regroup.release(callers, 1.0, H)
    until = regroup.until
    regroup.release([], 1.0005, H)

    assert (regroup.expected, regroup.until) == (1, until)
    assert until < math.inf


def test_refused_batches_say_nothing_of_the_handler() -> None:
    """A batch that an open circuit refused took no time: callers are as near as they were before."""
    regroup = Regroup()
    callers = veterans(regroup, 0.005)
    for moment in range(1, 10):
        regroup.release(callers, float(moment), 0.0)
        regroup.come_back(callers[0], moment + 0.005)
    regroup.release(callers, 10.0, H)

    assert regroup.expected == 1
