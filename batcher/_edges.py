"""When does a debounced function run? lodash's `debounce`, as pure decisions from (state, time).

A call opens a *window*. The window closes when no call has come for `wait` seconds, or, with `max_wait`,
that long after the last run at the latest. Its leading edge is the call that opens it, its trailing edge
the moment at which it closes; `leading` and `trailing` say at which of them the function runs.

The algorithm is that of lodash 4.17 (https://github.com/lodash/lodash, `debounce.js`), step for step: the
timer isn't moved by each call, but set anew when it rings too early. Moments are compared, where lodash
compares durations: with floats `(a + w) - a` may be less than `w`, and a timer that rings at `a + w` would
then ring again and again. And who closes a window early also stops its timer, which lodash leaves running
after a flush.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Rule(NamedTuple):
    """What a debounce was made with; seconds."""

    wait: float
    max_wait: float | None
    leading: bool
    trailing: bool


class Window(NamedTuple):
    """Where a debounce is between its edges.

    Attributes:
        last_call: When the last call came; an eternity ago, if none came since the beginning, or a cancel.
        last_run: When the function ran last, or the window opened, whichever came later.
        due: When the timer rings; None: the window is closed.
    """

    last_call: float = -math.inf
    last_run: float = 0.0
    due: float | None = None


CLOSED = Window()


def arrive(rule: Rule, window: Window, now: float) -> tuple[Window, bool]:
    """Return the window after a call, and whether the function runs at once, with that call's arguments."""
    is_edge = _is_edge(rule, window, now)
    if is_edge and window.due is None:
        return Window(now, now, now + rule.wait), rule.leading
    if is_edge and rule.max_wait is not None:
        return Window(now, now, now + rule.wait), True  # `max_wait` is over, and the timer is late
    due = now + rule.wait if window.due is None else window.due
    return Window(now, window.last_run, due), False


def ring(rule: Rule, window: Window, now: float) -> Window:
    """Return the window after its timer has rung: closed, or with the timer set anew."""
    if _is_edge(rule, window, now):
        return window._replace(due=None)
    due = window.last_call + rule.wait
    if rule.max_wait is not None:
        due = min(due, window.last_run + rule.max_wait)
    return window._replace(due=due)


def _is_edge(rule: Rule, window: Window, now: float) -> bool:
    """Say whether a call begins something new, and whether a window that is open closes."""
    if now >= window.last_call + rule.wait or now < window.last_call:
        return True  # the latter where the clock was set back: who knows how long ago that was
    return rule.max_wait is not None and now >= window.last_run + rule.max_wait
