"""Close: what it sends, drops, waits for and reports."""

import math
import threading
from typing import Any

import pytest

from batcher import BatcherClosedError, FlushReport, ReentrantCallError
from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, elsewhere, endings, flusher_of

clock, make = stage.clock, stage.make


def echo(items: list[Any]) -> list[Any]:
    """Answer each item with itself."""
    return items


def test_close_drains_and_joins(make: Maker) -> None:
    """Close sends what waits, waits for it, and leaves no thread."""
    handler = RecordingHandler(echo)
    batcher = make(handler, max_batch_size=2, max_delay=None, max_concurrent=2)
    futures = batcher.add_many(range(5))

    report = batcher.close()

    assert report == FlushReport(succeeded=5)
    assert [future.result(0) for future in futures] == list(range(5))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batcher-")]
    assert batcher.status().state == "closed"


def test_close_of_an_unused_batcher(make: Maker) -> None:
    """A batcher that got no item closes at once, and refuses from then on."""
    batcher = make(echo)

    assert batcher.close() == FlushReport()
    assert batcher.status().state == "closed"
    with pytest.raises(BatcherClosedError):
        batcher.add(1)


def test_close_again(make: Maker) -> None:
    """Closing is idempotent: a second close finds nothing to report."""
    batcher = make(echo, max_delay=None)
    batcher.put(1)

    assert batcher.close() == FlushReport(succeeded=1)
    assert batcher.close() == FlushReport()
    assert batcher.close(0, drain=False) == FlushReport()


def test_close_while_paused(make: Maker) -> None:
    """A paused batcher sends at close as well."""
    batcher = make(echo, max_delay=None)
    batcher.pause()
    batcher.put(1)

    assert batcher.close() == FlushReport(succeeded=1)
    assert batcher.status().state == "closed"


def test_close_without_a_handler(make: Maker) -> None:
    """Where nothing will ever send the items, close fails them at once."""
    batcher = make(max_delay=None)
    future = batcher.add(1)

    assert elsewhere(batcher.close).result(PATIENCE) == FlushReport(dropped=1)
    with pytest.raises(BatcherClosedError, match="no handler"):
        future.result(0)


@pytest.mark.parametrize("options", [{}, {"batch_key": lambda item: item}], ids=["unkeyed", "keyed"])
def test_close_without_draining(make: Maker, clock: FakeClock, options: dict[str, Any]) -> None:
    """`drain=False` cancels what waits, and still waits for what a handler has."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=1, max_delay=0, **options)
    running = batcher.add(0)
    handler.wait_for_batches(1)
    waiting = batcher.add_many([1, 2])
    closing = elsewhere(batcher.close, drain=False)
    clock.wait_for_sleepers(1)

    assert [future.cancelled() for future in waiting] == [True, True]
    assert not closing.done()
    handler.let_go()
    assert closing.result(PATIENCE) == FlushReport(succeeded=1, cancelled=2)
    assert running.result(0) == 0
    assert handler.items == [0]


def test_close_timeout(make: Maker, clock: FakeClock) -> None:
    """When the timeout ends, what is unsent fails with BatcherClosedError; what a handler has keeps its future."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=1, max_delay=0)
    running, unsent = batcher.add_many([0, 1])
    handler.wait_for_batches(1)
    closing = elsewhere(batcher.close, 2.0)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    clock.wait_for_sleepers(1)
    assert batcher.status().state == "closing"
    assert not closing.done()

    clock.advance(1.0)

    report = closing.result(PATIENCE)
    assert (report.dropped, report.pending, report.complete) == (1, 1, False)
    with pytest.raises(BatcherClosedError, match="closed before this item was sent"):
        unsent.result(0)
    assert not running.done()
    handler.let_go()
    assert running.result(PATIENCE) == 0
    assert endings(batcher.status()) == {"succeeded": 1, "dropped": 1}


def test_close_with_a_stuck_handler(make: Maker, clock: FakeClock) -> None:
    """A call that was given up holds up no close, and ends by itself later."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_delay=0, handler_timeout=1.0)
    batcher.put(0)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)

    assert elsewhere(batcher.close).result(PATIENCE).pending == 0
    assert batcher.status().stuck_handlers == 1


def test_close_from_many_threads(make: Maker) -> None:
    """Many threads may close at once: all return, each item is sent once, and nothing else happens."""
    handler = RecordingHandler(echo)
    batcher = make(handler, max_batch_size=3, max_delay=None)
    batcher.add_many(range(10))
    together = threading.Barrier(8)

    def close() -> FlushReport:
        together.wait(PATIENCE)
        return batcher.close()

    closings = [elsewhere(close) for _ in range(8)]

    assert all(closing.result(PATIENCE).complete for closing in closings)
    assert handler.items == list(range(10))


def test_short_close_ends_a_long_one(make: Maker, clock: FakeClock) -> None:
    """A close whose timeout ends drops what is unsent, also for another that would wait longer: it reports that."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=1, max_delay=0)
    batcher.add_many([0, 1])
    handler.wait_for_batches(1)
    long = elsewhere(batcher.close)
    clock.wait_for_sleepers(1)

    assert batcher.close(0).dropped == 1
    handler.let_go()

    assert long.result(PATIENCE) == FlushReport(succeeded=1, dropped=1)


def test_close_joins_a_relieved_flusher(make: Maker) -> None:
    """A thread that another took the place of, while it was in a handler, is joined as well: its hooks are over."""
    handler, in_hook, go_on = HeldHandler(echo), threading.Event(), threading.Event()

    def on_batch(_: object) -> None:
        in_hook.set()
        go_on.wait(2 * PATIENCE)

    batcher = make(handler, max_delay=0, on_batch=on_batch)
    batcher.put(0)
    handler.wait_for_batches(1)
    relieved = flusher_of(batcher)
    batcher.add(1, timeout=60.0).cancel()
    handler.let_go()
    assert in_hook.wait(PATIENCE)
    threading.Timer(0.1, go_on.set).start()

    batcher.close()

    assert not relieved.is_alive()


@pytest.mark.parametrize("call", ["flush", "close"])
@pytest.mark.parametrize("value", [math.nan, -1, "1", True], ids=["nan", "negative", "str", "bool"])
def test_wrong_timeouts_are_refused(make: Maker, call: str, value: Any) -> None:
    """Seconds that are none are refused, and nothing was begun."""
    batcher = make(echo)

    with pytest.raises((TypeError, ValueError), match="timeout"):
        getattr(batcher, call)(value)

    assert batcher.status().state == "open"


def test_drain_must_be_a_flag(make: Maker) -> None:
    """`drain` is True or False, and nothing else."""
    with pytest.raises(TypeError, match="drain must be True or False, got 'no'"):
        make(echo).close(drain="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("call", ["flush", "close"])
def test_refused_on_top_of_a_call(make: Maker, call: str) -> None:
    """A signal handler that interrupts a call inside the lock can't flush or close: it would wait for itself."""
    batcher = make(echo)

    with batcher._line.lock, pytest.raises(ReentrantCallError, match=rf"{call}\(\) called on top"):
        getattr(batcher, call)()
