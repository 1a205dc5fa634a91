"""Ctrl-C between a change and its telling: somebody else tells; the places themselves are in `test_faults_reentry`."""

from __future__ import annotations

import atexit
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Batcher, BatcherClosedError, _drop, _future, _lifecycle, _tell, drain_on_sigterm
from batcher._line import Post
from batcher.testing import RecordingHandler
from tests.stage import ScriptedLock, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 10.0


def interrupted_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, with Ctrl-C at its first entry."""
    calls: list[bool] = []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(True)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    return interrupted


def test_cancel_that_is_interrupted_is_told_by_the_flusher(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocked caller of a cancelled item is woken though the cancel ended early."""
    with Batcher(RecordingHandler(), max_delay=60.0, adaptive=False) as batcher:
        future = batcher.add("item")
        caller = elsewhere(future.exception)
        while not _future.is_watched(future):  # type: ignore[arg-type]
            threading.Event().wait(0.001)
        monkeypatch.setattr(_future, "announce", interrupted_once(_future.announce))
        with pytest.raises(KeyboardInterrupt):
            future.cancel()

        assert type(caller.exception(PATIENCE)).__name__ == "CancelledError"
        assert batcher.status().cancelled == 1


def test_drop_that_is_interrupted_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a close drops ends although the close is interrupted there."""
    batcher: Batcher[str, Any] = Batcher()
    future = batcher.add("item")
    monkeypatch.setattr(_drop, "settle_dropped", interrupted_once(_drop.settle_dropped))
    with pytest.raises(KeyboardInterrupt):
        batcher.close()

    assert isinstance(future.exception(PATIENCE), BatcherClosedError)
    batcher.close()


def test_close_without_draining_that_is_interrupted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Futures that a close cancels are announced by the flusher if the close is interrupted there."""
    batcher: Batcher[str, Any] = Batcher(RecordingHandler(), max_delay=60.0)
    future = batcher.add("item")
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    monkeypatch.setattr(_drop, "tell_futures", interrupted_once(_tell.tell_futures))
    with pytest.raises(KeyboardInterrupt):
        batcher.close(drain=False)

    assert called.wait(PATIENCE)
    assert future.cancelled()
    batcher.close()


def test_item_cancelled_on_top_of_a_close_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A destructor that cancels an item while the close is about to do so leaves it cancelled once."""
    decide = _future.cancelled_state

    def cancel_first(future: Any) -> str:
        future.cancel()
        return decide(future)

    batcher: Batcher[str, Any] = Batcher(RecordingHandler(), max_delay=60.0)
    future = batcher.add("item")
    monkeypatch.setattr(_drop, "cancelled_state", cancel_first)
    report = batcher.close(drain=False)

    assert (future.cancelled(), report.cancelled, batcher.status().cancelled) == (True, 1, 1)


def test_wake_of_a_flusher_that_ends_just_then_pins_nothing() -> None:
    """A wake that comes between the flusher's last look and its end leaves nothing held."""

    class Ending(Post):
        """A post whose thread ends between the first look at it and the second."""

        looks = 0

        @property
        def is_over(self) -> bool:
            """Say no once, and yes from then on."""
            self.looks += 1
            return self.looks > 1

        @is_over.setter
        def is_over(self, value: bool) -> None:
            """Take the first value."""

    with Batcher(RecordingHandler()) as batcher:
        line = batcher._line
        line.pin = lambda: "pinned"
        line.post = post = Ending()
        line.wake()

        assert (post.held, line.pinned) == (None, None)
        line.post = None


def test_nothing_starts_when_the_exit_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last exit hook an add is refused: nothing would send the item."""
    monkeypatch.setattr(_lifecycle, "_is_over", [True])
    batcher: Batcher[str, Any] = Batcher(RecordingHandler())
    with pytest.raises(BatcherClosedError, match="shutting down"):
        batcher.add("item")
    batcher.close()


def test_exit_hook_without_the_early_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python has no early exit hook, the late one alone is registered."""
    registered: list[object] = []
    monkeypatch.setattr(_lifecycle, "_hooked", [])
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.delattr(threading, "_register_atexit")
    _lifecycle.hook_exit()

    assert registered == [_lifecycle.close_at_exit]


def test_sigterm_handler_of_another_language_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that Python didn't install can't be chained to, and stays."""
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    with pytest.raises(RuntimeError, match="wasn't installed from Python"):
        drain_on_sigterm()


def press_ctrl_c() -> None:
    """Do what Python's own handler of SIGINT does."""
    raise KeyboardInterrupt


def test_wait_that_is_interrupted_leaves_nobody_unheard() -> None:
    """Ctrl-C as one caller begins to wait, and no delay: the next caller is heard."""
    with Batcher(RecordingHandler(list), max_delay=None) as batcher:
        assert batcher.add(0).result(PATIENCE) == 0
        first, second = batcher.add(1), batcher.add(2)
        while not batcher._line.listens:
            threading.Event().wait(0.001)
        ScriptedLock(
            batcher, lambda: ScriptedLock(batcher, press_ctrl_c)
        )  # the second time, as `begin_wait` releases it
        with pytest.raises(KeyboardInterrupt):
            first.result(PATIENCE)

        assert elsewhere(second.result).result(PATIENCE) == 2


def test_add_that_is_interrupted_is_sent() -> None:
    """Ctrl-C between the append and the ring: what came in leaves, and waits for no other call."""
    handler: RecordingHandler = RecordingHandler(list)
    with Batcher(handler, max_delay=0.0) as batcher:
        assert batcher.add(0).result(PATIENCE) == 0
        while batcher._line.ring_at != 1:
            threading.Event().wait(0.001)
        ScriptedLock(batcher, press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            batcher.add(1)

        handler.wait_for_batches(2)
        assert handler.batches == [[0], [1]]
