"""BatchSizing: how large a batch pays, learnt from full batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batcher._sizing import BatchSizing

if TYPE_CHECKING:
    from collections.abc import Callable


def run(sizing: BatchSizing, cost: Callable[[int], float], batches: int = 500) -> list[int]:
    """Let a saturated handler of this cost run; return the sizes that it got."""
    sizes = []
    for _ in range(batches):
        sizes.append(sizing.limit)
        sizing.observe(sizing.limit, cost(sizing.limit))
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
    assert sum(size < 100 for size in sizes) < len(sizes) / 5


def test_quick_handlers_are_left_alone() -> None:
    """A handler that takes no time to speak of isn't tried with other sizes."""
    sizes = run(BatchSizing(100), lambda _: 0.0001)

    assert set(sizes) == {100}


def test_partial_batches_tell_nothing() -> None:
    """What comes through depends on the traffic then."""
    sizing = BatchSizing(100)
    for _ in range(100):
        sizing.observe(50, 0.1)
        sizing.observe(100, 0.0)

    assert sizing.limit == sizing.learnt == 100


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
