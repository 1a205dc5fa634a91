"""Flush: what it waits for, and what it reports."""

import threading
from typing import Any

import pytest

from batcher import FlushReport
from batcher._clock import Bell
from batcher.testing import FakeClock, RecordingHandler, inline
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, elsewhere

clock, make = stage.clock, stage.make


def echo(items: list[Any]) -> list[Any]:
    """Answer each item with itself."""
    return items


def test_flush_waits_until_all_is_settled(make: Maker, clock: FakeClock) -> None:
    """A flush returns when the last item that was added before it is settled, and says so."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_delay=None)
    batcher.add_many(range(3))
    flushing = elsewhere(batcher.flush)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    assert not flushing.done()

    handler.let_go()

    report = flushing.result(PATIENCE)
    assert report == FlushReport(succeeded=3)
    assert report.complete


def test_flush_is_about_what_came_before(make: Maker, clock: FakeClock) -> None:
    """What comes after the call is neither waited for nor reported, and keeps its own delay."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=10, max_delay=None)
    batcher.put(1)
    flushing = elsewhere(batcher.flush)
    handler.wait_for_batches(1)
    later = batcher.add(2)

    handler.let_go()

    assert flushing.result(PATIENCE) == FlushReport(succeeded=1)
    assert not later.done()


def test_flush_takes_part_of_the_queue(make: Maker, clock: FakeClock) -> None:
    """Items before and after a flush don't share a batch: each flush reports its own."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=10, max_delay=None)
    batcher.put(0)
    first = elsewhere(batcher.flush)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    batcher.add_many([1, 2])
    second = elsewhere(batcher.flush)
    clock.wait_for_sleepers(2)
    batcher.put(3)
    handler.let_go()

    assert first.result(PATIENCE) == FlushReport(succeeded=1)
    assert second.result(PATIENCE) == FlushReport(succeeded=3)
    assert handler.batches == [[0], [1, 2]]


def test_two_flushes_of_the_same_items(make: Maker, clock: FakeClock) -> None:
    """Both return when the items are settled, and both report them."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_delay=None)
    batcher.put(0)
    flushes = [elsewhere(batcher.flush) for _ in range(2)]
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(2)

    handler.let_go()

    assert [flush.result(PATIENCE) for flush in flushes] == [FlushReport(succeeded=1)] * 2


def test_flush_that_leaves_as_another_is_told(make: Maker, clock: FakeClock) -> None:
    """A flush that was just told, and leaves, doesn't keep the news from the next one.

    1. Two flushes wait for the same items, each with a bell.
    2. The last item is cancelled; the thread that does it rings the first bell.
    3. The first flush wakes and takes its bell away, before that thread gets to the second one.
    """
    batcher = make(max_delay=None)
    future = batcher.add(0)
    flushes = []
    for number in (1, 2):
        flushes.append(elsewhere(batcher.flush))
        clock.wait_for_sleepers(1 + number)
    tally, left = batcher._line.queue.sealed[0], threading.Event()

    class Bells(list[Bell]):
        """The bells of the flushes; notices when one is taken away."""

        def remove(self, bell: Bell) -> None:
            super().remove(bell)
            left.set()

    class SlowBell(Bell):
        """Equal to the first flush's bell; rings that, and goes on when the flush has left, if it can."""

        __hash__ = None  # type: ignore[assignment]

        def ring(self) -> None:
            first.ring()
            left.wait(0.5)

        def __eq__(self, other: object) -> bool:
            return other is first

    slow = SlowBell()
    first, second = tally.bells
    tally.bells = Bells([slow, second])
    future.cancel()

    assert flushes[1].result(PATIENCE) == FlushReport(cancelled=1)


def test_flush_waits_for_a_handler(make: Maker, clock: FakeClock) -> None:
    """Without a handler a flush waits for one, at most its timeout."""
    batcher = make(max_delay=None)
    batcher.put(0)
    assert batcher.flush(0) == FlushReport(pending=1)

    flushing = elsewhere(batcher.flush)
    clock.wait_for_sleepers(2)
    batcher.register_handler(echo)

    assert flushing.result(PATIENCE) == FlushReport(succeeded=1)


def test_flush_timeout_on_the_clock(make: Maker, clock: FakeClock) -> None:
    """A flush returns when its timeout ends, not earlier, with what is left; that goes on."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=1, max_delay=0)
    futures = batcher.add_many([0, 1])
    handler.wait_for_batches(1)
    flushing = elsewhere(batcher.flush, 2.0)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    clock.wait_for_sleepers(1)
    assert not flushing.done()

    clock.advance(1.0)

    report = flushing.result(PATIENCE)
    assert report == FlushReport(pending=2)
    assert not report.complete
    handler.let_go()
    assert [future.result(PATIENCE) for future in futures] == [0, 1]


def test_interrupted_flush(make: Maker, clock: FakeClock) -> None:
    """Ctrl-C ends a flush; the items go on, and a later flush reports them."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_delay=None)
    batcher.put(0)
    line = batcher._line

    class Interrupted(FakeClock):
        """A clock on which the wait of this thread ends in Ctrl-C."""

        def wait(self, bell: Bell, deadline: float | None) -> bool:
            raise KeyboardInterrupt

    line.clock = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        batcher.flush()
    line.clock = clock
    handler.wait_for_batches(1)
    handler.let_go()

    assert batcher.flush().pending == 0
    assert not any(tally.bells for tally in line.queue.tallies)


def test_inline_flush(make: Maker) -> None:
    """In the inline mode a flush runs the handler on its own thread, paused or not."""
    handler = RecordingHandler(echo)
    with inline():
        batcher = make(handler)
        batcher.pause()
        batcher.add_many(range(3))
        assert handler.batches == []
        assert batcher.flush() == FlushReport(succeeded=3)
        batcher.put(4)
        batcher.resume()

    assert handler.batches == [[0, 1, 2], [4]]
