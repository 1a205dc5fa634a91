"""The slow way in, from where nobody may wait, and where no thread can be started."""

import threading
from typing import Any

import pytest

from batcher import BatcherClosedError, QueueFullError
from batcher._clock import Bell
from batcher.testing import FakeClock, RecordingHandler, inline
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, ScriptedInbox, adds_up, elsewhere

clock, make = stage.clock, stage.make

# Where nobody may wait


@pytest.mark.parametrize("place", ["handler", "hook", "callback"])
def test_own_threads_are_let_in_above_the_bound(make: Maker, place: str) -> None:
    """An add from a handler, hook or callback never waits: its item is admitted above the bound."""
    begun, going = threading.Event(), threading.Event()

    def add_more(*_: object) -> None:
        begun.set()
        assert going.wait(PATIENCE)
        batcher.add_many([2, 3])
        batcher.put(4)

    handler = RecordingHandler()

    def handle(items: list[Any]) -> None:
        handler(items)
        if items == [0] and place == "handler":
            add_more()

    hooks = {"on_batch": lambda _: add_more() if not begun.is_set() else None} if place == "hook" else {}
    batcher = make(handle, max_batch_size=1, max_pending=1, max_delay=0, **hooks)
    batcher.pause()
    future = batcher.add(0)
    if place == "callback":
        future.add_done_callback(add_more)
    batcher.resume()
    assert begun.wait(PATIENCE)
    batcher.put(1)
    going.set()

    handler.wait_for_batches(5)
    assert handler.items == [0, 1, 2, 3, 4]
    assert batcher.flush(PATIENCE).complete


def test_own_thread_is_refused_after_close_began(make: Maker, clock: FakeClock) -> None:
    """After close began an add of the handler is refused there too."""
    errors: list[BaseException] = []
    handler = HeldHandler()

    def handle(items: list[Any]) -> None:
        handler(items)
        try:
            batcher.add(2)
        except BatcherClosedError as error:
            errors.append(error)

    batcher = make(handle, max_delay=0)
    batcher.add(1)
    handler.wait_for_batches(1)
    closing = elsewhere(batcher.close)
    clock.wait_for_sleepers(1)
    handler.let_go()
    closing.result(PATIENCE)

    assert len(errors) == 1


def test_add_on_top_of_a_call_never_waits(make: Maker, clock: FakeClock) -> None:
    """An add by a signal handler or destructor that interrupts this thread inside the lock is let in at once."""
    handler = RecordingHandler(lambda items: items)
    batcher = make(handler, max_pending=1, max_delay=None, batch_key=lambda _: "key")
    batcher.pause()
    batcher.put(0)

    with batcher._line.lock:
        future = batcher.add(1)
        batcher.put(2)
        many = batcher.add_many([3, 4])
        assert batcher.status().pending == 5
    batcher.resume()
    batcher.flush()

    assert handler.items == [0, 1, 2, 3, 4]
    assert [item.result(0) for item in (future, *many)] == [1, 3, 4]


def test_bare_put_on_top_of_a_call(make: Maker) -> None:
    """The same for a put that needs no book-keeping of its own, and for a closed batcher, which refuses."""
    handler = RecordingHandler()
    batcher = make(handler, max_delay=None)
    batcher.put(0)

    with batcher._line.lock:
        batcher.put(1)
    batcher.close()
    with batcher._line.lock, pytest.raises(BatcherClosedError):
        batcher.put(2)

    assert handler.items == [0, 1]
    assert batcher.status().refused == 1


def test_add_on_top_of_a_wait_never_waits(make: Maker) -> None:
    """An add that interrupts a wait of its own thread, in whatever batcher, is let in above the bound."""
    here = threading.get_ident()

    class Interrupting(FakeClock):
        """A clock on which something interrupts each wait of this thread, whose time is over then."""

        def wait(self, bell: Bell, deadline: float | None) -> bool:
            if threading.get_ident() != here:
                return super().wait(bell, deadline)
            other.put(1)
            return False

    with Interrupting():
        batcher, other = make(max_pending=1, max_delay=None), make(max_pending=1, max_delay=None)
    batcher.put(0)
    other.put(0)

    with pytest.raises(QueueFullError):
        batcher.put(1)

    assert other.status().pending == 2
    assert batcher.status().pending == 1


def test_a_put_future_is_an_item_like_any(make: Maker) -> None:
    """An item that is itself a future of a batcher goes through as the item that it is."""
    handler = RecordingHandler()
    batcher, other = make(handler, max_delay=None), make(max_delay=None)
    item = other.add(1)

    batcher.put(item)
    batcher.flush()

    assert handler.items == [item]
    assert not item.done()


def test_cancel_on_top_of_a_call(make: Maker) -> None:
    """A cancel by a signal handler that interrupts this thread inside the lock works, and is accounted for later."""
    handler = RecordingHandler()
    batcher = make(handler, max_delay=None)
    batcher.pause()
    futures = batcher.add_many(range(3))

    with batcher._line.lock:
        assert futures[1].cancel()
        assert not futures[1].cancel() or futures[1].cancelled()

    assert batcher.status().pending == 2
    batcher.flush()
    assert handler.batches == [[0, 2]]


def test_key_whose_equality_raises(make: Maker, clock: FakeClock) -> None:
    """A key that can't be compared refuses its own item, for a producer that waited as well; nothing else suffers."""

    class Awkward:
        """Of one hash with 1, and not to be compared."""

        def __hash__(self) -> int:
            return hash(1)

        def __eq__(self, other: object) -> bool:
            raise OSError("not to be compared")

    batcher = make(lambda items: items, batch_key=lambda item: item, max_pending=2, max_delay=None)
    batcher.pause()
    first = batcher.add(1)
    with pytest.raises(OSError, match="compared"):
        batcher.add(Awkward())
    batcher.add(2)
    waiting = elsewhere(batcher.add, Awkward())
    clock.wait_for_sleepers(2)
    behind = elsewhere(batcher.add, 3)
    clock.wait_for_sleepers(3)

    batcher.resume()

    with pytest.raises(OSError, match="compared"):
        waiting.result(PATIENCE)
    behind.result(PATIENCE)
    batcher.flush()
    assert first.result(0) == 1
    assert batcher.status().succeeded == 3


# Threads that can't be started


def refuse(_: threading.Thread) -> None:
    """Be an interpreter that is shutting down."""
    raise RuntimeError("can't start new thread")


def test_no_thread_can_be_started(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, add says so, and nothing was accepted that nobody would send."""
    batcher = make(lambda items: items, max_delay=0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(BatcherClosedError, match="no thread can be started"):
            batcher.add(1)

    assert adds_up(batcher.status())
    assert batcher.status().pending == 0
    assert batcher.add(2).result(PATIENCE) == 2


@pytest.mark.parametrize("has_started", [False, True])
def test_interrupt_while_the_thread_starts(make: Maker, monkeypatch: pytest.MonkeyPatch, *, has_started: bool) -> None:
    """Ctrl-C while the first add starts the thread reaches the caller; the next add works."""
    batcher = make(lambda items: items, max_delay=0)
    real = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if has_started:
            real(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            batcher.add(1)

    assert batcher.add(2).result(PATIENCE) == 2


@pytest.mark.parametrize("call", ["add", "put"])
def test_interrupt_between_append_and_ring(make: Maker, clock: FakeClock, call: str) -> None:
    """Ctrl-C after the item was appended: it is wholly in, and the flusher is rung all the same."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=2, max_delay=None)
    batcher.put(0)
    clock.wait_for_sleepers(1)

    def interrupt() -> None:
        raise KeyboardInterrupt

    ScriptedInbox(batcher, after=interrupt)
    with pytest.raises(KeyboardInterrupt):
        getattr(batcher, call)(1)

    handler.wait_for_batches(1)
    assert handler.batches == [[0, 1]]


def test_two_first_adds(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads add for the first time at once: both find no flusher, and one is started."""
    batcher = make(lambda items: items, max_delay=0)

    def add_meanwhile() -> None:
        patch.undo()
        elsewhere(batcher.put, 1).result(PATIENCE)

    with monkeypatch.context() as patch:
        patch.setattr("batcher._batcher.hook_exit", add_meanwhile)
        assert batcher.add(2).result(PATIENCE) == 2

    flushers = [thread for thread in threading.enumerate() if thread.name == stage.flusher_of(batcher).name]
    assert len(flushers) == 1


def test_inline_mode_serves_waiting_producers(make: Maker, clock: FakeClock) -> None:
    """A producer that waited for room before the inline mode began is let in as batches are cut in it."""
    batcher = make(lambda items: items, max_pending=1, max_delay=None)
    batcher.pause()
    batcher.put(0)
    producer = elsewhere(batcher.add, 1)
    clock.wait_for_sleepers(2)

    with inline():
        assert batcher.flush().succeeded == 1
        future = producer.result(PATIENCE)
        batcher.resume()

    assert future.result(PATIENCE) == 1


def test_inline_mode_needs_no_thread(make: Maker) -> None:
    """In the inline mode every policy keeps its rules, and the handler runs on the thread that adds."""
    with inline():
        threads: list[int] = []
        batcher = make(lambda items: threads.append(threading.get_ident()), max_pending=1)

        def add() -> int:
            batcher.add_many(range(5))
            return threading.get_ident()

        assert {elsewhere(add).result(PATIENCE)} == set(threads)
        assert batcher.status().succeeded == 5
