"""What users are promised of `batcher.testing`: a clock to move, and a handler that records."""

from __future__ import annotations

import threading

import pytest

from batcher import Batcher, FlushReport, HandlerTimeoutError, ItemTimeoutError, QueueFullError
from batcher._clock import Bell, SystemClock, current_clock
from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, elsewhere

make = stage.make


def test_batch_leaves_when_the_clock_says_so() -> None:
    """A batch stays until the clock has been moved by the whole delay, however long that takes really."""
    handler = RecordingHandler()
    with FakeClock() as clock, Batcher(handler, max_delay=60.0) as batcher:
        batcher.put("first")
        clock.advance(59.0)
        batcher.put("second")
        clock.wait_for_sleepers(1)
        assert handler.batches == []

        clock.advance(1.0)
        handler.wait_for_batches(1)

    assert handler.batches == [["first", "second"]]


def test_steps_add_up() -> None:
    """Many small steps are as good as a large one."""
    handler = RecordingHandler()
    with FakeClock() as clock, Batcher(handler, max_delay=1.0) as batcher:
        batcher.put("item")
        for _ in range(4):
            clock.wait_for_sleepers(1)
            assert handler.batches == []
            clock.advance(0.25)

        handler.wait_for_batches(1)


def test_item_timeout_follows_the_clock() -> None:
    """An item's own deadline passes when the clock does."""
    with FakeClock() as clock, Batcher(RecordingHandler(), max_delay=None) as batcher:
        future = batcher.add("item", timeout=10.0)
        clock.wait_for_sleepers(1)
        assert not future.done()

        clock.advance(10.0)

        with pytest.raises(ItemTimeoutError):
            future.result(PATIENCE)


def test_handler_timeout_follows_the_clock(make: Maker) -> None:
    """A hanging handler is given up by the clock, without a real second passing."""
    handler = HeldHandler()
    with FakeClock() as clock:
        batcher = make(handler, max_delay=0.0, handler_timeout=5.0)
        future = batcher.add(1)
        handler.wait_for_batches(1)
        clock.wait_for_sleepers(1)

        clock.advance(5.0)

        with pytest.raises(HandlerTimeoutError):
            future.result(PATIENCE)
        assert batcher.status().stuck_handlers == 1


def test_flush_and_close_follow_the_clock(make: Maker) -> None:
    """The timeouts of flush and close end when the clock is moved, and the reports say what is left."""
    handler = HeldHandler()
    with FakeClock() as clock:
        batcher = make(handler, max_delay=0.0)
        future = batcher.add(1)
        handler.wait_for_batches(1)
        for call in (batcher.flush, batcher.close):
            caller = elsewhere(call, 5.0)
            clock.wait_for_sleepers(1)
            clock.advance(5.0)

            assert caller.result(PATIENCE) == FlushReport(pending=1)

        handler.let_go()
        assert future.result(PATIENCE) is None


def test_block_timeout_follows_the_clock(make: Maker) -> None:
    """A producer that waits for room gives up by the clock."""
    handler = HeldHandler()
    with FakeClock() as clock:
        batcher = make(handler, max_delay=0.0, max_batch_size=1, max_pending=1)
        batcher.put(1)
        handler.wait_for_batches(1)
        batcher.put(2)
        producer = elsewhere(batcher.add, 3, block_timeout=5.0)
        clock.wait_for_sleepers(1)
        clock.advance(5.0)

        assert isinstance(producer.exception(PATIENCE), QueueFullError)


def test_ages_and_durations_follow_the_clock() -> None:
    """What the status says of ages and durations is the clock's time."""
    clock = FakeClock(start=1_000_000.0)

    def handle(items: list[str]) -> None:
        clock.advance(2.0)

    with clock, Batcher(handle, max_delay=60.0) as batcher:
        assert clock.monotonic() == 1_000_000.0
        batcher.put("item")
        clock.advance(7.0)
        assert batcher.status().oldest_pending_age == 7.0

        batcher.flush()
        assert batcher.status().last_batch_seconds == 2.0


def test_result_waits_in_real_time() -> None:
    """A test can't hang on `result(timeout)` because nobody moves the clock."""
    with FakeClock(), Batcher(RecordingHandler(), max_delay=60.0, adaptive=False) as batcher:
        future = batcher.add("item")

        with pytest.raises(TimeoutError):
            future.result(0.01)


def test_clock_is_chosen_when_a_batcher_is_made() -> None:
    """Batchers made before or after the block run on real time; those made in it keep its clock."""
    handlers = [RecordingHandler() for _ in range(3)]
    before = Batcher(handlers[0], max_delay=0.001)
    with FakeClock() as clock:
        inside = Batcher(handlers[1], max_delay=0.001)
    after = Batcher(handlers[2], max_delay=0.001)

    for batcher in (before, inside, after):
        batcher.put("item")
    handlers[0].wait_for_batches(1)
    handlers[2].wait_for_batches(1)
    clock.wait_for_sleepers(1)
    assert handlers[1].batches == []

    clock.advance(0.001)
    handlers[1].wait_for_batches(1)
    for batcher in (before, inside, after):
        batcher.close()


def test_clocks_nest() -> None:
    """The innermost clock counts; after the last one it is the machine's again."""
    with FakeClock() as outer:
        with FakeClock() as inner:
            assert current_clock() is inner
        assert current_clock() is outer
    assert isinstance(current_clock(), SystemClock)


def test_clock_is_taken_back_when_the_test_fails() -> None:
    """A block that ends by an exception takes its clock back as well."""
    with pytest.raises(ZeroDivisionError), FakeClock():
        raise ZeroDivisionError

    assert isinstance(current_clock(), SystemClock)


@pytest.mark.parametrize(
    ("seconds", "error"),
    [(-1.0, ValueError), (float("nan"), ValueError), ("1", TypeError), (None, TypeError)],
    ids=["negative", "nan", "text", "none"],
)
def test_clock_only_moves_on(seconds: float, error: type[Exception]) -> None:
    """A clock that went back, or to nowhere, is refused; it hasn't moved."""
    clock = FakeClock()

    with pytest.raises(error, match="seconds must be a non-negative number of seconds, got"):
        clock.advance(seconds)
    assert clock.monotonic() == 0.0


def test_missing_sleepers_are_reported() -> None:
    """Waiting for threads that don't come ends after the timeout, and says how many there were."""
    with pytest.raises(TimeoutError, match="0 threads wait on the clock, not 1"):
        FakeClock().wait_for_sleepers(1, timeout=0.01)


def test_wait_on_the_clock() -> None:
    """A wait ends by the ring, or when the clock has reached the deadline, and says which; the past is over."""
    clock = FakeClock()
    bell = Bell()
    assert not clock.wait(bell, clock.monotonic())
    bell.ring()
    assert clock.wait(bell, clock.monotonic())

    sleeper = elsewhere(clock.wait, bell, 1.0)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    assert sleeper.result(PATIENCE) is False

    sleeper = elsewhere(clock.wait, bell, None)
    clock.wait_for_sleepers(1)
    bell.ring()
    assert sleeper.result(PATIENCE) is True


def test_only_the_due_are_woken() -> None:
    """Moving the clock wakes those whose moment has come, and nobody else."""
    clock = FakeClock()
    early, late = (elsewhere(clock.wait, Bell(), until) for until in (1.0, 2.0))
    clock.wait_for_sleepers(2)
    clock.advance(1.0)
    assert early.result(PATIENCE) is False
    clock.wait_for_sleepers(1)
    assert not late.done()

    clock.advance(1.0)
    assert late.result(PATIENCE) is False


def test_woken_thread_is_not_asleep() -> None:
    """A thread that was woken, and hasn't come to do anything yet, isn't taken for one that sleeps."""
    woken, may_go_on = threading.Event(), threading.Event()

    class LingeringBell(Bell):
        def wait(self, timeout: float | None = None) -> bool:
            rang = super().wait(timeout)
            woken.set()
            assert may_go_on.wait(PATIENCE)
            return rang

    clock, bell = FakeClock(), LingeringBell()
    sleeper = elsewhere(clock.wait, bell, None)
    clock.wait_for_sleepers(1)
    bell.ring()
    assert woken.wait(PATIENCE)

    with pytest.raises(TimeoutError):
        clock.wait_for_sleepers(1, timeout=0.01)
    may_go_on.set()
    assert sleeper.result(PATIENCE) is True


def test_recorder_keeps_what_it_was_called_with() -> None:
    """Calls are kept one by one and as one list; later changes to a call's list don't change the record."""

    def clear(items: list[int]) -> list[int]:
        answer = [-item for item in items]
        items.clear()
        return answer

    handler = RecordingHandler(clear)
    with Batcher(handler, max_batch_size=2) as batcher:
        assert list(batcher.map([1, 2, 3])) == [-1, -2, -3]

    assert handler.batches == [[1, 2], [3]]
    assert handler.items == [1, 2, 3]


def test_recorder_answers_none_by_default() -> None:
    """Without an answer every item resolves to None."""
    with Batcher(RecordingHandler(), max_delay=0.0) as batcher:
        assert batcher.add("item").result(PATIENCE) is None


def test_recorder_keeps_calls_that_fail() -> None:
    """A call whose answer raises is recorded as well."""

    def fail(items: list[str]) -> object:
        raise LookupError(len(items))

    handler = RecordingHandler(fail)
    with Batcher(handler, max_delay=0.0) as batcher, pytest.raises(LookupError):
        batcher.add("item").result(PATIENCE)

    assert handler.batches == [["item"]]


def test_missing_batches_are_reported() -> None:
    """Waiting for calls that don't come ends after the timeout, and says how many there were."""
    handler = RecordingHandler()
    handler(["item"])

    handler.wait_for_batches(1)
    with pytest.raises(TimeoutError, match="1 calls of the handler, not 2"):
        handler.wait_for_batches(2, timeout=0.01)


def test_recorder_checks_its_arguments() -> None:
    """What can't be called, and counts that make no sense, are refused at once."""
    with pytest.raises(TypeError, match="answer must be callable or None, got 'yes'"):
        RecordingHandler("yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="count must be an int of at least 1, got 0"):
        RecordingHandler().wait_for_batches(0)
