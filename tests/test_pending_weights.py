"""Weight is a trigger and a cap: the pending queue counts what waits, and no batch weighs too much."""

import pytest

from batcher._pending import PendingQueue
from tests.queue_play import (
    cut,
    drop_oldest,
    end,
    enter,
    finish,
    future,
    items,
    ticket,
)


def weighed(max_batch_weight: float | None, *, keeps_order: bool = False) -> PendingQueue:
    """Make a queue that weighs."""
    return PendingQueue(
        max_batch_size=4,
        max_delay=None,
        max_batch_weight=max_batch_weight,
        is_tracked=True,
        keeps_order=keeps_order,
    )


@pytest.mark.parametrize("key", [None, "a"], ids=["unkeyed", "keyed"])
def test_batch_that_is_heavy_enough_leaves_at_once(key: str | None) -> None:
    """Weight is a trigger like size: what weighs as much as a batch may is due."""
    queue = weighed(10.0)
    enter(queue, ticket("a", key=key, weight=5.0))
    assert cut(queue, 0.0) is None
    enter(queue, ticket("b", key=key, weight=5.0))

    assert items(cut(queue, 0.0)) == ["a", "b"]


@pytest.mark.parametrize("key", [None, "a"], ids=["unkeyed", "keyed"])
def test_batch_never_weighs_too_much(key: str | None) -> None:
    """A batch takes what fits, in order: the item that would be too much begins the next one."""
    queue = weighed(10.0)
    enter(queue, *(future(weight, key=key, weight=weight) for weight in (4.0, 5.0, 2.0, 10.0, 0.0, 1.0)))
    queue.seal()
    batches = []
    while (batch := cut(queue, 0.0)) is not None:
        batches.append((batch.items, batch.weight))
        finish(queue, batch)

    assert batches == [([4.0, 5.0], 9.0), ([2.0], 2.0), ([10.0, 0.0], 10.0), ([1.0], 1.0)]
    assert queue.weight == 0.0


def test_weighed_batch_has_its_size_as_well() -> None:
    """However light, no batch gets more items than the cap."""
    queue = weighed(100.0)
    enter(queue, *(future(number, weight=0.5) for number in range(6)))

    assert items(cut(queue, 0.0)) == [0, 1, 2, 3]
    assert queue.weight == 1.0


def test_weight_without_a_limit_of_batches_is_counted() -> None:
    """Where only the queue is limited, weights are counted and no batch is heavy enough."""
    queue = weighed(None)
    enter(queue, future("a", weight=1e9))
    queue.collect()

    assert queue.weight == 1e9
    assert cut(queue, 0.0) is None


@pytest.mark.parametrize("key", [None, "a"], ids=["unkeyed", "keyed"])
@pytest.mark.parametrize("ending", ["cancelled", "expired"])
def test_what_ended_weighs_nothing(key: str | None, ending: str) -> None:
    """An item that ended where it waited, in the inbox or in its group, is taken off the weight."""
    queue = weighed(10.0)
    entries = [future(number, key=key, weight=6.0) for number in range(3)]
    enter(queue, entries[0])
    queue.arrange(0.0)
    end(queue, entries[0], ending)
    enter(queue, entries[1])
    end(queue, entries[1], ending)
    enter(queue, entries[2])
    queue.collect()

    assert queue.weight == 6.0
    assert cut(queue, 0.0) is None
    batch = cut(queue, 0.0, is_forced=True)
    assert batch is not None
    assert (batch.items, batch.weight) == ([2], 6.0)
    assert queue.weight == 0.0


def test_sums_of_weights_do_not_drift() -> None:
    """An empty queue weighs exactly nothing, whatever fractions went through it."""
    queue = weighed(1.0)
    for _ in range(50):
        enter(queue, *(future(weight=0.1) for _ in range(3)))
        cut(queue, 0.0, is_forced=True)

        assert queue.weight == 0.0


@pytest.mark.parametrize("key", [None, "a"], ids=["unkeyed", "keyed"])
def test_dropped_item_weighs_nothing(key: str | None) -> None:
    """The oldest item's weight goes with it, and fills no batch any more."""
    queue = weighed(10.0, keeps_order=True)
    enter(queue, future("a", key=key, weight=4.0), future("b", key=key, weight=2.0))
    queue.arrange(0.0)
    drop_oldest(queue)
    assert queue.weight == 2.0

    enter(queue, future("c", key=key, weight=7.0))
    assert cut(queue, 0.0) is None
    enter(queue, future("d", key=key, weight=1.0))
    assert items(cut(queue, 0.0)) == ["b", "c", "d"]
