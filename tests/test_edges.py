"""The rules of a debounce's window, without a clock or a thread."""

import pytest

from batcher._edges import CLOSED, Rule, Window, arrive, ring

TRAILING = Rule(wait=4.0, max_wait=None, leading=False, trailing=True)
LEADING = TRAILING._replace(leading=True)
BOUNDED = TRAILING._replace(max_wait=6.0)


@pytest.mark.parametrize(("rule", "runs"), [(TRAILING, False), (LEADING, True)], ids=["trailing", "leading"])
def test_first_call_opens_the_window(rule: Rule, runs: bool) -> None:  # noqa: FBT001
    """The timer is set, and the leading edge has come."""
    assert arrive(rule, CLOSED, 10.0) == (Window(last_call=10.0, last_run=10.0, due=14.0), runs)


def test_call_in_the_window_leaves_the_timer_alone() -> None:
    """Only the moment of the last call is noted: the timer is set anew when it rings."""
    window = Window(last_call=10.0, last_run=10.0, due=14.0)

    assert arrive(LEADING, window, 12.0) == (window._replace(last_call=12.0), False)


def test_call_soon_after_a_flush_is_no_edge() -> None:
    """With the window closed early, the pause before the next call still counts from the last one."""
    window = Window(last_call=10.0, last_run=11.0, due=None)

    assert arrive(LEADING, window, 12.0) == (Window(last_call=12.0, last_run=11.0, due=16.0), False)
    assert arrive(LEADING, window, 14.0) == (Window(last_call=14.0, last_run=14.0, due=18.0), True)


def test_timer_that_rings_too_early_is_set_anew() -> None:
    """There was a call in the meantime: the window closes `wait` seconds after that."""
    window = Window(last_call=12.0, last_run=10.0, due=14.0)

    assert ring(TRAILING, window, 14.0) == window._replace(due=16.0)


def test_max_wait_shortens_the_new_setting() -> None:
    """A timer that is set anew rings no later than `max_wait` after the last run."""
    window = Window(last_call=13.0, last_run=10.0, due=14.0)

    assert ring(BOUNDED, window, 14.0) == window._replace(due=16.0)
    assert ring(BOUNDED, window._replace(last_call=15.0, due=16.0), 16.0).due is None


def test_timer_that_rings_in_time_closes_the_window() -> None:
    """The pause is long enough."""
    window = Window(last_call=10.0, last_run=10.0, due=14.0)

    assert ring(TRAILING, window, 14.0) == window._replace(due=None)


def test_call_runs_at_once_when_the_timer_is_late() -> None:
    """Once `max_wait` is over a call doesn't wait for the timer to notice, leading or not."""
    window = Window(last_call=15.0, last_run=10.0, due=16.0)

    assert arrive(BOUNDED, window, 17.0) == (Window(last_call=17.0, last_run=17.0, due=21.0), True)


def test_late_timer_without_max_wait_is_waited_for() -> None:
    """Without `max_wait` the call joins the run that the late timer will begin."""
    window = Window(last_call=10.0, last_run=10.0, due=14.0)

    assert arrive(LEADING, window, 15.0) == (window._replace(last_call=15.0), False)


def test_clock_set_back_is_an_edge() -> None:
    """Nobody knows how long the pause was: a call opens a new window, a timer closes the old one."""
    window = Window(last_call=10.0, last_run=10.0, due=None)

    assert arrive(LEADING, window, 9.0) == (Window(last_call=9.0, last_run=9.0, due=13.0), True)
    assert ring(LEADING, window._replace(due=14.0), 9.0).due is None


def test_rounding_doesnt_keep_the_window_open() -> None:
    """A timer that rings at `last_call + wait` closes the window, whatever the floats make of the difference."""
    rule = TRAILING._replace(wait=0.1)
    window, _ = arrive(rule, CLOSED, 0.7)

    assert window.due is not None
    assert window.due - window.last_call < rule.wait
    assert ring(rule, window, window.due).due is None
