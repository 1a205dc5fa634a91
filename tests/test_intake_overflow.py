"""Items without room, under the policies that don't wait: refused, or somebody is dropped."""

import functools
import itertools
import operator
import threading
from typing import Any

import pytest

from batcher import ItemDroppedError, QueueFullError
from batcher.testing import RecordingHandler
from tests import stage
from tests.stage import PATIENCE, Maker, endings, put_all

make = stage.make

WEIGHED: dict[str, Any] = {"weigh": lambda item: item, "max_pending_weight": 10}


class Drops:
    """An `on_drop` that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, str]] = []

    def __call__(self, item: object, error: BaseException) -> None:
        """Keep the item and the kind of error."""
        self.heard.append((item, type(error).__name__))


# "raise"


def test_raise_refuses_without_room(make: Maker) -> None:
    """Under "raise" an add without room raises, saying how full the queue is; the item never entered."""
    batcher = make(max_pending=2, overflow="raise", max_delay=None)
    batcher.add_many([1, 2])

    with pytest.raises(QueueFullError, match="no room for 1 more: 2 of 2 items wait"):
        batcher.add(3)
    with pytest.raises(QueueFullError):
        batcher.put(3)

    assert batcher.status().accepted == 2
    assert batcher.status().refused == 2


def test_add_many_is_all_or_nothing_under_raise(make: Maker) -> None:
    """Under "raise" either all items enter or none."""
    batcher = make(max_pending=3, overflow="raise", max_delay=None)
    batcher.put(0)

    with pytest.raises(QueueFullError, match="no room for 3 more"):
        batcher.add_many([1, 2, 3])
    assert batcher.status().pending == 1
    assert batcher.status().refused == 3

    batcher.add_many([1, 2])
    assert batcher.status().pending == 3


def test_raise_by_weight(make: Maker) -> None:
    """A weight limit of the queue refuses as its number does, and says the weights."""
    batcher = make(overflow="raise", max_delay=None, **WEIGHED)
    batcher.add(7)

    with pytest.raises(QueueFullError, match=r"weight 7\S* of 10"):
        batcher.add(4)
    with pytest.raises(QueueFullError):
        batcher.add_many([1, 1, 2])
    batcher.add(3)

    assert batcher.status().pending == 2


def test_weights_are_forgotten_with_their_items(make: Maker) -> None:
    """When the last item has left, by whatever way, the queue weighs nothing: sums of floats don't drift."""
    weights = [1 / 3, 0.2, 0.7, 1 / 3, 0.1]
    total = functools.reduce(operator.add, weights)  # as the queue adds them up; `sum` rounds better
    batcher = make(weigh=lambda item: item, max_pending_weight=total, overflow="raise", max_delay=None)
    futures = batcher.add_many(weights)

    for number in (3, 0, 4, 2, 1):
        futures[number].cancel()

    assert not batcher.add(total).done()


# "drop_oldest" and "drop_newest"


@pytest.mark.parametrize("options", [{}, {"batch_key": lambda item: item % 2}], ids=["unkeyed", "keyed"])
def test_drop_oldest(make: Maker, options: dict[str, Any]) -> None:
    """The item that waits longest fails with ItemDroppedError, and the new one enters."""
    drops = Drops()
    batcher = make(max_pending=3, overflow="drop_oldest", max_delay=None, on_drop=drops, **options)
    futures = batcher.add_many(range(3))
    futures[0].cancel()
    batcher.add(3)

    batcher.add(4)
    batcher.put(5)

    for number in (1, 2):
        with pytest.raises(ItemDroppedError, match="drop_oldest"):
            futures[number].result(0)
    assert drops.heard == [(1, "ItemDroppedError"), (2, "ItemDroppedError")]
    assert batcher.status().pending == 3
    assert batcher.status().accepted == 6
    handler: Any = RecordingHandler()
    batcher.register_handler(handler)
    batcher.flush()
    assert sorted(handler.items) == [3, 4, 5]


@pytest.mark.parametrize("options", [{}, {"batch_key": lambda item: item % 2}], ids=["unkeyed", "keyed"])
def test_drop_oldest_of_what_was_put(make: Maker, options: dict[str, Any]) -> None:
    """What was put is dropped in the same order; `on_drop` hears of each."""
    drops = Drops()
    batcher = make(max_pending=2, overflow="drop_oldest", max_delay=None, on_drop=drops, **options)
    first = batcher.add(0)
    batcher.put(1)
    first.cancel()

    for item in (2, 3, 4):
        batcher.put(item)

    assert drops.heard == [(1, "ItemDroppedError"), (2, "ItemDroppedError")]
    assert endings(batcher.status()) == {"cancelled": 1, "dropped": 2}


def test_drop_oldest_makes_room_for_the_weight(make: Maker) -> None:
    """As many items go as the new one's weight needs."""
    drops = Drops()
    batcher = make(overflow="drop_oldest", max_delay=None, on_drop=drops, **WEIGHED)
    batcher.add_many([4, 3, 3])

    batcher.add(6)

    assert [item for item, _ in drops.heard] == [4, 3]
    assert batcher.status().pending == 2


def test_drop_oldest_with_keys_forgets_what_left(make: Maker) -> None:
    """The order of arrival across the keys is kept for what waits alone, however many have come and gone."""
    batcher = make(lambda _: None, batch_key=lambda item: item % 7, overflow="drop_oldest", max_delay=None)

    for _ in range(5):
        batcher.add_many(range(100))
        batcher.flush()
    batcher.add_many(range(100))

    assert len(batcher._line.queue.order or ()) <= 2 * 100 + 64


def test_drop_newest(make: Maker) -> None:
    """The arriving item fails with ItemDroppedError: it counts as accepted and dropped, and never waits."""
    drops = Drops()
    batcher = make(max_pending=2, overflow="drop_newest", max_delay=None, on_drop=drops)
    batcher.add_many([0, 1])

    late = batcher.add(2)
    batcher.put(3)
    more = batcher.add_many([4, 5])

    for future in (late, *more):
        with pytest.raises(ItemDroppedError, match="drop_newest"):
            future.result(0)
    assert [item for item, _ in drops.heard] == [2, 3, 4, 5]
    assert batcher.status().pending == 2
    assert batcher.status().accepted == 6
    assert endings(batcher.status()) == {"dropped": 4}


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_add_many_beyond_the_bound_drops(make: Maker, overflow: str) -> None:
    """More items than the queue holds: the policy decides which ones stay."""
    batcher = make(max_pending=3, overflow=overflow, max_delay=None)

    futures = batcher.add_many(range(5))

    waiting = [number for number, future in enumerate(futures) if not future.done()]
    assert waiting == ([2, 3, 4] if overflow == "drop_oldest" else [0, 1, 2])


def test_drop_callback_sees_counters(make: Maker) -> None:
    """When a dropped item's callback runs, the counters include the drop."""
    batcher = make(max_pending=1, overflow="drop_oldest", max_delay=None)
    seen: list[int] = []
    batcher.add(0).add_done_callback(lambda _: seen.append(batcher.status().dropped))

    batcher.add(1)

    assert seen == [1]


@pytest.mark.parametrize("size", [1, 100, 299, 300, 1000])
@pytest.mark.parametrize("taken", [0, 1, 500, 900])
def test_bound_holds_whatever_left_before(make: Maker, size: int, taken: int) -> None:
    """Exactly `max_pending` items find room beside what is in the handler, with batches of any size in between."""
    begun, going = threading.Semaphore(0), threading.Semaphore(0)

    def handle(_: list[Any]) -> None:
        begun.release()
        assert going.acquire(timeout=PATIENCE)

    batcher = make(handle, max_batch_size=size, max_pending=1000, max_delay=0, adaptive=False, overflow="raise")
    batcher.put("first")
    assert begun.acquire(timeout=PATIENCE)
    put_all(batcher, range(taken))
    if taken:
        going.release()
        assert begun.acquire(timeout=PATIENCE)
    with pytest.raises(QueueFullError):
        put_all(batcher, itertools.count())

    assert batcher.status().pending == 1000
    going.release(2000)
