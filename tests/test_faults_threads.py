"""Rows 13 and 43 of the faults, and what destructors do on the batcher's own threads (row 18)."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Batcher, BatcherClosedError, ReentrantCallError
from batcher.testing import FakeClock, RecordingHandler
from tests.stage import HeldHandler, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 5.0
user: contextvars.ContextVar[str] = contextvars.ContextVar("user")


def test_row_13_close_ends_every_wait_at_once() -> None:
    """A lingering batch, a producer that waits for room, a flush that waits for a handler: close ends them all.

    The clock stands still, so none of the waits can have ended by itself.
    """
    with FakeClock() as clock:
        handler = HeldHandler()
        lingering = Batcher(RecordingHandler(), max_delay=3600.0)
        full = Batcher(handler, max_delay=0.0, max_pending=1)
        without_handler: Batcher[int, Any] = Batcher()
        future = lingering.add(1)
        running = full.add("runs")
        handler.wait_for_batches(1)
        waiting = full.add("waits")
        clock.wait_for_sleepers(1)
        producer = elsewhere(full.put, "finds no room", block_timeout=3600.0)
        orphan = without_handler.add(1)
        flush = elsewhere(without_handler.flush, 3600.0)
        clock.wait_for_sleepers(4)

        assert lingering.close(PATIENCE).succeeded == 1
        assert future.result(PATIENCE) is None
        assert without_handler.close(PATIENCE).dropped == 1
        assert flush.result(PATIENCE).dropped == 1
        assert isinstance(orphan.exception(0), BatcherClosedError)
        assert full.close(0.0).dropped == 1
        assert isinstance(producer.exception(PATIENCE), BatcherClosedError)
        assert isinstance(waiting.exception(0), BatcherClosedError)
        handler.let_go()
        assert running.result(PATIENCE) is None


def contexts_seen(options: dict[str, Any]) -> list[str]:
    """Return the users that a handler, a hook and a callback find, for items that alice adds."""
    seen: list[str] = []

    def look(*_: object) -> None:
        seen.append(user.get("nobody"))

    def add() -> None:
        user.set("alice")
        batcher: Batcher[int, None] = Batcher(look, max_delay=0.0, on_batch=look, **options)
        with batcher:
            batcher.pause()
            batcher.add(1, timeout=options.get("timeout")).add_done_callback(look)
            batcher.resume()

    contextvars.Context().run(add)
    return seen


@pytest.mark.parametrize(
    "options",
    [{}, {"max_concurrent": 4}, {"handler_timeout": 60.0}],
    ids=["on the flusher", "on workers", "watched"],
)
def test_row_43_no_callers_context_serves_the_items_of_others(options: dict[str, Any]) -> None:
    """Handlers, hooks and callbacks run in an empty context, not in that of whoever came first."""
    assert contexts_seen(options) == ["nobody"] * 3


def test_row_43_lent_threads_get_no_callers_context() -> None:
    """An executor whose threads the batcher is the first to start doesn't hand on a caller's context either."""
    with ThreadPoolExecutor(1) as executor:
        assert set(contexts_seen({"executor": executor})) == {"nobody"}


def test_row_43_thread_that_takes_over_has_an_empty_context() -> None:
    """The thread that takes a busy flusher's place is started by a caller, and inherits nothing from it."""
    seen: list[str] = []
    handler = HeldHandler(lambda _: seen.append(user.get("nobody")))

    def add() -> None:
        user.set("alice")
        batcher.add(2, timeout=60.0)

    with Batcher(handler, max_delay=0.0) as batcher:
        batcher.put(1)
        handler.wait_for_batches(1)
        contextvars.Context().run(add)
        handler.let_go()

    assert seen == ["nobody", "nobody"]


class Messenger:
    """An item whose destructor calls the batcher that had it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def __del__(self) -> None:
        self._call()


@pytest.mark.parametrize("options", [{}, {"max_concurrent": 2}], ids=["on the flusher", "on workers"])
def test_row_18_destructor_on_the_batchers_own_thread_never_waits_for_room(options: dict[str, Any]) -> None:
    """An item that is freed after its batch may add another one although the queue is full: nobody else makes room."""
    handler = HeldHandler(lambda items: items.clear())
    handler.batches = Forgetful()
    batcher: Batcher[object, None] = Batcher(handler, max_delay=0.0, max_pending=1, **options)
    added = threading.Event()

    def add_again() -> None:
        batcher.put("from the destructor")
        added.set()

    batcher.put(Messenger(add_again))
    handler.wait_for_batches(1)
    for number in range(options.get("max_concurrent", 1)):
        batcher.put(number)
        handler.wait_for_batches(min(number + 2, options.get("max_concurrent", 1)))
    handler.let_go()

    assert added.wait(PATIENCE)
    assert batcher.close(PATIENCE).pending == 0


@pytest.mark.parametrize("name", ["flush", "close"])
def test_row_18_destructor_on_the_batchers_own_thread_may_not_wait_for_it(name: str) -> None:
    """Flush and close in a destructor that runs on the flusher would wait for themselves: they refuse."""
    errors: list[BaseException] = []
    called = threading.Event()
    handler = HeldHandler()
    handler.batches = Forgetful()
    batcher: Batcher[object, None] = Batcher(handler, max_delay=0.0)

    def wait_for_oneself() -> None:
        try:
            getattr(batcher, name)(PATIENCE)
        except BaseException as error:
            errors.append(error)
        called.set()

    batcher.put(Messenger(wait_for_oneself))
    handler.wait_for_batches(1)
    handler.let_go()

    assert called.wait(2 * PATIENCE)
    assert [type(error) for error in errors] == [ReentrantCallError]
    batcher.close(PATIENCE)


class Forgetful(list[list[Any]]):
    """A record of batches that keeps none of their items alive."""

    def append(self, batch: list[Any]) -> None:
        """Note that there was a batch."""
        super().append([])
