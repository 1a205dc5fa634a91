"""Row 34 of the faults: a wall clock that stands still, ticks or jumps changes nothing but the times shown."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from freezegun import freeze_time

from batcher import Batcher, ItemTimeoutError
from batcher.testing import RecordingHandler
from tests.scripts import run_script

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 5.0
NOON = datetime(2001, 2, 3, 12, tzinfo=UTC)


@pytest.mark.parametrize("tick", [False, True])
def test_row_34_delays_run_on_while_time_is_frozen(tick: bool) -> None:  # noqa: FBT001
    """Frozen or ticking, a batch leaves after its real delay, and the status shows the frozen time."""
    handler = RecordingHandler()
    with freeze_time(NOON, tick=tick), Batcher(handler, max_delay=0.05) as batcher:
        assert batcher.add(1).result(PATIENCE) is None
        shown = batcher.status().last_batch_time

    assert shown is not None
    assert NOON <= shown < NOON + timedelta(seconds=PATIENCE if tick else 0, microseconds=1)


def test_row_34_clock_that_goes_back_holds_nothing_up() -> None:
    """A clock that is set back by a year while a batch waits delays neither the batch nor a deadline."""
    handler = RecordingHandler()
    with freeze_time(NOON) as frozen, Batcher(handler, max_delay=0.05) as batcher:
        first = batcher.add(1)
        frozen.move_to(NOON - timedelta(days=365))

        assert first.result(PATIENCE) is None
        assert batcher.status().last_batch_time == NOON - timedelta(days=365)
        assert batcher.status().oldest_pending_age is None


def test_row_34_clock_that_leaps_ahead_hurries_nothing() -> None:
    """A clock that is set a year ahead makes no batch leave early and no item expire."""
    handler = RecordingHandler()
    with freeze_time(NOON) as frozen, Batcher(handler, max_delay=3600.0) as batcher:
        future = batcher.add(1, timeout=3600.0)
        frozen.move_to(NOON + timedelta(days=365))
        age = batcher.status().oldest_pending_age

        assert age is not None
        assert age < PATIENCE
        assert batcher.flush(PATIENCE).complete
        assert future.result(0) is None


def test_row_34_every_timeout_runs_on_while_time_is_frozen() -> None:
    """Item deadlines, flush, close and result keep real time, however deep in the stack they look at it."""
    with freeze_time(NOON):
        batcher = Batcher[int, None](max_delay=0.0)  # no handler: whatever waits, waits for its timeout
        expiring = batcher.add(1, timeout=0.05)
        waiting = batcher.add(2)

        assert isinstance(expiring.exception(PATIENCE), ItemTimeoutError)
        assert batcher.flush(0.05).pending == 1
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        assert batcher.close(0.05).dropped == 1
        assert batcher.status().dropped == 1


def test_row_34_batcher_made_before_and_used_while_frozen() -> None:
    """It makes no difference whether time was frozen before or after the batcher was made."""
    handler = RecordingHandler()
    with Batcher(handler, max_delay=0.05) as batcher:
        batcher.add(1).result(PATIENCE)
        with freeze_time(NOON):
            batcher.add(2).result(PATIENCE)
            assert batcher.status().last_batch_time == NOON
        batcher.add(3).result(PATIENCE)
        shown = batcher.status().last_batch_time

    assert shown is not None
    assert abs(shown.timestamp() - time.time()) < 60.0


def test_row_34_first_import_while_time_is_frozen(tmp_path: Path) -> None:
    """A library that is first imported while time stands still measures real time all the same."""
    program = """
        import time
        from freezegun import freeze_time

        with freeze_time("2001-02-03 12:00:00"):
            from batcher import Batcher
            with Batcher(list, max_delay=0.05) as batcher:
                print(batcher.add("in-time").result(5))
                print(batcher.status().last_batch_time.isoformat())
                waiting = Batcher(max_delay=0.05)
                future = waiting.add(1, timeout=0.05)
                print(type(future.exception(5)).__name__, waiting.flush(0.05).pending)
                waiting.close(0.05)
    """
    ended = run_script(program, tmp_path, preamble="")

    assert ended.lines == ["in-time", "2001-02-03T12:00:00+00:00", "ItemTimeoutError", "0"], ended.errors
