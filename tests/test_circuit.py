"""Which circuit follows from which: the rules, without threads and without a clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher._circuit import Circuit, CircuitState, Permit, Rules

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
RULES = Rules(failure_threshold=3, reset_timeout=10.0, half_open_calls=2)


def closed(failures: int = 0) -> Circuit:
    """Return a closed circuit."""
    return Circuit(object(), CLOSED, failures)


def opened(since: float = 100.0) -> Circuit:
    """Return an open circuit."""
    return Circuit(object(), OPEN, 3, since)


def half_open(*deadlines: float, passed: int = 0) -> Circuit:
    """Return a half-open circuit with probes of these deadlines on their way."""
    era = object()
    return Circuit(era, HALF_OPEN, 3, 100.0, tuple(Permit(era, deadline) for deadline in deadlines), passed)


@pytest.mark.parametrize(
    ("before", "now", "after"),
    [
        (closed(2), math.inf, (CLOSED, 2, 0.0)),
        (opened(), 109.9, (OPEN, 3, 100.0)),
        (opened(), 110.0, (HALF_OPEN, 3, 100.0)),
        (half_open(), math.inf, (HALF_OPEN, 3, 100.0)),
        (half_open(120.0, 121.0), 119.9, (HALF_OPEN, 3, 100.0)),
        (half_open(120.0, 121.0), 120.0, (OPEN, 4, 120.0)),
        (half_open(120.0, 121.0), 129.9, (OPEN, 4, 120.0)),
        (half_open(120.0, 121.0), 130.0, (HALF_OPEN, 4, 120.0)),
    ],
    ids=["closed", "open", "reset", "idle", "probing", "overdue", "open-again", "reset-again"],
)
def test_time(before: Circuit, now: float, after: tuple[CircuitState, int, float]) -> None:
    """An open circuit is half-open after the reset timeout; a probe that is overdue opened it at its deadline."""
    found = RULES.at(before, now)

    assert (found.state, found.failures, found.since) == after
    assert (found is before) == (found.state is before.state and found.failures == before.failures)


@pytest.mark.parametrize(
    ("circuit", "now", "seconds"),
    [
        (closed(2), 105.0, 0.0),
        (opened(), 104.0, 6.0),
        (half_open(), 115.0, 0.0),
        (half_open(120.0), 115.0, 0.0),
        (half_open(120.0, 121.0), 115.0, 5.0),
        (half_open(121.0, passed=1), 115.0, 6.0),
    ],
    ids=["closed", "open", "free", "one-free", "taken", "one-passed"],
)
def test_wait(circuit: Circuit, now: float, seconds: float) -> None:
    """Asking again makes sense when the circuit may be half-open, or the oldest of all probes must have reported."""
    assert RULES.wait(circuit, now) == seconds


def test_admission() -> None:
    """A closed circuit gives permits without end and doesn't change; a half-open one counts them, with a deadline."""
    circuit, probing = closed(2), half_open(120.0)

    after, permit = RULES.admit(circuit, 105.0)
    after_probe, probe = RULES.admit(probing, 115.0)

    assert (after, permit.era, permit.deadline) == (circuit, circuit.era, math.inf)
    assert after_probe == probing._replace(probes=(*probing.probes, probe))
    assert (probe.era, probe.deadline) == (probing.era, 125.0)


def test_failures_in_a_row_open() -> None:
    """The circuit opens with the failure that makes the threshold, at that moment, as a new era."""
    circuit = closed()
    permit = Permit(circuit.era)

    second = RULES.failed(RULES.failed(circuit, permit, 1.0), permit, 2.0)
    third = RULES.failed(second, permit, 3.0)

    assert (second.state, second.failures, second.era) == (CLOSED, 2, circuit.era)
    assert (third.state, third.failures, third.since) == (OPEN, 3, 3.0)
    assert third.era is not circuit.era
    assert third.untold == ((CLOSED, OPEN),)


def test_success_ends_a_row_of_failures() -> None:
    """In a closed circuit a success sets the count to zero, and the era goes on."""
    circuit = closed(2)

    after = RULES.succeeded(circuit, Permit(circuit.era), 1.0)

    assert (after.state, after.failures, after.era) == (CLOSED, 0, circuit.era)


def test_circuit_closes_when_all_probes_have_succeeded() -> None:
    """One success of two keeps it half-open, with one place less to give; the second closes it."""
    circuit = half_open(120.0, 121.0)
    first, second = circuit.probes

    after_one = RULES.succeeded(circuit, first, 112.0)
    after_two = RULES.succeeded(after_one, second, 113.0)

    assert (after_one.state, after_one.probes, after_one.passed) == (HALF_OPEN, (second,), 1)
    assert (after_two.state, after_two.failures, after_two.probes) == (CLOSED, 0, ())
    assert after_two.era is not circuit.era


def test_failed_probe_opens() -> None:
    """One failed probe opens the circuit again from that moment, whatever the others do."""
    circuit = half_open(120.0, passed=1)

    after = RULES.failed(circuit, circuit.probes[0], 113.0)

    assert (after.state, after.failures, after.since, after.probes, after.passed) == (OPEN, 4, 113.0, (), 0)


def test_released_probe_leaves_its_place() -> None:
    """A probe without a result makes room for another, and has proved nothing."""
    circuit = half_open(120.0, 121.0)

    after = RULES.released(circuit, circuit.probes[0])

    assert (after.probes, after.passed, RULES.wait(after, 115.0)) == (circuit.probes[1:], 0, 0.0)


def test_changes_are_kept_until_they_are_told() -> None:
    """Two changes that time brought at once are both kept, in order."""
    after = RULES.at(half_open(120.0), 130.0)

    assert after.untold == ((HALF_OPEN, OPEN), (OPEN, HALF_OPEN))


STEPS = st.lists(
    st.one_of(
        st.floats(0.0, 15.0),
        st.tuples(st.sampled_from(["succeeded", "failed", "released"]), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(rules=st.builds(Rules, st.integers(1, 3), st.just(10.0), st.integers(1, 3)), steps=STEPS)
def test_half_open_never_lets_more_through(rules: Rules, steps: list[float | tuple[str, int]]) -> None:
    """Whatever comes in whatever order: no half-open era lets too many through, and only legal changes happen."""
    now, circuit = 0.0, Circuit(object(), OPEN, rules.failure_threshold)
    under_way: list[Permit] = []
    granted: dict[object, int] = {}
    legal = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED), (HALF_OPEN, OPEN)}
    for step in steps:
        circuit = rules.at(circuit, now)
        if isinstance(step, float):
            now += step
            circuit = rules.at(circuit, now)
            if not rules.wait(circuit, now):
                circuit, permit = rules.admit(circuit, now)
                under_way.append(permit)
                granted[permit.era] = granted.get(permit.era, 0) + 1
                assert circuit.state is not OPEN
        elif under_way:
            how, which = step
            permit = under_way.pop(which % len(under_way))
            if permit.era is circuit.era:
                granted[permit.era] -= how == "released"
                circuit = getattr(rules, how)(circuit, permit, now)
        if circuit.state is HALF_OPEN:
            assert granted.get(circuit.era, 0) == len(circuit.probes) + circuit.passed <= rules.half_open_calls
        assert set(circuit.untold) <= legal
        assert all(old[1] is new[0] for old, new in zip(circuit.untold, circuit.untold[1:], strict=False))
