"""BatchSizing: how large a batch pays, learnt from full batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batcher._sizing import BatchSizing

if TYPE_CHECKING:
    from collections.abc import Callable


def run(sizing: BatchSizing, cost: Callable[[int], float], batches: int = 500, waiting: int = 10**6) -> list[int]:
    """Let a handler of this cost run while so many items wait; return the sizes that it got."""
    sizes = []
    for _ in range(batches):
        size = min(sizing.limit, waiting)
        sizes.append(size)
        sizing.observe(size, cost(size))
    return sizes


@pytest.mark.parametrize(
    ("cost", "best"),
    [
        (lambda size: 0.01 + 0.0001 * size**2, 10),
        (lambda size: 0.05 + 0.00001 * size**2, 70),
        (lambda size: 0.001 + 0.01 * size**3, 1),
    ],
    ids=["quadratic", "quadratic, large", "cubic"],
)
def test_superlinear_costs_shrink_the_batch(cost: Callable[[int], float], best: int) -> None:
    """The bound comes to within a factor of two of where most items go through, and most of that throughput."""
    sizing = BatchSizing(1000)
    run(sizing, cost)

    assert best / 2 <= sizing.learnt <= best * 2
    assert sizing.learnt / cost(sizing.learnt) > 0.75 * best / cost(best)


@pytest.mark.parametrize(
    "cost",
    [lambda size: 0.01, lambda size: 0.002 + 0.0001 * size, lambda size: 0.0001 * size],
    ids=["constant", "linear with overhead", "linear"],
)
def test_other_costs_keep_the_batch(cost: Callable[[int], float]) -> None:
    """Where smaller batches bring no more through, the bound stays; trials are few."""
    sizing = BatchSizing(100)
    sizes = run(sizing, cost)

    assert sizing.learnt == 100
    assert sum(size < 100 for size in sizes) <= 25


def test_quick_handlers_are_left_alone() -> None:
    """A handler that takes no time to speak of isn't tried with other sizes."""
    sizes = run(BatchSizing(100), lambda _: 0.0001)

    assert set(sizes) == {100}


def test_sizes_that_occur_are_learnt_from() -> None:
    """A crowd that never fills a batch is served in smaller ones, where those bring more through."""
    sizing = BatchSizing(100)
    run(sizing, lambda size: 0.01 + 0.001 * size**2, waiting=64)

    assert sizing.learnt <= 8


def test_a_trial_that_cannot_be_filled_is_given_up() -> None:
    """Where fewer wait than the trial would take, it tells nothing."""
    sizing = BatchSizing(100)
    for _ in range(16):
        sizing.observe(60, 0.1)
    assert sizing.limit == 30
    sizing.observe(7, 0.1)

    assert (sizing.limit, sizing.learnt) == (100, 100)


def test_batches_that_take_no_time_tell_nothing() -> None:
    """A clock that stands still gives no rate."""
    assert set(run(BatchSizing(100), lambda _: 0.0)) == {100}


def test_the_batch_grows_again() -> None:
    """When the handler's cost has become constant, the bound goes back to where it was."""
    sizing = BatchSizing(64)
    run(sizing, lambda size: 0.01 + 0.001 * size**2)
    assert sizing.learnt < 16
    run(sizing, lambda _: 0.01, 2000)

    assert sizing.learnt == 64


def test_a_batch_of_one_can_not_shrink() -> None:
    """With `max_batch_size=1` there is nothing to try."""
    assert set(run(BatchSizing(1), lambda _: 0.01)) == {1}
