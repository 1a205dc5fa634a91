"""The log, where nobody listens, and settlers that are interrupted."""

import logging
import threading
from typing import Any

import pytest

from batcher._future import announce
from batcher.testing import FakeClock
from tests import stage
from tests.stage import PATIENCE, Maker

clock, make = stage.clock, stage.make


# The log


def failing(_: list[Any]) -> None:
    """Fail with a text that must not get into a log."""
    raise ValueError("secret")


def test_failure_that_nobody_hears_is_logged(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """Without on_error, and with nobody at a future, a failed batch is logged: size and error type, never an item."""
    batcher = make(failing, max_delay=None, name="quiet\nname")

    batcher.add_many(["secret", "secret", "secret"])
    batcher.close()

    (record,) = caplog.records
    assert record.name == "batcher"
    assert record.levelno == logging.ERROR
    assert "3 items" in record.getMessage()
    assert "ValueError" in record.getMessage()
    assert "secret" not in record.getMessage()
    assert "\n" not in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize("listener", ["hook", "waiter", "callback"])
def test_failure_that_somebody_hears_is_not_logged(
    make: Maker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, listener: str
) -> None:
    """With on_error, a blocked caller or a callback the failure has its listener: no log."""
    done, blocked = threading.Event(), threading.Event()
    batcher = make(failing, max_delay=0, on_error=(lambda *_: None) if listener == "hook" else None)
    batcher.pause()
    future = batcher.add(1)
    if listener == "callback":
        future.add_done_callback(lambda _: done.set())
    if listener == "waiter":
        real = future._watched  # type: ignore[attr-defined]

        def watched(change: Any) -> bool:
            changed: bool = real(change)
            blocked.set()
            return changed

        monkeypatch.setattr(future, "_watched", watched)
        stage.elsewhere(future.exception, PATIENCE)
        assert blocked.wait(PATIENCE)
    batcher.resume()
    batcher.close()

    assert done.is_set() == (listener == "callback")
    assert caplog.records == []


def test_log_is_rate_limited(make: Maker, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """The same kind of trouble is logged at most once a minute; another kind, or a minute later, again."""
    kinds: list[type[Exception]] = [ValueError]

    def fail(_: list[int]) -> None:
        raise kinds[0]

    batcher = make(fail, max_delay=None)

    def fail_once() -> int:
        batcher.put(1)
        batcher.flush()
        clock.wait_for_sleepers(1)
        return len(caplog.records)

    assert [fail_once(), fail_once(), fail_once()] == [1, 1, 1]
    kinds[0] = OSError
    assert fail_once() == 2
    clock.advance(59.0)
    assert fail_once() == 2
    clock.advance(1.0)
    assert fail_once() == 3


def test_dropped_put_without_a_hook_is_logged(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """What was put has no future that could tell: its drop is logged. An item with a future isn't."""
    batcher = make(max_pending=1, overflow="drop_newest", max_delay=None)
    batcher.put(1)
    batcher.add(2)
    assert caplog.records == []

    batcher.put(3)

    assert "an item was dropped" in caplog.text
    assert "ItemDroppedError" in caplog.text


# Interrupted settlers


def test_interrupted_settler_leaves_the_rest_to_the_flusher(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C on a thread that was about to tell of a dropped item: the flusher tells instead."""
    batcher = make(max_pending=1, overflow="drop_oldest", max_delay=None)
    future = batcher.add(1)
    told = threading.Event()
    future.add_done_callback(lambda _: told.set())
    here = threading.get_ident()

    def interrupted(futures: Any, real: Any = announce) -> None:
        if threading.get_ident() == here:
            raise KeyboardInterrupt
        real(futures)

    with monkeypatch.context() as patch:
        patch.setattr("batcher._tell.announce", interrupted)
        with pytest.raises(KeyboardInterrupt):
            batcher.add(2)
        assert told.wait(PATIENCE)
