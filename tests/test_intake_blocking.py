"""Producers that wait for room: in order, no longer than they said, and not beyond a close."""

import threading
from typing import Any

import pytest

from batcher import BatcherClosedError, ItemTimeoutError, QueueFullError
from batcher._clock import Bell
from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, elsewhere, endings

clock, make = stage.clock, stage.make

WEIGHED: dict[str, Any] = {"weigh": lambda item: item, "max_pending_weight": 10}


def test_blocked_producers_are_served_in_order(make: Maker, clock: FakeClock) -> None:
    """Producers that wait for room enter in the order in which they came, and nobody overtakes them."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=1, max_pending=1, max_delay=None)
    batcher.pause()
    batcher.put(0)

    producers = []
    for item in (1, 2, 3):
        producers.append(elsewhere(batcher.put, item))
        clock.wait_for_sleepers(1 + item)
    batcher.resume()

    for producer in producers:
        producer.result(PATIENCE)
    batcher.flush()
    assert handler.items == [0, 1, 2, 3]
    assert endings(batcher.status()) == {"succeeded": 4}


def test_full_queue_forces_a_batch(make: Maker) -> None:
    """With no delay and a batch that can't get full, a full queue sends what there is, so that producers go on."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=100, max_pending=2, max_delay=None)

    for item in range(6):
        batcher.put(item, block_timeout=PATIENCE)
    handler.wait_for_batches(2)

    assert handler.items[:4] == [0, 1, 2, 3]


def test_queue_full_by_weight_forces_a_batch(make: Maker) -> None:
    """A producer that waits for the queue's weight forces a batch as well."""
    handler = RecordingHandler()
    batcher = make(handler, max_delay=None, **WEIGHED)
    batcher.put(6)

    batcher.put(5, block_timeout=PATIENCE)

    assert handler.items == [6]


@pytest.mark.parametrize("overflow", ["raise", "drop_oldest", "drop_newest"])
def test_refused_weight_forces_a_batch(make: Maker, overflow: str) -> None:
    """Nobody waits under the other policies; still a queue that is full by weight doesn't stay so for ever."""
    handler = RecordingHandler()
    batcher = make(handler, max_delay=None, overflow=overflow, **WEIGHED)
    batcher.put(6)

    try:
        batcher.put(5)
    except QueueFullError:
        assert overflow == "raise"

    handler.wait_for_batches(1)


def test_room_is_given_as_batches_are_cut(make: Maker, clock: FakeClock) -> None:
    """A producer is let in when a batch leaves the queue, not when its handler is done."""
    handler = HeldHandler()
    batcher = make(handler, max_batch_size=2, max_pending=2, max_delay=0)
    batcher.pause()
    batcher.add_many([0, 1])
    producer = elsewhere(batcher.put, 2)
    clock.wait_for_sleepers(2)

    batcher.resume()

    producer.result(PATIENCE)
    handler.wait_for_batches(1)
    assert handler.batches == [[0, 1]]


@pytest.mark.parametrize("way", ["cancel", "expire"])
@pytest.mark.parametrize("handler", [None, HeldHandler], ids=["no-handler", "handler-busy"])
def test_room_by_cancel_or_expiry(make: Maker, clock: FakeClock, way: str, handler: Any) -> None:
    """An item that is cancelled or expires makes room for a producer, also while the flusher is in a handler."""
    busy = handler and handler()
    batcher = make(busy, max_batch_size=1, max_pending=1, max_delay=0)
    if busy:
        batcher.put(0)
        busy.wait_for_batches(1)
    future = batcher.add(1, timeout=3.0 if way == "expire" else None)
    producer = elsewhere(batcher.put, 2)
    clock.wait_for_sleepers(2 if busy is None or way == "expire" else 1)

    if way == "cancel":
        assert future.cancel()
    else:
        clock.advance(3.0)

    producer.result(PATIENCE)
    assert batcher.status().pending == 1


def test_block_timeout(make: Maker, clock: FakeClock) -> None:
    """The wait for room ends at `block_timeout`, not before: then the item is refused."""
    batcher = make(max_pending=1, max_delay=None)
    batcher.put(0)
    producer = elsewhere(batcher.add, 1, block_timeout=3.0)
    clock.wait_for_sleepers(2)

    clock.advance(2.0)
    clock.wait_for_sleepers(2)
    assert not producer.done()
    clock.advance(1.0)

    with pytest.raises(QueueFullError, match="no room for 1 more"):
        producer.result(PATIENCE)
    assert batcher.status().refused == 1
    assert not batcher._line.waiters


def test_block_timeout_zero_never_waits(make: Maker) -> None:
    """`block_timeout=0` refuses at once."""
    batcher = make(max_pending=1, max_delay=None)
    batcher.put(0)

    with pytest.raises(QueueFullError):
        batcher.put(1, block_timeout=0)


def test_item_timeout_bounds_the_wait(make: Maker, clock: FakeClock) -> None:
    """A producer waits no longer for room than its item may live."""
    batcher = make(max_pending=1, max_delay=None)
    batcher.put(0)
    producer = elsewhere(batcher.add, 1, timeout=2.0, block_timeout=9.0)
    clock.wait_for_sleepers(2)

    clock.advance(2.0)

    with pytest.raises(QueueFullError):
        producer.result(PATIENCE)


def test_item_timeout_runs_during_the_wait(make: Maker, clock: FakeClock) -> None:
    """The time that an item's producer waited for room counts towards the item's own deadline."""
    batcher = make(max_pending=1, max_delay=None)
    first = batcher.add(0)
    producer = elsewhere(batcher.add, 1, timeout=5.0)
    clock.wait_for_sleepers(2)
    clock.advance(3.0)
    first.cancel()
    future = producer.result(PATIENCE)

    clock.wait_for_sleepers(1)
    assert not future.done()
    clock.advance(2.0)

    with pytest.raises(ItemTimeoutError):
        future.result(PATIENCE)


def test_timed_out_producer_lets_the_next_one_in(make: Maker, clock: FakeClock) -> None:
    """A producer whose wait ends leaves its place: those behind it are served."""
    batcher = make(max_delay=None, **WEIGHED)
    first = batcher.add(8)
    heavy = elsewhere(batcher.put, 9, block_timeout=2.0)
    clock.wait_for_sleepers(2)
    light = elsewhere(batcher.put, 1)
    clock.wait_for_sleepers(3)

    clock.advance(2.0)
    with pytest.raises(QueueFullError):
        heavy.result(PATIENCE)

    light.result(PATIENCE)
    assert not first.done()
    assert batcher.status().pending == 2


def test_add_many_is_admitted_piece_by_piece(make: Maker) -> None:
    """Under "block" more items than the queue holds enter as room appears."""
    handler = RecordingHandler(lambda items: items)
    batcher = make(handler, max_batch_size=2, max_pending=3, max_delay=0)

    futures = batcher.add_many(range(20), block_timeout=PATIENCE)

    batcher.flush(PATIENCE)
    assert [future.result(0) for future in futures] == list(range(20))
    assert handler.items == list(range(20))


def test_add_many_whose_block_timeout_ends(make: Maker, clock: FakeClock) -> None:
    """When the block timeout ends, the rest come back failed with QueueFullError, counted as refused."""
    batcher = make(max_pending=3, max_delay=None)
    adding = elsewhere(batcher.add_many, range(5), block_timeout=2.0)
    clock.wait_for_sleepers(2)

    clock.advance(2.0)
    futures = adding.result(PATIENCE)

    assert [future.done() for future in futures] == [False, False, False, True, True]
    errors = [future.exception(0) for future in futures[3:]]
    assert [type(error) for error in errors] == [QueueFullError, QueueFullError]
    assert errors[0] is not errors[1]
    assert batcher.status().accepted == 3
    assert endings(batcher.status()) == {"refused": 2}


def test_add_many_that_finds_no_room_at_all(make: Maker) -> None:
    """When nothing entered before the block timeout ended, all come back failed."""
    batcher = make(max_pending=1, max_delay=None)
    batcher.put(0)

    futures = batcher.add_many([1, 2], block_timeout=0)

    assert [type(future.exception(0)) for future in futures] == [QueueFullError, QueueFullError]


def test_add_many_during_close(make: Maker, clock: FakeClock) -> None:
    """Close ends the wait: what entered is seen to, and the rest come back failed with BatcherClosedError."""
    batcher = make(lambda items: items, max_pending=3, max_delay=None)
    batcher.pause()
    adding = elsewhere(batcher.add_many, range(5))
    clock.wait_for_sleepers(2)

    elsewhere(batcher.close).result(PATIENCE)
    futures = adding.result(PATIENCE)

    assert [future.result(0) for future in futures[:3]] == [0, 1, 2]
    assert {type(future.exception(0)) for future in futures[3:]} == {BatcherClosedError}
    assert endings(batcher.status()) == {"succeeded": 3, "refused": 2}


class LateWakers(FakeClock):
    """A clock on which chosen threads notice only when told that their wait is over."""

    def __init__(self) -> None:
        super().__init__()
        self.late: set[int] = set()
        self.told = threading.Event()

    def wait(self, bell: Bell, deadline: float | None) -> bool:
        """Wait; a late thread then waits until it is told."""
        rang = super().wait(bell, deadline)
        if threading.get_ident() in self.late:
            assert self.told.wait(2 * PATIENCE)
        return rang


def test_blocked_producers_during_close(make: Maker) -> None:
    """Close refuses the items of waiting producers, and lets none in where it drops others and makes room.

    1. Close rings the producers, who are slow to leave their place.
    2. Close drops what is pending: there is room.
    3. The flusher looks whom it may let in.
    """

    def produce(item: int) -> object:
        clock.late.add(threading.get_ident())
        return batcher.add(item)

    with LateWakers() as clock:
        batcher = make(max_pending=1, max_delay=None)
    batcher.put(0)
    producers = [elsewhere(produce, item) for item in (1, 2)]
    clock.wait_for_sleepers(3)

    closing = elsewhere(batcher.close)
    try:
        closing.result(PATIENCE)
    finally:
        clock.told.set()

    for producer in producers:
        with pytest.raises(BatcherClosedError):
            producer.result(PATIENCE)
    assert endings(batcher.status()) == {"dropped": 1, "refused": 2}


def test_closed_batcher_refuses(make: Maker) -> None:
    """After close add, put and add_many raise BatcherClosedError, and nothing enters."""
    batcher = make(lambda items: items)
    batcher.put(0)
    batcher.close()

    for call in (lambda: batcher.add(1), lambda: batcher.put(1), lambda: batcher.add_many([1, 2])):
        with pytest.raises(BatcherClosedError, match="the batcher is closed"):
            call()

    assert batcher.status().accepted == 1
    assert batcher.status().refused == 4
