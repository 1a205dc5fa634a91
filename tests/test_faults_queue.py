"""Faults that trusted systems had: waking, idling, closing in time; numbered by the project's list."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from batcher import Batcher, BatcherClosedError
from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import (
    PATIENCE,
    HeldHandler,
    Maker,
    ScriptedInbox,
    adds_up,
    elsewhere,
    endings,
    flusher_of,
    put_all,
)

clock, make = stage.clock, stage.make


def echo(items: list[Any]) -> list[Any]:
    """Answer each item with itself."""
    return items


def test_row_09_full_batch_during_the_drain(make: Maker, clock: FakeClock) -> None:
    """Items that fill a batch while the flusher is busy wake it for the next one: it doesn't sleep the delay.

    1. The flusher is in a handler; nobody rings it then.
    2. A whole batch comes in, on the quick way of add, which takes no lock.
    3. The handler returns; the flusher goes to rest.
    """
    handler = HeldHandler()
    batcher = make(handler, max_batch_size=3, max_delay=3600.0)
    batcher.add_many([0, 1, 2])
    handler.wait_for_batches(1)

    for item in (3, 4, 5):
        batcher.put(item)
    handler.let_go()

    handler.wait_for_batches(2)
    assert handler.batches == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("moment", ["next_due", "due_at"])
def test_row_09_full_batch_as_the_flusher_goes_to_rest(make: Maker, clock: FakeClock, moment: str) -> None:
    """Items that come between the flusher's look at the queue and its sleep are seen before it sleeps."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=3, max_delay=3600.0)
    batcher.put(0)
    clock.wait_for_sleepers(1)
    queue = batcher._line.queue
    real = getattr(queue, moment)

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        setattr(queue, moment, real)
        elsewhere(put_all, batcher, (1, 2)).result(PATIENCE)
        return real(*arguments, **options)

    setattr(queue, moment, meanwhile)
    batcher.resume()  # wakes the flusher, who finds nothing to do

    handler.wait_for_batches(1)
    assert handler.batches == [[0, 1, 2]]


@pytest.mark.parametrize("delay", [0, 1e-9, 0.001, 3600.0, None])
def test_row_10_idle_costs_nothing(delay: float | None) -> None:
    """Whatever the delay, a batcher with nothing to do uses no processor time: no wait goes to zero or below."""
    with Batcher(echo, max_delay=delay) as batcher:
        batcher.add_many(range(100))
        batcher.flush()
        batcher.pause()
        batcher.add_many(range(100))
        before = time.process_time()
        threading.Event().wait(0.2)
        used = time.process_time() - before

    assert used < 0.1


@pytest.mark.parametrize("call", ["add", "put"])
def test_row_11_add_passes_its_check_while_close_drains(make: Maker, clock: FakeClock, call: str) -> None:
    """An add that has passed its check when close begins, and appends when close is over: its item ends all the same.

    1. An add on its quick way sees that the gate is open.
    2. Close runs from its beginning to its end.
    3. The add appends.
    """
    heard: list[tuple[object, str]] = []
    batcher = make(echo, max_delay=None, on_drop=lambda item, error: heard.append((item, type(error).__name__)))
    batcher.put(0)
    clock.wait_for_sleepers(1)
    ScriptedInbox(batcher, lambda: elsewhere(batcher.close).result(PATIENCE))

    future = getattr(batcher, call)(1)

    assert heard == [(1, "BatcherClosedError")]
    if future is not None:
        with pytest.raises(BatcherClosedError):
            future.result(0)
    assert endings(batcher.status()) == {"succeeded": 1, "dropped": 1}
    assert not flusher_of(batcher).is_alive()


def test_row_11_add_passes_its_check_as_close_begins(make: Maker, clock: FakeClock) -> None:
    """An add that appends after close has counted what it waits for: the item is sent, or fails as close ends."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=2, max_delay=None)
    batcher.add_many([0, 1])
    handler.wait_for_batches(1)
    batcher.put(2)
    closings = []

    def close_meanwhile() -> None:
        closings.append(elsewhere(batcher.close))
        clock.wait_for_sleepers(1)

    ScriptedInbox(batcher, close_meanwhile)

    future = batcher.add(3)
    handler.let_go()

    assert closings[0].result(PATIENCE).succeeded == 3
    assert isinstance(future.exception(PATIENCE), (BatcherClosedError, type(None)))
    assert adds_up(batcher.status())
    assert batcher.status().pending == 0


def test_row_11_add_appends_while_the_flusher_ends(make: Maker, clock: FakeClock) -> None:
    """An add that appends after close, and is slow to look at what it did: the flusher's last turn ends its item.

    1. A close times out: a handler runs on.
    2. An add that had passed its check appends.
    3. The handler returns, and the flusher looks for the last time.
    4. The add looks whether it has to clean up after itself.
    """
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=3, max_delay=None)
    batcher.add_many([0, 1, 2])
    handler.wait_for_batches(1)
    batcher.put(3)

    def finish() -> None:
        handler.let_go()
        flusher_of(batcher).join(PATIENCE)

    ScriptedInbox(batcher, before=lambda: elsewhere(batcher.close, 0).result(PATIENCE), after=finish)
    future = batcher.add(4)

    assert isinstance(future.exception(PATIENCE), BatcherClosedError)
    assert endings(batcher.status()) == {"succeeded": 3, "dropped": 2}


def test_row_11_close_as_the_first_add_starts_the_thread(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very first add meets a close: it raises, or its future ends; the close works, and leaves no thread.

    1. The first add has made the batcher's thread, and is about to start it.
    2. Close runs from its beginning to its end.
    3. The add starts the thread.
    """
    batcher = make(echo, max_delay=0)
    real, closings = threading.Thread.start, []

    def start(thread: threading.Thread) -> None:
        if thread.name.endswith("-flusher"):
            closings.append(elsewhere(batcher.close))
            closings[0].exception(PATIENCE)
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    try:
        future = batcher.add(1)
    except BatcherClosedError:
        pass
    else:
        assert isinstance(future.exception(PATIENCE), (BatcherClosedError, type(None)))

    assert closings[0].result(PATIENCE).pending == 0
    assert adds_up(batcher.status())
    flusher_of(batcher).join(PATIENCE)
    assert not flusher_of(batcher).is_alive()


# Row 12: flush and close outlast their timeout


def hung(**options: Any) -> tuple[Batcher[Any, Any], Callable[[], None]]:
    """Return a batcher whose handler hangs, with more waiting, and what lets it go."""
    handler: Any = HeldHandler(echo)
    batcher: Batcher[Any, Any] = Batcher(handler, max_batch_size=1, max_delay=0, **options)
    batcher.add_many(range(5))
    handler.wait_for_batches(1)
    return batcher, handler.let_go


def hung_hook() -> tuple[Batcher[Any, Any], Callable[[], None]]:
    """Return a batcher whose hook hangs."""
    begun, go_on = threading.Event(), threading.Event()

    def on_batch(_: object) -> None:
        begun.set()
        go_on.wait(4 * PATIENCE)

    batcher: Batcher[Any, Any] = Batcher(echo, max_batch_size=1, max_delay=0, on_batch=on_batch)
    batcher.add_many(range(5))
    assert begun.wait(PATIENCE)
    return batcher, go_on.set


def unmanned(**options: Any) -> tuple[Batcher[Any, Any], Callable[[], None]]:
    """Return a batcher that has items and no handler."""
    batcher: Batcher[Any, Any] = Batcher(max_delay=None, **options)
    batcher.add_many(range(5))
    return batcher, lambda: None


STATES: dict[str, Callable[[], tuple[Batcher[Any, Any], Callable[[], None]]]] = {
    "hung": hung,
    "hung-worker": lambda: hung(max_concurrent=3),
    "hung-key": lambda: hung(batch_key=lambda item: item % 2, max_concurrent=3),
    "hung-with-deadline": lambda: hung(handler_timeout=60.0),
    "hung-hook": hung_hook,
    "no-handler": unmanned,
}


@pytest.mark.parametrize("call", ["flush", "close"])
@pytest.mark.parametrize("seconds", [0, 0.2])
@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_row_12_timeouts_hold(state: Callable[[], Any], call: str, seconds: float) -> None:
    """At most the timeout plus 0.2 s in any state, and an honest report of what is left."""
    batcher, let_go = state()
    before = batcher.status()
    began = time.monotonic()

    report = getattr(batcher, call)(seconds)

    took = time.monotonic() - began
    status = batcher.status()
    let_go()
    batcher.close(PATIENCE)
    assert took <= seconds + 0.2
    assert report.pending + report.dropped + report.succeeded == before.pending + before.processing
    assert report.pending + report.dropped > 0
    assert not report.complete
    assert status.pending + status.processing == report.pending
