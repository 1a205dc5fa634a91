"""When batches leave: by size, by delay, by weight; and what a flusher costs that has nothing to do."""

from typing import Any

import pytest

from batcher import Batcher
from batcher._clock import Bell, SystemClock, install_clock, uninstall_clock
from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, elsewhere, endings, put_all

clock, make = stage.clock, stage.make


# Size


def test_batch_leaves_when_full(make: Maker, clock: FakeClock) -> None:
    """Without a delay nothing leaves before the batch is full, and then it leaves at once."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=3, max_delay=None)

    batcher.put(0)
    clock.wait_for_sleepers(1)
    batcher.put(1)
    clock.advance(1e6)
    clock.wait_for_sleepers(1)
    assert handler.batches == []
    batcher.put(2)

    handler.wait_for_batches(1)
    assert handler.batches == [[0, 1, 2]]


def test_rest_waits_for_the_next_batch(make: Maker, clock: FakeClock) -> None:
    """More than a batch came: full ones leave, the rest waits on."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=3, max_delay=None)

    batcher.add_many(range(7))
    handler.wait_for_batches(2)
    clock.wait_for_sleepers(1)

    assert handler.batches == [[0, 1, 2], [3, 4, 5]]
    assert batcher.status().pending == 1


def test_batch_is_full_whatever_came_before(make: Maker, clock: FakeClock) -> None:
    """A batch that items were cancelled from leaves when it is full again."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=10, max_delay=None)
    batcher.put(0)
    clock.wait_for_sleepers(1)
    futures = [batcher.add(item) for item in range(1, 6)]

    futures[2].cancel()
    for item in range(6, 11):
        batcher.put(item)

    handler.wait_for_batches(1)
    assert handler.batches == [[0, 1, 2, 4, 5, 6, 7, 8, 9, 10]]


# Delay


def test_batch_leaves_after_its_delay(make: Maker, clock: FakeClock) -> None:
    """A batch leaves `max_delay` after its oldest item came: not earlier, and not later."""
    handler = RecordingHandler()
    batcher = make(handler, max_delay=1.0)
    batcher.put(0)
    clock.wait_for_sleepers(1)

    clock.advance(0.75)
    batcher.put(1)
    clock.wait_for_sleepers(1)
    assert handler.batches == []
    clock.advance(0.25)

    handler.wait_for_batches(1)
    assert handler.batches == [[0, 1]]


def test_each_batch_has_its_own_delay(make: Maker, clock: FakeClock) -> None:
    """What came later than a batch that has left waits for its own delay."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=2, max_delay=1.0)
    batcher.put(0)
    clock.wait_for_sleepers(1)
    clock.advance(0.5)
    batcher.add_many([1, 2])
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)

    clock.advance(0.75)
    clock.wait_for_sleepers(1)
    assert handler.batches == [[0, 1]]
    clock.advance(0.25)

    handler.wait_for_batches(2)
    assert handler.batches == [[0, 1], [2]]


def test_delay_zero_sends_at_once(make: Maker) -> None:
    """With `max_delay=0` an item leaves as soon as the handler is free."""
    handler = HeldHandler()
    batcher = make(handler, max_delay=0)
    batcher.put(0)
    handler.wait_for_batches(1)
    batcher.put(1)
    batcher.put(2)

    handler.let_go()

    handler.wait_for_batches(2)
    assert handler.batches == [[0], [1, 2]]


@pytest.mark.parametrize("delay", [1.0, 0])
def test_delay_runs_while_another_call_runs(make: Maker, clock: FakeClock, delay: float) -> None:
    """With places for several calls, one that runs doesn't hold up an item whose delay ends."""
    handler = HeldHandler()
    batcher = make(handler, max_delay=delay, max_concurrent=2)
    batcher.put(0)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)

    batcher.put(1)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)

    handler.wait_for_batches(2)
    assert handler.batches == [[0], [1]]


# Weight


@pytest.mark.parametrize("options", [{}, {"batch_key": lambda _: "key"}], ids=["unkeyed", "keyed"])
def test_batch_leaves_when_heavy(make: Maker, clock: FakeClock, options: dict[str, Any]) -> None:
    """A batch leaves when its items reach `max_batch_weight`, and never weighs more."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_weight=10, weigh=lambda item: item, max_delay=None, **options)
    batcher.put(6)
    clock.wait_for_sleepers(1)
    assert handler.batches == []

    batcher.put(5)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    assert handler.batches == [[6]]
    batcher.add(5)

    handler.wait_for_batches(2)
    assert handler.batches == [[6], [5, 5]]


@pytest.mark.parametrize("options", [{}, {"batch_key": lambda _: "key"}], ids=["unkeyed", "keyed"])
def test_cancelled_weight_counts_no_more(make: Maker, clock: FakeClock, options: dict[str, Any]) -> None:
    """What was cancelled weighs nothing: the batch leaves when what is left is heavy enough."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_weight=10, weigh=lambda item: item, max_delay=None, **options)
    cancelled = batcher.add(6)
    clock.wait_for_sleepers(1)
    cancelled.cancel()
    batcher.put(4)
    clock.wait_for_sleepers(1)
    assert handler.batches == []

    batcher.put(6)

    handler.wait_for_batches(1)
    assert handler.batches == [[4, 6]]


def test_weightless_items_are_counted(make: Maker) -> None:
    """Items of no weight fill a batch by their number."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=3, max_batch_weight=10, weigh=lambda _: 0, max_delay=None)

    batcher.add_many(range(7))

    handler.wait_for_batches(2)
    assert handler.batches == [[0, 1, 2], [3, 4, 5]]


def test_weight_caps_a_flush(make: Maker) -> None:
    """A flush sends no batch that is heavier than `max_batch_weight`."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_weight=10, weigh=lambda item: item, max_delay=None)
    batcher.pause()
    batcher.add_many([4, 4, 4, 10, 1])

    assert batcher.flush().succeeded == 5
    assert handler.batches == [[4, 4], [4], [10], [1]]


# Order, and what idling costs


def test_one_at_a_time_keeps_the_order(make: Maker) -> None:
    """Without a key and one call at a time, items reach the handler in the order in which they came."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=7, max_delay=0)

    for item in range(100):
        batcher.put(item)
    batcher.flush()

    assert handler.items == list(range(100))


class CountingClock(SystemClock):
    """The machine's clock, which counts the waits that end."""

    __slots__ = ("turns",)

    def __init__(self) -> None:
        self.turns = 0

    def wait(self, bell: Bell, deadline: float | None) -> bool:
        """Wait as the machine's clock does; the waits of a test itself have no bell to be counted by."""
        rang = super().wait(bell, deadline)
        self.turns += 1
        return rang


IDLE: dict[str, dict[str, Any]] = {
    "no-delay": {"max_delay": None},
    "delay": {"max_delay": 0.001},
    "at-once": {"max_delay": 0},
    "keyed": {"max_delay": 0.001, "batch_key": lambda item: item},
    "workers": {"max_delay": 0.001, "max_concurrent": 3, "handler_timeout": 60.0},
}


@pytest.mark.parametrize("options", IDLE.values(), ids=IDLE)
def test_idle_costs_nothing(options: dict[str, Any]) -> None:
    """With nothing to do, paused, or without a handler, the flusher sleeps: nobody wakes it, and no timer does."""
    counting = CountingClock()
    install_clock(counting)
    try:
        batcher: Batcher[Any, Any] = Batcher(**options)
    finally:
        uninstall_clock(counting)
    quiet = Bell()
    with batcher:
        batcher.add_many(range(3))
        quiet.wait(0.05)  # without a handler
        batcher.pause()
        batcher.register_handler(lambda _: None)
        quiet.wait(0.05)  # paused
        batcher.resume()
        batcher.flush()
        quiet.wait(0.05)  # with nothing to do
        assert batcher.status().succeeded == 3
        assert counting.turns < 20


def test_item_too_late_for_the_look(make: Maker, clock: FakeClock) -> None:
    """An item that comes in between the flusher's look at the queue and its going to sleep isn't overslept."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=3, max_delay=None)
    batcher.put(0)
    clock.wait_for_sleepers(1)
    queue = batcher._line.queue
    real = queue.next_due

    def add_meanwhile(now: float, **options: bool) -> Any:
        queue.next_due = real  # type: ignore[method-assign]
        elsewhere(put_all, batcher, (1, 2)).result(PATIENCE)
        return real(now, **options)

    queue.next_due = add_meanwhile  # type: ignore[method-assign]
    batcher.resume()  # wakes the flusher

    handler.wait_for_batches(1)
    assert handler.batches == [[0, 1, 2]]
    assert endings(batcher.status()) in ({}, {"succeeded": 3})
