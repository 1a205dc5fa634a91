"""What a batcher says about itself."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batcher import CircuitBreaker, CircuitOpenError, HandlerTimeoutError, Retry
from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, endings

clock, make = stage.clock, stage.make


def double(items: list[int]) -> list[int]:
    """Answer each number with its double."""
    return [2 * item for item in items]


def test_status_of_a_fresh_batcher(make: Maker) -> None:
    """Before the first item every count is zero, and times are None."""
    status = make(double).status()

    assert status.state == "open"
    assert status.last_batch_time is None
    assert status.last_batch_seconds is None
    assert status.oldest_pending_age is None
    assert status.average_batch_size == 0.0
    assert {getattr(status, name) for name in ("pending", "processing", "processed", "batches", "accepted")} == {0}
    assert status.stuck_handlers == 0
    assert endings(status) == {}


def test_status_counts(make: Maker, clock: FakeClock) -> None:
    """Every item is counted where it is, and every call with its size, moment and duration."""
    handler = HeldHandler(lambda items: [ValueError() if item == 1 else item for item in items])
    batcher = make(handler, max_batch_size=3, max_delay=None)

    batcher.add_many(range(3))
    handler.wait_for_batches(1)
    late = batcher.add_many(range(2))
    late[0].cancel()
    clock.advance(2.5)
    during = batcher.status()
    handler.let_go()
    batcher.flush()
    after = batcher.status()

    assert (during.pending, during.processing, during.batches, during.accepted) == (1, 3, 1, 5)
    assert (after.pending, after.processing, after.processed, after.batches) == (0, 0, 4, 2)
    assert endings(after) == {"succeeded": 2, "failed": 2, "cancelled": 1}
    assert after.average_batch_size == 2.0
    assert after.last_batch_seconds == 0.0
    assert after.last_batch_time is not None
    assert after.last_batch_time.tzinfo is UTC
    assert abs(datetime.now(UTC) - after.last_batch_time) < timedelta(minutes=1)


def test_status_duration_of_the_last_call(make: Maker, clock: FakeClock) -> None:
    """`last_batch_seconds` is how long the last finished call took."""
    handler = HeldHandler()
    batcher = make(handler, max_delay=0)
    future = batcher.add(1)
    handler.wait_for_batches(1)

    clock.advance(2.5)
    handler.let_go()
    future.result(PATIENCE)

    assert batcher.status().last_batch_seconds == 2.5


def test_status_duration_of_a_call_that_is_given_up(make: Maker, clock: FakeClock) -> None:
    """A call that outlasts `handler_timeout` took as long as it was waited for."""
    handler = HeldHandler()
    batcher = make(handler, max_delay=0, handler_timeout=2.0)
    future = batcher.add(1)
    handler.wait_for_batches(1)

    clock.advance(2.0)
    assert isinstance(future.exception(PATIENCE), HandlerTimeoutError)

    assert batcher.status().last_batch_seconds == 2.0


def test_status_duration_is_of_calls_alone(make: Maker, clock: FakeClock) -> None:
    """A batch that an open breaker refuses is no call, and leaves the last one's duration."""
    breaker = CircuitBreaker(failure_threshold=1)

    def handle(items: list[int]) -> None:
        clock.advance(2.5)
        raise OSError

    batcher = make(handle, max_delay=0, circuit_breaker=breaker)
    for kind in (OSError, CircuitOpenError):
        assert isinstance(batcher.add(1).exception(PATIENCE), kind)

    assert batcher.status().last_batch_seconds == 2.5


def test_status_age_of_what_is_tried_again(make: Maker, clock: FakeClock) -> None:
    """What waits for its next attempt, or for its half's turn, is pending and has an age."""
    handler = HeldHandler(lambda items: [OSError()] * len(items))
    batcher = make(handler, max_delay=0, retry=Retry(attempts=2, delay=9.0, jitter="none"))
    batcher.put(1)
    handler.wait_for_batches(1)
    clock.advance(3.0)
    assert batcher.status().oldest_pending_age is None
    handler.let_go()
    clock.wait_for_sleepers(1)
    assert batcher.status().oldest_pending_age == 3.0

    go = threading.Event()

    def halve(items: list[int]) -> None:
        if len(items) == 1:
            assert go.wait(PATIENCE)
        raise OSError

    recorder = RecordingHandler(halve)
    other = make(recorder, max_delay=None, max_batch_size=2, split_failed=True)
    futures = other.add_many([1, 2])
    recorder.wait_for_batches(2)
    clock.advance(1.0)
    assert (other.status().pending, other.status().oldest_pending_age) == (1, 1.0)
    go.set()
    assert all(isinstance(future.exception(PATIENCE), OSError) for future in futures)


def test_status_age_of_the_oldest_item(make: Maker, clock: FakeClock) -> None:
    """`oldest_pending_age` grows while the item waits, and ends with the wait."""
    batcher = make(double, max_delay=None)
    batcher.put(1)
    clock.wait_for_sleepers(1)
    clock.advance(3.0)
    batcher.put(2)

    assert batcher.status().oldest_pending_age == 3.0
    batcher.flush()
    assert batcher.status().oldest_pending_age is None


@pytest.mark.parametrize("options", [{}, {"batch_key": lambda item: item % 2}], ids=["unkeyed", "keyed"])
def test_status_age_while_a_handler_hangs(make: Maker, clock: FakeClock, options: dict[str, Any]) -> None:
    """The age is told, above all, while the flusher itself is in a handler that takes long."""
    handler = HeldHandler()
    batcher = make(handler, max_batch_size=1, max_delay=0, **options)
    batcher.put(0)
    handler.wait_for_batches(1)
    batcher.put(2)

    clock.advance(7.0)

    assert batcher.status().pending == 1
    assert batcher.status().oldest_pending_age == 7.0


def test_repr_shows_state_and_counts(make: Maker) -> None:
    """The repr shows name, state and counts, and no item."""
    batcher = make(name="users")
    batcher.add_many(["secret", "secret"])

    assert repr(batcher) == "<Batcher 'users' open pending=2 processing=0>"
    batcher.close()
    assert repr(batcher) == "<Batcher 'users' closed pending=0 processing=0>"


def test_nobody_elses_clock_is_asked(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that replaces `time.time` by a script for its own code leaves a batcher alone."""
    handler = RecordingHandler(list)
    batcher = make(handler, max_delay=0)
    monkeypatch.setattr(time, "time", iter(()).__next__)

    assert [batcher.add(item).result(PATIENCE) for item in range(3)] == [0, 1, 2]
    assert batcher.status().state == "open"
