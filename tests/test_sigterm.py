"""Row 45 of the faults: SIGTERM skips every exit hook, unless `drain_on_sigterm` was called."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Batcher, drain_on_sigterm
from batcher._sigterm import _Drain
from batcher.testing import RecordingHandler
from tests.scripts import VERSIONS, run_script
from tests.stage import elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")

PATIENCE = 5.0


@pytest.fixture(autouse=True)
def _own_handler() -> Iterator[None]:
    """Put back the handler of SIGTERM that was there before the test."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("version", VERSIONS)
def test_row_45_without_opting_in_sigterm_loses_what_is_pending(version: str, tmp_path: Path) -> None:
    """What the documentation says: the default action runs no exit hook."""
    program = """
        batcher = Batcher(deliver, max_delay=3600)
        batcher.put("pending")
        os.kill(os.getpid(), signal.SIGTERM)
    """
    ended = run_script(program, tmp_path, version=version)

    assert (ended.lines, ended.code) == ([], -signal.SIGTERM)


@pytest.mark.parametrize("version", VERSIONS)
def test_row_45_delivers_and_then_dies_of_the_signal(version: str, tmp_path: Path) -> None:
    """Where the default was in place, what is pending is delivered, and the exit status is that of a termination."""
    program = """
        from batcher import drain_on_sigterm

        drain_on_sigterm()
        batchers = [Batcher(deliver, max_delay=3600, max_concurrent=number) for number in (1, 4)]
        for batcher in batchers:
            batcher.put("pending")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    """
    ended = run_script(program, tmp_path, version=version)

    assert (ended.lines, ended.code) == (["pending", "pending"], -signal.SIGTERM), ended.errors


def test_row_45_hung_handler_ends_within_its_budget(tmp_path: Path) -> None:
    """A handler that hangs holds the end up for its batcher's `exit_timeout`, all of them side by side."""
    program = """
        from batcher import drain_on_sigterm

        drain_on_sigterm()
        batchers = [Batcher(hang, max_delay=3600, exit_timeout=0.5) for _ in range(3)]
        for batcher in batchers:
            batcher.put("pending")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    """
    ended = run_script(program, tmp_path)

    assert (ended.lines, ended.code) == (["pending"] * 3, -signal.SIGTERM), ended.errors
    assert 0.5 <= ended.seconds < 2.0


@pytest.mark.parametrize("version", VERSIONS)
def test_row_45_signal_inside_a_locked_step_comes_again(version: str, tmp_path: Path) -> None:
    """A signal that finds the main thread with the batcher's lock in its hands waits for a better moment."""
    program = """
        from batcher import drain_on_sigterm

        drain_on_sigterm()
        batcher = Batcher(deliver, max_delay=3600)
        batcher.put("pending")
        with batcher._line.lock:
            signal.raise_signal(signal.SIGTERM)
            show("locked")
        time.sleep(10)
    """
    ended = run_script(program, tmp_path, version=version)

    assert (ended.lines, ended.code) == (["locked", "pending"], -signal.SIGTERM), ended.errors


def test_row_45_earlier_handler_runs_after_the_draining() -> None:
    """A handler that was there before gets the signal when all is delivered, and may raise."""
    handler = RecordingHandler()
    seen: list[tuple[int, list[int]]] = []

    def earlier(number: int, frame: FrameType | None) -> None:
        seen.append((number, handler.items))
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, earlier)
    drain_on_sigterm()
    with Batcher(handler, max_delay=3600.0) as batcher:
        batcher.put(1)
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        batcher.put(2)

    assert seen == [(signal.SIGTERM, [1])]
    assert handler.items == [1, 2]


def test_row_45_ignored_signal_is_still_ignored() -> None:
    """Where SIGTERM was ignored, it is; what is pending is sent all the same."""
    handler = RecordingHandler()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    drain_on_sigterm()
    with Batcher(handler, max_delay=3600.0) as batcher:
        batcher.put(1)
        signal.raise_signal(signal.SIGTERM)

        assert handler.items == [1]
        assert batcher.status().state == "open"


def test_row_45_default_action_is_restored_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end by the default action needs that action in place, and the signal once more."""
    taken: list[object] = []
    drain_on_sigterm()
    monkeypatch.setattr(signal, "raise_signal", lambda number: taken.append(signal.getsignal(number)))
    drain = signal.getsignal(signal.SIGTERM)
    assert isinstance(drain, _Drain)
    drain(signal.SIGTERM, None)

    assert taken == [signal.SIG_DFL]


def test_row_45_calling_it_again_changes_nothing() -> None:
    """However often it is called, the signal is answered once."""
    seen: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    drain_on_sigterm()
    installed = signal.getsignal(signal.SIGTERM)
    drain_on_sigterm()

    assert signal.getsignal(signal.SIGTERM) is installed
    signal.raise_signal(signal.SIGTERM)
    assert seen == [signal.SIGTERM]


def test_row_45_is_installed_by_the_main_thread_alone() -> None:
    """Python lets no other thread install a signal handler, and the error says so."""
    assert isinstance(elsewhere(drain_on_sigterm).exception(PATIENCE), ValueError)


def test_row_45_nothing_to_drain_is_nothing_to_wait_for() -> None:
    """Batchers that are idle, closed, never used or without a handler cost the signal no time."""
    seen: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    drain_on_sigterm()
    idle = Batcher(RecordingHandler())
    idle.add(1).result(PATIENCE)
    closed = Batcher(RecordingHandler())
    closed.put(1)
    closed.close(PATIENCE)
    without_handler: Batcher[int, None] = Batcher(exit_timeout=3600.0)
    future = without_handler.add(1)
    never_used = Batcher(RecordingHandler())
    signal.raise_signal(signal.SIGTERM)

    assert seen == [signal.SIGTERM]
    assert not future.done()
    for batcher in (idle, without_handler, never_used):
        batcher.close(PATIENCE)


def test_row_45_signal_on_top_of_a_locked_step_comes_again() -> None:
    """A signal that interrupts a locked step of the main thread is answered a moment later."""
    answered = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: answered.set())
    drain_on_sigterm()
    with Batcher(RecordingHandler(), max_delay=3600.0) as batcher:
        batcher.put(1)
        with batcher._line.lock:
            signal.raise_signal(signal.SIGTERM)
            assert not answered.is_set()

        assert answered.wait(PATIENCE)
        assert batcher.status().succeeded == 1


def test_row_45_signal_on_top_of_the_batchers_own_hook_comes_again() -> None:
    """A signal that interrupts a hook which the main thread runs is answered when the hook has returned."""
    answered = threading.Event()
    early: list[bool] = []

    def on_drop(item: int, error: BaseException) -> None:
        signal.raise_signal(signal.SIGTERM)
        early.append(answered.is_set())

    signal.signal(signal.SIGTERM, lambda number, frame: answered.set())
    drain_on_sigterm()
    options: dict[str, Any] = {"max_pending": 1, "overflow": "drop_newest", "on_drop": on_drop}
    with Batcher(RecordingHandler(), max_delay=3600.0, **options) as batcher:
        batcher.pause()
        batcher.put(1)
        batcher.put(2)

        assert early == [False]
        assert answered.wait(PATIENCE)
        assert batcher.status().succeeded == 1
