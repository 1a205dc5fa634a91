"""A batcher that nobody closed: dropped, and collected (row 31 of the faults), or overtaken by the exit."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Batcher, BatcherClosedError, _lifecycle
from batcher._clock import monotonic
from batcher._drain import begin_close
from batcher.testing import FakeClock, RecordingHandler
from tests.stage import HeldHandler, flusher_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 5.0


@contextmanager
def resource_warnings() -> Iterator[list[str]]:
    """Collect the texts of the ResourceWarnings that are given inside."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
        gc.collect()
    texts += [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)]


def wait_for_end(thread: threading.Thread) -> bool:
    """Wait for a thread, and say whether it has ended."""
    thread.join(PATIENCE)
    return not thread.is_alive()


def test_row_31_dropped_batcher_drains_and_ends_with_one_warning() -> None:
    """Dropped unclosed, a batcher sends at once what it has, ends its thread, and says so exactly once."""
    handler = RecordingHandler()
    batcher = Batcher(handler, max_delay=3600.0, name="forgotten")
    futures = batcher.add_many(range(3))
    thread = flusher_of(batcher)
    with resource_warnings() as texts:
        del batcher

        assert wait_for_end(thread)
    assert handler.items == [0, 1, 2]
    assert [future.result(0) for future in futures] == [None] * 3
    assert texts == ["batcher 'forgotten' was dropped without close(); it drains now"]


def test_row_31_dropped_idle_batcher_ends_its_thread_with_one_warning() -> None:
    """With nothing pending there is nothing to send, but the thread ends and the warning is due."""
    batcher = Batcher(RecordingHandler())
    batcher.add(1).result(PATIENCE)
    thread = flusher_of(batcher)
    with resource_warnings() as texts:
        del batcher

        assert wait_for_end(thread)
    assert len(texts) == 1


def test_row_31_never_used_batcher_is_dropped_silently() -> None:
    """A batcher that never got an item has no thread, and nothing to warn of."""
    threads = threading.active_count()
    with resource_warnings() as texts:
        batcher = Batcher(RecordingHandler())
        del batcher

    assert texts == []
    assert threading.active_count() == threads


def test_row_31_closed_batcher_is_dropped_silently() -> None:
    """Whoever closed has done what was to be done."""
    with resource_warnings() as texts:
        batcher = Batcher(RecordingHandler())
        batcher.put(1)
        batcher.close(PATIENCE)
        del batcher

    assert texts == []


class Holder:
    """An object that holds a batcher whose handler is its own method: a reference cycle."""

    def __init__(self, seen: list[Any], threads: list[threading.Thread]) -> None:
        self._seen = seen
        self.batcher: Batcher[int, None] = Batcher(self._handle, max_delay=3600.0)
        self.batcher.put(1)
        threads.append(flusher_of(self.batcher))

    def _handle(self, items: list[int]) -> None:
        self._seen += items


def test_row_31_idle_cycle_of_batcher_and_handler_is_collected() -> None:
    """A batcher that its handler's owner holds doesn't keep that owner alive once nothing is pending."""
    seen: list[int] = []
    threads: list[threading.Thread] = []
    holder = Holder(seen, threads)
    holder.batcher.flush(PATIENCE)
    gone = weakref.ref(holder)
    with resource_warnings() as texts:
        del holder
        # The flusher lets go of the line only as it comes to rest, which may be just after the flush.
        for _ in range(1000):
            gc.collect()
            if gone() is None:
                break
            threads[0].join(0.005)

        assert wait_for_end(threads[0])
    assert gone() is None
    assert seen == [1]
    assert len(texts) == 1


def test_row_31_batcher_dropped_in_the_expression_that_used_it_delivers() -> None:
    """`Batcher(handler).put(item)` is dropped before anybody could close it, and delivers."""
    handler = RecordingHandler()
    with resource_warnings() as texts:
        Batcher(handler, max_delay=3600.0).put(1)

        handler.wait_for_batches(1, PATIENCE)
    assert handler.items == [1]
    assert len(texts) == 1


def test_row_31_dropped_without_a_handler_fails_its_items() -> None:
    """No handler will ever come, so what waits for one fails at once."""
    batcher: Batcher[int, Any] = Batcher(max_delay=3600.0)
    future = batcher.add(1)
    thread = flusher_of(batcher)
    with resource_warnings() as texts:
        del batcher

        assert isinstance(future.exception(PATIENCE), BatcherClosedError)
        assert wait_for_end(thread)
    assert len(texts) == 1


def test_row_31_dropped_batcher_has_its_exit_timeout_behind_a_hung_handler() -> None:
    """Behind a handler that hangs, what waits is dropped when `exit_timeout` has passed, not before, not never."""
    handler = HeldHandler()
    with FakeClock() as clock, resource_warnings() as texts:
        batcher = Batcher(handler, max_delay=0.0, max_batch_size=1, handler_timeout=3600.0, exit_timeout=5.0)
        hung = batcher.add("hung")
        handler.wait_for_batches(1)
        behind = batcher.add("behind")
        thread = flusher_of(batcher)
        clock.wait_for_sleepers(1)
        del batcher
        clock.wait_for_sleepers(1)
        clock.advance(4.9)
        clock.wait_for_sleepers(1)

        assert not behind.done()
        clock.advance(0.2)
        assert isinstance(behind.exception(PATIENCE), BatcherClosedError)
        handler.let_go()
        assert hung.result(PATIENCE) is None
        assert wait_for_end(thread)
    assert len(texts) == 1


def test_row_31_collection_inside_a_locked_step_takes_no_lock() -> None:
    """Garbage collection may drop a batcher anywhere, while another thread holds its line's lock included."""
    handler = RecordingHandler()
    batcher = Batcher(handler, max_delay=3600.0)
    batcher.put(1)
    line, thread = batcher._line, flusher_of(batcher)
    with resource_warnings() as texts:
        line.lock.acquire()
        try:
            other = threading.Thread(target=batcher._finalizer)
            other.start()
            other.join(PATIENCE)

            assert not other.is_alive()
        finally:
            line.lock.release()
        assert wait_for_end(thread)
    assert handler.items == [1]
    assert len(texts) == 1


def test_row_31_dropped_while_closing_is_left_to_the_close() -> None:
    """A batcher that is being closed elsewhere as it is dropped is drained by that close, not cut short."""
    handler = HeldHandler()
    batcher = Batcher(handler, max_delay=0.0, max_batch_size=1, exit_timeout=0.0)
    futures = batcher.add_many(range(2))
    handler.wait_for_batches(1)
    begin_close(batcher._line, None)
    with resource_warnings():
        batcher._finalizer()
    handler.let_go()

    assert [future.result(PATIENCE) for future in futures] == [None, None]
    batcher.close(PATIENCE)


@pytest.fixture(name="exits")
def _exits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hooks of the exit run in a process that goes on."""
    monkeypatch.setattr(_lifecycle, "_is_over", [])


def test_exit_hooks_deliver_then_close(exits: None) -> None:
    """The first hook of the exit sends and leaves the batcher open, the second one closes it."""
    handler = RecordingHandler()
    batcher = Batcher(handler, max_delay=3600.0)
    never_used = Batcher(handler)
    without_handler: Batcher[int, Any] = Batcher(max_delay=3600.0)
    waits = without_handler.add(0)
    batcher.put(1)
    _lifecycle.flush_at_exit()

    assert handler.items == [1]
    batcher.put(2)
    _lifecycle.close_at_exit()
    assert handler.items == [1, 2]
    assert isinstance(waits.exception(0), BatcherClosedError)
    with pytest.raises(BatcherClosedError):
        batcher.put(3)
    assert never_used.status().state == "open"
    for each in (batcher, never_used, without_handler):
        each.close(PATIENCE)


def test_exit_hooks_share_one_budget(exits: None) -> None:
    """What the first hook has waited for a hung handler, the second one doesn't wait again."""
    handler = HeldHandler()
    batcher = Batcher(handler, max_delay=0.0, max_batch_size=1, exit_timeout=0.2)
    futures = batcher.add_many(["hung", "behind"])
    handler.wait_for_batches(1)
    _lifecycle.flush_at_exit()

    assert batcher._line.exit_spent >= 0.2
    began = monotonic()
    _lifecycle.close_at_exit()
    assert monotonic() - began < 0.15
    assert isinstance(futures[1].exception(0), BatcherClosedError)
    handler.let_go()
    assert futures[0].result(PATIENCE) is None
    batcher.close(PATIENCE)


def test_registry_forgets_lines_that_were_collected() -> None:
    """A process that makes a million batchers keeps no trace of those that are gone."""
    batcher = Batcher(RecordingHandler())
    line = weakref.ref(batcher._line)
    gc.collect()
    entries = len(_lifecycle._registry)

    assert line() in _lifecycle.lines()
    del batcher
    gc.collect()
    assert line() is None
    assert len(_lifecycle._registry) == entries - 1
