"""The rules of time of a throttle, without a clock: sliding windows, bursts, cooldowns."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher._pace import MOST_COUNTED, Pace, limit_and_window
from batcher._places import Books, Place

# Multiples of a power of two: sums of them are exact, and so is what is expected of them.
TICK = 1 / 64
gaps = st.lists(st.integers(0, 90).map(lambda ticks: ticks * TICK), min_size=1, max_size=120)


def start(pace: Pace, now: float) -> None:
    """Record a start, as a throttle does."""
    books = Books(None, pace, 0)
    assert books.record_locked(Place(books), now), f"no start at {now}"


def greedy_starts(pace: Pace, pauses: list[float]) -> list[tuple[float, float]]:
    """Ask for a start after each pause, make it as early as allowed, and return when each was asked and made."""
    now = 0.0
    made = []
    for pause in pauses:
        asked = now + pause
        now = max(asked, pace.next_moment())
        start(pace, now)
        made.append((asked, now))
    return made


@given(pauses=gaps, limit=st.integers(1, 7))
def test_any_second_holds_the_limit_and_nobody_waits_longer(pauses: list[float], limit: int) -> None:
    """No window of one second holds more than the limit, and each wait ends when a start leaves a full window."""
    made = greedy_starts(Pace(limit, None, 0.0), pauses)

    moments = [moment for _, moment in made]
    for number, (asked, moment) in enumerate(made):
        if moment > asked:
            assert moment == moments[number - limit] + 1.0
        if number >= limit:
            assert moment >= moments[number - limit] + 1.0


@given(
    pauses=st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=120),
    limit=st.integers(1, 7),
    origin=st.floats(0, 1e9),
)
def test_rounding_lets_nothing_slip_in(pauses: list[float], limit: int, origin: float) -> None:
    """Whatever the digits of the clock, the start after a full window comes no earlier than its end."""
    moments = [moment for _, moment in greedy_starts(Pace(limit, None, 0.0), [origin, *pauses])]

    assert all(later >= earlier + 1.0 for earlier, later in zip(moments, moments[limit:], strict=False))


@given(
    pauses=gaps,
    size=st.integers(1, 5),
    cooldown=st.integers(1, 150).map(lambda ticks: ticks * TICK),
    limit=st.none() | st.integers(1, 7),
)
def test_burst_is_followed_by_its_cooldown(pauses: list[float], size: int, cooldown: float, limit: int | None) -> None:
    """A burst is followed by its cooldown, its starts count for no other burst, and nothing else is waited for."""
    made = greedy_starts(Pace(limit, size, cooldown), pauses)

    resume = -inf
    current: list[float] = []  # since the last cooldown
    moments: list[float] = []
    for asked, moment in made:
        window = moments[-limit] + 1.0 if limit is not None and len(moments) >= limit else -inf
        assert moment == max(asked, resume, window)
        moments.append(moment)
        current.append(moment)
        if sum(moment < earlier + 1.0 for earlier in current) >= size:
            resume = moment + cooldown
            current = []


def test_second_is_half_open() -> None:
    """A start exactly one second after another is in no second with it."""
    pace = Pace(1, None, 0.0)
    start(pace, 5.0)

    assert pace.next_moment() == 6.0
    start(pace, 6.0)
    assert pace.per_second(6.0) == 1


def test_starts_that_are_spread_make_no_burst() -> None:
    """As many starts as a burst has, but over a whole second, are none."""
    pace = Pace(None, 2, 3.0)
    start(pace, 0.0)
    start(pace, 1.0)

    assert pace.next_moment() == -inf
    start(pace, 1.5)
    assert pace.next_moment() == 4.5


@pytest.mark.parametrize(
    ("value", "limit", "window"),
    [(None, None, 1.0), (0.5, 1, 2.0), (0.1, 1, 10.0), (1, 1, 1.0), (2.9, 2, 1.0), (100, 100, 1.0)],
)
def test_limit_and_window(value: float | None, limit: int | None, window: float) -> None:
    """Below one a second it is one in a longer window; a fraction above one can't start."""
    assert limit_and_window(value) == (limit, window)


def test_slow_pace() -> None:
    """Half a start a second is one start in any two seconds."""
    assert greedy_starts(Pace(0.5, None, 0.0), [0.0] * 3) == [(0.0, 0.0), (0.0, 2.0), (2.0, 4.0)]


def test_log_is_bounded() -> None:
    """No more starts are kept than the limits look back at, or than are counted where there is none."""
    assert Pace(3, None, 0.0).starts.maxlen == 3
    assert Pace(3, 8, 1.0).starts.maxlen == 8
    assert Pace(None, 8, 1.0).starts.maxlen == MOST_COUNTED
    assert Pace(1e300, 10**300, 1.0).next_moment() == -inf


def test_recorded_starts_are_no_chain() -> None:
    """A recorded start doesn't keep those before it alive."""
    pace = Pace(1000, None, 0.0)
    start(pace, 0.0)
    start(pace, 0.0)

    assert pace.last.after is None
