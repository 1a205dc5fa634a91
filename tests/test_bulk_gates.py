"""Bulk runs under a throttle and a circuit breaker: each call needs leave."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from batcher import BatchProcessor, CircuitBreaker, CircuitOpenError, ItemTimeoutError, Retry, Throttle, process_batch
from batcher.testing import FakeClock
from tests.bulk_tools import SECONDS, Elsewhere, Hold, becomes
from tests.test_executors import ManualExecutor, square


def reciprocal(number: int) -> float:
    """Fail for 0."""
    return 1 / number


# Throttles


def test_throttle_limits_calls_at_once() -> None:
    """However many batches run at once, no more calls do than the throttle allows."""
    throttle = Throttle(max_concurrent=2)
    with Hold() as hold:
        run = Elsewhere(lambda: process_batch(range(20), hold, batch_size=1, max_concurrent=5, throttle=throttle))
        hold.wait_for_inside(2)
        becomes(lambda: throttle.status().waiting == 3)
        hold.may_go.set()
        assert run.result().results == list(range(20))

    assert hold.most == 2
    assert (throttle.status().active, throttle.status().waiting) == (0, 0)


def test_throttle_limits_calls_in_a_second() -> None:
    """At most so many calls start in a second; waiting for it is interrupted by nothing but a stop."""
    begun: list[float] = []
    with FakeClock() as clock:
        processor = BatchProcessor[int, None](
            lambda _: begun.append(clock.monotonic()), throttle=Throttle(max_per_second=2), max_concurrent=1
        )
        run = Elsewhere(lambda: processor.run(range(100)))
        for second in range(3):
            becomes(lambda second=second: len(begun) == 2 * second + 2)  # type: ignore[misc]
            clock.wait_for_sleepers(2)
            clock.advance(1)
        becomes(lambda: len(begun) == 8)
        processor.stop()
        result = run.result()

    assert begun == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    assert (result.total_processed, result.stopped) == (8, True)


def test_throttle_and_batches() -> None:
    """With a batch function each batch is one call."""
    throttle = Throttle(max_concurrent=1)
    active: list[int] = []

    def process(items: list[int]) -> list[int]:
        active.append(throttle.status().active)
        return items

    result = process_batch(range(6), batch_processor=process, batch_size=2, throttle=throttle)
    assert result.results == list(range(6))
    assert active == [1, 1, 1]


def test_pause_leaves_the_line() -> None:
    """A run that is paused gives up its place in the throttle's line, so that others can go on."""
    throttle = Throttle(max_concurrent=1)
    assert throttle.acquire(0)
    processor = BatchProcessor(int, throttle=throttle)
    run = Elsewhere(lambda: processor.run([1]))
    becomes(lambda: throttle.status().waiting == 1)
    processor.pause()
    throttle.release()
    becomes(lambda: throttle.status().waiting == 0)
    assert throttle.acquire(SECONDS)
    throttle.release()
    assert processor.status().processed == 0
    processor.resume()
    assert run.result().results == [1]


def test_item_that_hangs_gives_back_its_place() -> None:
    """The place of a call that is given up goes to the next one, and the breaker hears of a failure."""
    with FakeClock() as clock, Hold(0) as hold:
        throttle, breaker = Throttle(max_concurrent=1), CircuitBreaker(failure_threshold=5)
        processor = BatchProcessor(hold, throttle=throttle, circuit_breaker=breaker, timeout=1, max_concurrent=2)
        run = Elsewhere(lambda: processor.run([0, 1, 2]))
        hold.wait_for(1)
        clock.wait_for_sleepers(1)
        assert throttle.status().active == 1
        clock.advance(1)
        result = run.result()
        assert throttle.status().active == 0
        (stuck,) = [thread for thread in hold.threads if thread.is_alive()]
        hold.may_go.set()
        stuck.join(SECONDS)
        assert throttle.status().active == 0

    assert result.results == [1, 2]
    assert [type(failed.error) for failed in result.failed] == [ItemTimeoutError]


def test_throttle_that_fails() -> None:
    """A throttle that raises fails its call's item."""

    class Broken:
        def turn(self, ring: Any) -> Any:
            raise ConnectionError("away")

    throttle: Any = Broken()
    result = process_batch([1], int, throttle=throttle)
    assert [str(failed.error) for failed in result.failed] == ["away"]


# Circuit breakers


def test_open_circuit_fails_items_at_once() -> None:
    """After so many failures in a row the rest fails without a call."""
    calls: list[int] = []

    def fail(item: int) -> None:
        calls.append(item)
        raise ConnectionError

    breaker = CircuitBreaker(failure_threshold=3, reset_timeout=1000)
    result = process_batch(range(10), fail, max_concurrent=1, circuit_breaker=breaker)

    assert calls == [0, 1, 2]
    assert [type(failed.error) for failed in result.failed] == [ConnectionError] * 3 + [CircuitOpenError] * 7


def test_retries_wait_for_the_circuit() -> None:
    """A retry policy waits as long as the open circuit asks for."""
    calls: list[float] = []

    def process(item: int) -> int:
        calls.append(clock.monotonic())
        if clock.monotonic() < 5:
            raise ConnectionError
        return item

    with FakeClock() as clock:
        breaker = CircuitBreaker(failure_threshold=1, reset_timeout=7)
        processor = BatchProcessor(process, circuit_breaker=breaker, retries=Retry(3, delay=0), max_concurrent=1)
        run = Elsewhere(lambda: processor.run([1, 2]))
        becomes(lambda: len(calls) == 1)
        clock.wait_for_sleepers(1)
        clock.advance(7)
        assert run.result().results == [1, 2]

    assert calls == [0.0, 7.0, 7.0]


def test_ignored_errors_and_whole_batches() -> None:
    """What the breaker ignores is no failure; a batch fails if it raises, or all of its results are errors."""
    ignoring = CircuitBreaker(failure_threshold=1, ignore=ZeroDivisionError)
    assert len(process_batch([0, 0, 1], reciprocal, circuit_breaker=ignoring).results) == 1
    assert ignoring.status().state == "closed"

    def half(items: list[int]) -> list[Any]:
        return [ValueError() if item % 2 else item for item in items]

    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=1000)
    process_batch(range(4), batch_processor=half, batch_size=2, circuit_breaker=breaker)
    assert breaker.status().state == "closed"
    process_batch([1, 3], batch_processor=half, circuit_breaker=breaker)
    assert breaker.status().state == "open"


def test_exit_says_nothing_of_the_backend() -> None:
    """What isn't an Exception counts neither as success nor as failure."""

    def leave(_: int) -> None:
        raise SystemExit

    breaker = CircuitBreaker(failure_threshold=1)
    process_batch([1], leave, circuit_breaker=breaker)
    assert breaker.status().state == "closed"


def test_options() -> None:
    """What is no throttle or breaker is refused."""
    wrong: Any = Throttle
    with pytest.raises(TypeError, match="throttle must be a Throttle or None"):
        process_batch([1], int, throttle=wrong)
    with pytest.raises(TypeError, match="circuit_breaker must be a CircuitBreaker or None"):
        process_batch([1], int, circuit_breaker=wrong)


# On a borrowed executor


def test_throttle_on_a_borrowed_executor() -> None:
    """There each item is a call; nobody waits for leave but the run itself."""
    executor = ManualExecutor()
    throttle = Throttle(max_concurrent=1)
    processor = BatchProcessor(square, throttle=throttle, executor=executor, batch_size=2, max_concurrent=3)
    run = Elsewhere(lambda: processor.run(range(4)))
    for number in range(4):
        executor.wait_for(number + 1)
        becomes(lambda: throttle.status().waiting == 1 or number >= 2)  # noqa: B023 - called in this turn
        assert len(executor.calls) == number + 1
        executor.finish(number)

    assert run.result().results == [0, 1, 4, 9]
    assert (throttle.status().active, throttle.status().waiting) == (0, 0)


def test_throttle_by_time_on_a_borrowed_executor() -> None:
    """The next call is made at the moment that the throttle names."""
    executor = ManualExecutor()
    with FakeClock() as clock:
        processor = BatchProcessor(square, throttle=Throttle(max_per_second=1), executor=executor)
        run = Elsewhere(lambda: processor.run([2, 3]))
        executor.wait_for(1)
        executor.finish(0)
        becomes(lambda: processor.status().processed == 1)
        clock.wait_for_sleepers(1)
        assert len(executor.calls) == 1
        clock.advance(1)
        executor.wait_for(2)
        executor.finish(1)
        assert run.result().results == [4, 9]


def test_breaker_on_a_borrowed_executor() -> None:
    """Failures over there open the circuit here; refused items fail without a call."""
    breaker = CircuitBreaker(failure_threshold=2, reset_timeout=1000)
    with ThreadPoolExecutor(1) as pool:
        result = process_batch([0] * 6, reciprocal, circuit_breaker=breaker, executor=pool, max_concurrent=1)
        whole = process_batch([1], batch_processor=lambda items: items, circuit_breaker=CircuitBreaker(), executor=pool)

    assert [type(failed.error) for failed in result.failed] == [ZeroDivisionError] * 2 + [CircuitOpenError] * 4
    assert whole.results == [1]


def test_leaving_gives_back_what_was_given() -> None:
    """An interrupted caller leaves no place taken, in the line or among those who run."""
    executor = ManualExecutor()
    throttle = Throttle(max_concurrent=1)

    def numbers() -> Any:
        yield from range(3)
        becomes(lambda: throttle.status().waiting == 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process_batch(numbers(), square, batch_size=1, throttle=throttle, executor=executor)
    assert (throttle.status().active, throttle.status().waiting) == (0, 0)

    with Hold() as hold:
        gate = threading.Event()

        def more() -> Any:
            for number in itertools.count():
                if number == 2:
                    hold.wait_for(1)
                    becomes(lambda: throttle.status().waiting == 1)
                    gate.set()
                    raise KeyboardInterrupt
                yield number

        with pytest.raises(KeyboardInterrupt):
            process_batch(more(), hold, batch_size=1, throttle=throttle, max_concurrent=2)
        assert throttle.status().waiting == 0
    becomes(lambda: throttle.status().active == 0)
