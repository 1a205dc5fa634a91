"""Faults that trusted systems had: counting, caps, memory, waits; numbered by the project's list."""

import gc
import math
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from batcher import Batcher, BatcherClosedError, ItemDroppedError, ItemTooHeavyError, QueueFullError
from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import (
    PATIENCE,
    HeldHandler,
    Maker,
    ScriptedLock,
    adds_up,
    elsewhere,
    endings,
    flusher_of,
)

clock, make = stage.clock, stage.make


def echo(items: list[Any]) -> list[Any]:
    """Answer each item with itself."""
    return items


def every_way_out(clock: FakeClock, batcher: Batcher[Any, Any], handler: Any) -> None:
    """Make items leave a batcher that has no handler by every way there is, as a flush waits for them."""
    oldest = batcher.add("dropped")
    batcher.put("dropped as well")
    expiring = batcher.add("expires", timeout=1.0)
    cancelled = batcher.add("cancelled")
    stays = [batcher.add(n) for n in range(4)]
    flushing = elsewhere(batcher.flush)
    clock.wait_for_sleepers(2)

    cancelled.cancel()
    clock.advance(1.0)
    assert isinstance(expiring.exception(PATIENCE), TimeoutError)
    batcher.add_many(["x"] * 4)
    assert isinstance(oldest.exception(PATIENCE), ItemDroppedError)
    clock.wait_for_sleepers(2)
    assert not flushing.done()
    batcher.register_handler(handler)

    report = flushing.result(PATIENCE)
    assert [future.exception(PATIENCE) for future in stays[:3]] == [None, None, None]
    assert (report.succeeded, report.failed) == (3, 1)
    assert (report.cancelled, report.expired, report.dropped, report.pending) == (1, 1, 2, 0)


@pytest.mark.parametrize("options", [{}, {"batch_key": lambda _: "key"}], ids=["unkeyed", "keyed"])
def test_row_20_every_way_out_is_counted(make: Maker, clock: FakeClock, options: dict[str, Any]) -> None:
    """A flush ends when its items have, by whatever way they left; and it tells the ways apart."""
    handler = RecordingHandler(lambda items: [ValueError() if item == 3 else item for item in items])
    batcher = make(max_pending=8, overflow="drop_oldest", max_delay=None, **options)

    every_way_out(clock, batcher, handler)

    batcher.close()
    assert endings(batcher.status()) == {"succeeded": 7, "failed": 1, "cancelled": 1, "expired": 1, "dropped": 2}


@pytest.mark.parametrize("way", ["cancel", "expire", "drop", "expire-in-handler", "give-up", "close"])
def test_row_20_last_item_ends_the_flush(make: Maker, clock: FakeClock, way: str) -> None:
    """Whatever way the last item of a flush goes, the flush hears of it."""
    handler = HeldHandler(echo)
    in_handler = way in ("expire-in-handler", "give-up")
    batcher = make(
        handler if in_handler else None,
        max_delay=0,
        max_pending=1,
        overflow="drop_oldest",
        handler_timeout=2.0 if way == "give-up" else None,
    )
    future = batcher.add(1, timeout=2.0 if way.startswith("expire") else None)
    if in_handler:
        handler.wait_for_batches(1)
    flushing = elsewhere(batcher.flush)
    clock.wait_for_sleepers(2)
    actions: dict[str, Callable[[], object]] = {
        "cancel": future.cancel,
        "drop": lambda: batcher.put(2),
        "close": batcher.close,
    }

    actions.get(way, lambda: clock.advance(2.0))()

    report = flushing.result(PATIENCE)
    counted = {"cancel": "cancelled", "drop": "dropped", "close": "dropped", "give-up": "failed"}.get(way, "expired")
    assert getattr(report, counted) == 1
    assert report.pending == 0


def test_row_20_deadline_while_an_add_drops_the_item(make: Maker, clock: FakeClock) -> None:
    """An item is dropped and its deadline passes at the same time: it ends once, and the flusher lives.

    1. An add drops the oldest item, which has a deadline, and releases the lock.
    2. The deadline passes; the flusher looks.
    3. The add goes on.
    """
    batcher = make(max_pending=1, overflow="drop_oldest", max_delay=None)
    future = batcher.add(1, timeout=1.0)
    clock.wait_for_sleepers(1)

    def pass_the_deadline() -> None:
        clock.advance(1.0)
        clock.wait_for_sleepers(1)

    ScriptedLock(batcher, pass_the_deadline)
    batcher.add(2)

    assert isinstance(future.exception(PATIENCE), (ItemDroppedError, TimeoutError))
    assert flusher_of(batcher).is_alive()
    assert sum(endings(batcher.status()).values()) == 1


def test_row_21_flush_tells_apart(make: Maker) -> None:
    """Done, failed and left are told apart; only where nothing is left or lost a report is complete."""
    batcher = make(lambda items: [OSError() if item == 1 else item for item in items], max_delay=None)
    batcher.put(0)
    assert batcher.flush().complete

    batcher.add_many([0, 1, 2])
    report = batcher.flush()

    assert (report.succeeded, report.failed, report.pending) == (2, 1, 0)
    assert not report.complete
    cancelled = batcher.add(0)
    cancelled.cancel()
    assert batcher.flush().complete


@pytest.mark.parametrize("way", ["flush", "close", "full", "key"])
def test_row_22_the_cap_holds(make: Maker, way: str) -> None:
    """No handler call gets more than `max_batch_size`, on flush, on close and when a full queue forces a batch too."""
    handler = RecordingHandler()
    batcher = make(
        handler,
        max_batch_size=100,
        max_delay=None,
        max_pending=250,
        batch_key=(lambda _: "key") if way == "key" else None,
    )
    batcher.pause()
    batcher.add_many(range(250))

    if way == "full":
        batcher.resume()
    report = batcher.close() if way == "close" else batcher.flush()

    assert report.succeeded <= 250
    assert [len(batch) for batch in handler.batches] == [100, 100, 50]
    assert handler.items == list(range(250))


def test_row_27_too_heavy_raises(make: Maker) -> None:
    """An item that no batch or queue may ever hold is refused at once, although producers may block."""
    batcher = make(echo, weigh=len, max_batch_weight=5, max_pending_weight=8, max_delay=None)

    for call in (batcher.add, batcher.put, lambda item: batcher.add_many(["", item])):
        with pytest.raises(ItemTooHeavyError):
            elsewhere(call, "123456").result(PATIENCE)

    assert batcher.status().accepted == 0


@pytest.mark.parametrize("overflow", ["block", "raise", "drop_oldest", "drop_newest"])
@pytest.mark.parametrize("options", [{}, {"batch_key": lambda item: item}], ids=["unkeyed", "keyed"])
def test_row_27_full_queue_forces_a_batch(make: Maker, overflow: str, options: dict[str, Any]) -> None:
    """A full queue that no trigger would ever empty sends a batch, under every policy."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=100, max_delay=None, max_pending=10, overflow=overflow, **options)

    for item in range(10):
        batcher.put(item)

    handler.wait_for_batches(1)


@pytest.mark.parametrize("overflow", ["block", "raise", "drop_oldest", "drop_newest"])
def test_row_28_nothing_is_lost_silently(make: Maker, overflow: str) -> None:
    """Offered is accepted plus refused; accepted adds up; and `on_drop` hears of each drop."""
    heard: list[object] = []
    refused = 0
    batcher = make(max_pending=5, overflow=overflow, max_delay=None, on_drop=lambda item, _: heard.append(item))

    for number in range(20):
        try:
            if number % 2:
                batcher.put(number, block_timeout=0)
            else:
                batcher.add(number, block_timeout=0)
        except QueueFullError:
            refused += 1
    batcher.close()
    with pytest.raises(BatcherClosedError):
        batcher.put(99)

    status = batcher.status()
    assert status.accepted + status.refused == 21
    assert status.refused == refused + 1
    assert status.dropped == len(heard) == len(set(heard))
    assert adds_up(status)


def test_row_32_a_million_keys_come_and_go(make: Maker) -> None:
    """Keys that nobody will use again take no memory: what is kept is bounded by what waits."""
    batcher = make(lambda _: None, batch_key=lambda item: item, max_delay=0, max_pending=200)

    def run(first: int) -> int:
        for key in range(first, first + 2_000):
            batcher.put(key)
        batcher.flush()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        run(0)
        before = run(2_000)
        after = max(run(4_000), run(6_000))
    finally:
        tracemalloc.stop()

    assert after - before < 100_000


@pytest.mark.parametrize("is_hung", [False, True], ids=["no-handler", "hung"])
def test_row_32_cancelled_keys_are_freed(make: Maker, clock: FakeClock, *, is_hung: bool) -> None:
    """Items that were cancelled, and their keys, don't pile up: not without a handler, not behind one that hangs."""

    class Key:
        """A key that can be watched."""

    handler = HeldHandler()
    batcher = make(handler if is_hung else None, batch_key=lambda item: item, max_batch_size=1, max_delay=None)
    batcher.put("stays")
    if is_hung:
        handler.wait_for_batches(1)
    watches = []
    for key in (Key() for _ in range(3_000)):
        watches.append(weakref.ref(key))
        batcher.add(key).cancel()
    if not is_hung:
        clock.wait_for_sleepers(1)
    gc.collect()

    assert sum(watch() is not None for watch in watches) <= 300  # the loop's last one among them


def test_row_33_read_ahead_is_bounded(make: Maker) -> None:
    """`map` reads at most three batches ahead of what was asked for, be the input endless."""
    read = 0

    def readings() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    batcher = make(echo, max_batch_size=10, max_delay=None)

    results = batcher.map(readings())
    assert read == 0
    for taken in range(1, 101):
        assert next(results) == taken
        assert read <= taken + 30
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("seconds", [math.nan, -1, -math.inf, "1", True, None, [1]], ids=repr)
def test_row_40_waits_that_are_none(make: Maker, seconds: Any) -> None:
    """nan, negative seconds and what is no number are refused wherever seconds may be given."""
    batcher = make(echo)
    calls: list[Callable[[], object]] = [
        lambda: Batcher(exit_timeout=seconds),
        lambda: Batcher(max_delay=seconds),
        lambda: Batcher(handler_timeout=seconds),
        lambda: batcher.add(1, timeout=seconds),
        lambda: batcher.add(1, block_timeout=seconds),
        lambda: batcher.put(1, block_timeout=seconds),
        lambda: batcher.add_many([1], timeout=seconds),
        lambda: batcher.map([1], timeout=seconds),
        lambda: batcher.flush(seconds),
        lambda: batcher.close(seconds),
    ]

    for call in calls[:1] if seconds is None else calls:
        with pytest.raises((TypeError, ValueError)):
            call()

    assert batcher.status().accepted == 0


@pytest.mark.parametrize("seconds", [math.inf, 1e300, 365 * 86_400.0, 10**400], ids=["inf", "huge", "year", "int"])
def test_row_40_waits_that_are_long(make: Maker, seconds: float) -> None:
    """Endless waits, and those beyond what the platform can wait, are clamped, and everything works with them."""
    batcher = make(echo, max_delay=seconds, handler_timeout=seconds, exit_timeout=seconds, max_pending=2)

    future = batcher.add(1, timeout=seconds, block_timeout=seconds)

    assert batcher.flush(seconds).complete
    assert future.result(seconds) == 1
    assert batcher.add_many([2, 3], timeout=seconds)[0].result(seconds) == 2
    assert list(batcher.map([4], timeout=seconds)) == [4]
    assert batcher.close(seconds).complete
