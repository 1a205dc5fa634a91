"""The adaptive policy under simulated traffic: virtual time, fixed seeds, the real decisions."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from tests.traffic import ClosedLoop, OpenLoop

H = 0.01  # seconds that the handler takes, whatever its batch
CAPACITY = 20 / H  # items a second, in batches of 20
SEEDS = range(3)


def constant(_: int) -> float:
    """Return what a handler call costs whose time doesn't depend on its batch."""
    return H


def quadratic(size: int) -> float:
    """Return what a call costs that brings most through in batches of four or five."""
    return 0.001 + 0.00005 * size**2


def percentiles(load: float, **settings: Any) -> tuple[float, float]:
    """Return the median and the 99th percentile at this share of the capacity, medians over the seeds."""
    arrivals = 7000 if load > 0.5 else 1500
    runs = [OpenLoop(load * CAPACITY, arrivals, cost=constant, seed=seed, **settings) for seed in SEEDS]
    return (
        statistics.median(run.percentile(0.50) for run in runs),
        statistics.median(run.percentile(0.99) for run in runs),
    )


@pytest.mark.parametrize("load", [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9])
def test_arrivals_by_chance_are_served_as_by_the_better_fixed_policy(load: float) -> None:
    """Under Poisson arrivals p50 and p99 are no worse than without a window, and with a fixed one, within 15 %."""
    adaptive = percentiles(load)
    at_once = percentiles(load, max_delay=0.0)
    window = percentiles(load, adaptive=False)

    for ours, *others in zip(adaptive, at_once, window, strict=True):
        assert ours <= 1.15 * min(others)


def test_below_capacity_no_size_is_tried() -> None:
    """Where the sizes of the batches vary by themselves, no trial makes a backlog."""
    for load in (0.25, 0.5, 0.75):
        at_once, adaptive = (
            OpenLoop(load * CAPACITY, 5000, cost=constant, seed=0, max_delay=delay) for delay in (0.0, H)
        )
        # As many calls as without any bound to learn, but for a few that waited for somebody.
        assert len(adaptive.sizes) == pytest.approx(len(at_once.sizes), rel=0.02)
        assert adaptive.sizing.learnt == 20


@pytest.mark.parametrize(("callers", "most"), [(8, 8), (64, 64), (64, 60), (64, 100)])
def test_callers_in_a_circle_share_their_batches(callers: int, most: int) -> None:
    """Callers that come back at once make full batches, and the handler waits for hardly anything else."""
    run = ClosedLoop(callers, 2.0, cost=constant, seed=0, max_batch_size=most, max_delay=0.005)

    assert run.rate > 0.85 * min(callers, most) / H


def test_several_slots_take_turns() -> None:
    """With four calls at once the callers part into groups that use the slots, and no bound is learnt from that."""
    one, four = (
        ClosedLoop(64, 2.0, cost=constant, seed=0, max_batch_size=100, max_delay=0.005, slots=slots) for slots in (1, 4)
    )

    assert four.rate > one.rate
    assert four.sizing.learnt == 100


def test_calls_under_way_say_nothing_about_a_trial() -> None:
    """A crowd that four slots serve keeps its bound, though larger calls end while smaller ones are tried."""
    run = OpenLoop(4 * 0.98 * CAPACITY, 20_000, cost=constant, seed=0, slots=4, threads=1000)

    assert run.sizing.learnt == 20


def test_quadratic_handler_is_served_in_small_batches() -> None:
    """Where a call's time grows with the square of its size, most of the best size's throughput is restored."""
    best = ClosedLoop(64, 4.0, cost=quadratic, seed=0, max_batch_size=4, max_delay=0.005, adaptive=False)
    learnt = ClosedLoop(64, 4.0, cost=quadratic, seed=0, max_batch_size=100, max_delay=0.005, warm_up=8.0)

    assert learnt.rate > 0.8 * best.rate
    assert learnt.sizing.learnt <= 8
