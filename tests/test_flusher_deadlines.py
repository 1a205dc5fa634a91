"""Items and calls that take too long."""

import threading
from typing import Any

import pytest

from batcher import HandlerTimeoutError, ItemTimeoutError
from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, ScriptedLock, elsewhere, endings, flusher_of

clock, make = stage.clock, stage.make


def echo(items: list[Any]) -> list[Any]:
    """Answer each item with itself."""
    return items


# An item's own deadline


def test_item_expires_in_the_queue(make: Maker, clock: FakeClock) -> None:
    """An item whose deadline passes leaves the queue, at that moment; its neighbours stay."""
    handler = RecordingHandler(echo)
    batcher = make(handler, max_delay=None)
    future, neighbour = batcher.add(0, timeout=2.0), batcher.add(1)
    clock.wait_for_sleepers(1)

    clock.advance(1.5)
    clock.wait_for_sleepers(1)
    assert not future.done()
    clock.advance(0.5)

    with pytest.raises(ItemTimeoutError):
        future.result(PATIENCE)
    batcher.flush()
    assert neighbour.result(0) == 1
    assert handler.batches == [[1]]
    assert endings(batcher.status()) == {"succeeded": 1, "expired": 1}


def test_add_many_shares_a_timeout(make: Maker, clock: FakeClock) -> None:
    """With `timeout` each of the items has the deadline; those that are done by then keep their results."""
    batcher = make(echo, max_batch_size=2, max_delay=None)

    futures = batcher.add_many(range(3), timeout=1.0)
    results = [future.result(PATIENCE) for future in futures[:2]]
    clock.advance(1.0)

    with pytest.raises(ItemTimeoutError):
        futures[2].result(PATIENCE)
    assert results == [0, 1]
    assert [future.result(0) for future in futures[:2]] == [0, 1]


def test_item_expires_in_the_handler(make: Maker, clock: FakeClock) -> None:
    """In a handler too the deadline ends the item: what the handler returns for it is thrown away."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=3, max_delay=None)
    futures = [batcher.add(0), batcher.add(1, timeout=2.0), batcher.add(2)]
    handler.wait_for_batches(1)

    clock.advance(2.0)

    with pytest.raises(ItemTimeoutError):
        futures[1].result(PATIENCE)
    assert batcher.status().processing == 2
    assert not futures[0].done()
    handler.let_go()
    assert [futures[0].result(PATIENCE), futures[2].result(PATIENCE)] == [0, 2]
    assert endings(batcher.status()) == {"succeeded": 2, "expired": 1}


def test_flusher_in_a_handler_is_relieved(make: Maker, clock: FakeClock) -> None:
    """An item with a deadline comes while the flusher itself is in a handler: its deadline is watched all the same."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=1, max_delay=0)
    first = batcher.add(0)
    handler.wait_for_batches(1)
    replaced = flusher_of(batcher)
    second, third = batcher.add(1, timeout=2.0), batcher.add(2, timeout=2.0)
    clock.wait_for_sleepers(1)

    clock.advance(2.0)

    for future in (second, third):
        with pytest.raises(ItemTimeoutError):
            future.result(PATIENCE)
    assert flusher_of(batcher) is not replaced
    assert not first.done()
    fourth = batcher.add(3)
    handler.let_go()
    assert [first.result(PATIENCE), fourth.result(PATIENCE)] == [0, 3]
    replaced.join(PATIENCE)
    assert not replaced.is_alive()
    assert handler.batches == [[0], [3]]


def test_no_thread_to_relieve(make: Maker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started to take over, add still works: the deadline is seen after the handler."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=1, max_delay=0)
    first = batcher.add(0)
    handler.wait_for_batches(1)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        second = batcher.add(1, timeout=2.0)
    clock.advance(2.0)
    handler.let_go()

    assert first.result(PATIENCE) == 0
    with pytest.raises(ItemTimeoutError):
        second.result(PATIENCE)


@pytest.mark.parametrize("has_started", [False, True])
def test_interrupt_while_another_takes_over(
    make: Maker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, *, has_started: bool
) -> None:
    """Ctrl-C while the thread that takes over is started: the batcher goes on, with that thread or without."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=1, max_delay=0)
    first = batcher.add(0)
    handler.wait_for_batches(1)
    real = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if has_started:
            real(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            batcher.add(1, timeout=60.0)
    handler.let_go()

    assert first.result(PATIENCE) == 0
    assert batcher.add(2).result(PATIENCE) == 2


def test_deadlines_of_ended_items_are_forgotten(make: Maker) -> None:
    """Far deadlines of items that ended long ago take no memory, although one before them is still to come."""
    batcher = make(max_delay=None)
    batcher.add("stays", timeout=3600.0)

    for item in range(300):
        batcher.add(item, timeout=7200.0).cancel()

    assert len(batcher._line.deadlines) < 100


def test_deadline_passes_as_the_result_is_told(make: Maker, clock: FakeClock) -> None:
    """An item that was settled, and whose waiters have yet to be told, doesn't expire any more."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_delay=0, max_concurrent=2)
    future = batcher.add(0, timeout=1.0)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    assert future._condition is not None  # as `concurrent.futures.wait` asks for: telling is a step of its own then
    (worker,) = [thread for thread in threading.enumerate() if "-worker-" in thread.name]

    def pass_the_deadline() -> None:
        clock.advance(1.0)
        clock.wait_for_sleepers(1)

    ScriptedLock(batcher, pass_the_deadline, worker)
    handler.let_go()

    assert future.result(PATIENCE) == 0
    assert endings(batcher.status()) == {"succeeded": 1}


# A handler's time


def test_handler_timeout_gives_the_call_up(make: Maker, clock: FakeClock) -> None:
    """A call that takes too long: its items fail at once, another thread goes on, a late result is thrown away."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=2, max_delay=0, handler_timeout=3.0)
    stuck = batcher.add_many([0, 1])
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    clock.advance(2.0)
    clock.wait_for_sleepers(1)
    assert not stuck[0].done()

    clock.advance(1.0)

    for future in stuck:
        with pytest.raises(HandlerTimeoutError, match=r"longer than 3\.0 seconds"):
            future.result(PATIENCE)
    assert batcher.status().stuck_handlers == 1
    after = batcher.add(2)
    handler.wait_for_batches(2)
    workers = [thread for thread in threading.enumerate() if "-worker-" in thread.name]
    handler.let_go()
    assert after.result(PATIENCE) == 2
    assert batcher.close().complete
    for worker in workers:
        worker.join(PATIENCE)
    assert batcher.status().stuck_handlers == 0
    assert endings(batcher.status()) == {"succeeded": 1, "failed": 2}


def test_one_at_a_time_means_all_but_the_stuck(make: Maker, clock: FakeClock) -> None:
    """With one call at a time, a call that was given up no longer counts; the ones after it run one by one."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=1, max_delay=0, handler_timeout=1.0)

    for number in range(1, 4):
        batcher.put(number)
        handler.wait_for_batches(number)
        clock.wait_for_sleepers(1)
        clock.advance(1.0)
        clock.wait_for_sleepers(1)
    batcher.put(4)
    batcher.put(5)
    handler.wait_for_batches(4)
    clock.wait_for_sleepers(1)

    status = batcher.status()
    assert (status.failed, status.processing, status.pending) == (3, 1, 1)
    handler.let_go()
    batcher.flush()
    assert handler.items == [1, 2, 3, 4, 5]


def test_key_of_a_stuck_call_goes_on(make: Maker, clock: FakeClock) -> None:
    """When a key's call is given up, the key's next batch may leave."""
    handler = HeldHandler()
    batcher = make(handler, batch_key=lambda _: "key", max_batch_size=1, max_delay=0, handler_timeout=1.0)
    batcher.put(0)
    batcher.put(1)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)

    clock.advance(1.0)

    handler.wait_for_batches(2)
    assert handler.batches == [[0], [1]]


def test_call_that_ends_as_it_is_given_up(make: Maker, clock: FakeClock) -> None:
    """A call that ends between the flusher's look at the time and its giving up keeps its results."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_delay=0, handler_timeout=1.0)
    future = batcher.add(0)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)

    def end() -> None:
        handler.let_go()
        elsewhere(future.result).result(PATIENCE)

    ScriptedLock(batcher, end, flusher_of(batcher))
    clock.advance(1.0)

    assert future.result(PATIENCE) == 0
    assert batcher.close().complete
    assert batcher.status().stuck_handlers == 0


def test_deadline_doesnt_wait_for_a_hook(make: Maker, clock: FakeClock) -> None:
    """While a hook of the last batch takes its time another thread sees to the deadlines."""
    begun, going = threading.Event(), threading.Event()

    def on_batch(_: object) -> None:
        begun.set()
        assert going.wait(PATIENCE)

    batcher = make(echo, max_delay=None, on_batch=on_batch)
    assert batcher.add(0).result(PATIENCE) == 0
    assert begun.wait(PATIENCE)
    first = flusher_of(batcher)
    future = batcher.add(1, timeout=2.0)
    clock.wait_for_sleepers(1)
    clock.advance(2.0)

    assert isinstance(future.exception(PATIENCE), ItemTimeoutError)
    going.set()
    first.join(PATIENCE)
    assert not first.is_alive()
    assert batcher.add(2).result(PATIENCE) == 2
