"""BatchSizing: how large a batch pays, learnt from how long they take."""

from __future__ import annotations

from itertools import count, cycle, islice
from typing import TYPE_CHECKING

import pytest

from batcher._sizing import BatchSizing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def run(
    sizing: BatchSizing, cost: Callable[[int], float], batches: int = 500, waiting: Iterable[int] = (10**6,)
) -> list[int]:
    """Let a handler of this cost run while so many items wait, by turns; return the sizes that it got."""
    sizes = []
    for most in islice(cycle(waiting), batches):
        size = min(sizing.limit, most)
        sizes.append(size)
        observe(sizing, size, cost(size))
    return sizes


_calls = count()


def observe(sizing: BatchSizing, size: int, seconds: float) -> None:
    """Tell of a handler call that began after all before it had ended."""
    started = next(_calls) * 1e6
    sizing.observe(size, started, started + seconds)


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
    assert sum(size < 100 for size in sizes) <= 5


def test_a_trial_costs_one_small_batch() -> None:
    """Where half the size brings no more through, the first batch of it shows that; each trial comes twice as late."""
    sizes = run(BatchSizing(20), lambda _: 0.01, 600)

    assert [place for place, size in enumerate(sizes) if size == 10] == [16, 49, 114, 243, 500]
    assert set(sizes) == {10, 20}


def test_sizes_that_vary_make_trials_needless() -> None:
    """Batches that were small by themselves, and did no better, show what a trial would."""
    waiting = (*range(11, 30), 12)
    sizes = run(BatchSizing(20), lambda _: 0.01, 1000, waiting)

    assert sizes == [min(20, most) for most in islice(cycle(waiting), 1000)]


def test_few_small_batches_show_nothing() -> None:
    """Two batches that happened to be small don't stand for what is usual."""
    sizing = BatchSizing(20)
    run(sizing, lambda _: 0.01, 16, [*[20] * 14, 5, 5])

    assert sizing.limit == 10


def test_small_batches_that_did_better_call_for_a_trial() -> None:
    """Sizes that vary hide no handler whose time grows faster than its batch."""
    sizing = BatchSizing(40)
    run(sizing, lambda size: 0.001 + 0.001 * size**2, 100, range(20, 60))

    assert sizing.learnt <= 10


def test_a_trial_needs_several_batches_that_do_better() -> None:
    """One quick call lowers no bound: the next one, which is as slow as usual, ends the trial."""
    sizing = BatchSizing(20)
    run(sizing, lambda _: 0.01, 16)
    assert sizing.limit == 10
    observe(sizing, 10, 0.001)
    observe(sizing, 10, 0.001)
    assert sizing.limit == 10
    observe(sizing, 10, 0.01)

    assert (sizing.limit, sizing.learnt) == (20, 20)


def test_what_was_under_way_is_no_part_of_a_trial() -> None:
    """A call in another slot that began before the trial, with more items, tells nothing about it."""
    sizing = BatchSizing(20)
    for number in range(16):
        sizing.observe(20, number, number + 1.0)
    assert sizing.limit == 10
    for _ in range(5):
        sizing.observe(20, 15.5, 16.1)
    assert (sizing.limit, sizing.learnt) == (10, 20)
    for _ in range(3):
        sizing.observe(10, 16.0, 16.1)

    assert sizing.learnt == 10


def test_the_median_call_says_whether_a_trial_is_worthwhile() -> None:
    """A quick handler that is slow for once, since others keep the interpreter, is left alone."""
    sizing = BatchSizing(20)
    run(sizing, lambda _: 0.0001, 15)
    observe(sizing, 20, 0.1)

    assert sizing.limit == 20


def test_quick_handlers_are_left_alone() -> None:
    """A handler that takes no time to speak of isn't tried with other sizes."""
    sizes = run(BatchSizing(100), lambda _: 0.0001)

    assert set(sizes) == {100}


def test_sizes_that_occur_are_learnt_from() -> None:
    """A crowd that never fills a batch is served in smaller ones, where those bring more through."""
    sizing = BatchSizing(100)
    run(sizing, lambda size: 0.01 + 0.001 * size**2, waiting=[64])

    assert sizing.learnt <= 8


def test_a_trial_that_cannot_be_filled_is_given_up() -> None:
    """Where fewer wait than the trial would take, it tells nothing."""
    sizing = BatchSizing(100)
    for _ in range(16):
        observe(sizing, 60, 0.1)
    assert sizing.limit == 30
    observe(sizing, 14, 0.001)

    assert (sizing.limit, sizing.learnt) == (100, 100)


def test_batches_that_take_no_time_tell_nothing() -> None:
    """A clock that stands still gives no rate."""
    assert set(run(BatchSizing(100), lambda _: 0.0)) == {100}


def test_a_trial_that_is_half_filled_tells() -> None:
    """A crowd needn't fill a trial to the last place: its rate says how the size does."""
    sizing = BatchSizing(20)
    run(sizing, lambda size: 0.001 * size**2, 16)
    run(sizing, lambda size: 0.001 * size**2, 3, waiting=[6])

    assert sizing.learnt == 10


def test_a_new_bound_is_the_measure_of_the_next() -> None:
    """Half of a learnt bound is compared with that, and not with what was usual before."""
    seconds = {20: 20.0, 10: 5.0, 5: 3.0}
    sizing = BatchSizing(20)
    run(sizing, lambda _: 20.0, 100)
    sizes = run(sizing, seconds.__getitem__, 200)
    came_down = sizes.index(10)

    # The trial, the pause, a trial that grows, one batch after it, and half of what is usual by now.
    assert sizes[came_down : came_down + 22] == [10] * 19 + [20, 10, 5]
    assert sizing.learnt == 10


def test_a_new_bound_stays_for_a_while() -> None:
    """After the bound has come down, larger batches aren't tried before it is known how the new ones do."""
    sizing = BatchSizing(20)
    sizes = run(sizing, lambda size: 0.001 * size**2, 16 + 3 + 16)

    assert sizes[19:] == [10] * 16
    assert sizing.limit == 20


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
