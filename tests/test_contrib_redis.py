"""`RedisThrottle` with answers that follow a script, no Redis needed: what it makes of them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis

from batcher import ThrottleStatus
from batcher.contrib.redis import RedisThrottle
from tests import stage
from tests.integration.servers import PROJECT, free_port
from tests.stage import PATIENCE, elsewhere

if TYPE_CHECKING:
    from batcher.testing import FakeClock

clock = stage.clock

GRANTED = 0
SECOND = 1_000_000  # as Redis tells it


class ScriptedRedis:
    """Answers as told, each answer after so many seconds of a fake clock."""

    def __init__(self, clock: FakeClock, *answers: tuple[float, int]) -> None:
        self.clock = clock
        self.answers = list(answers)

    def __call__(self, **_: object) -> int:
        """Answer the next question."""
        seconds, answer = self.answers.pop(0)
        self.clock.advance(seconds)
        return answer


def make(clock: FakeClock, *answers: tuple[float, int], **options: Any) -> tuple[RedisThrottle, ScriptedRedis]:
    """Make a throttle whose Redis answers as told, and return both."""
    throttle = RedisThrottle("redis://localhost", name="calls", **{"max_per_second": 1, **options})
    script = throttle._ask_start = ScriptedRedis(clock, *answers)
    return throttle, script


def test_refused_caller_asks_again_at_the_moment_that_it_was_told(clock: FakeClock) -> None:
    """Told to wait, a caller asks once more when that time is over, and not before, whoever rings it."""
    throttle, script = make(clock, (0.0, GRANTED), (0.0, SECOND), (0.0, GRANTED), max_concurrent=2)
    assert throttle.acquire(0)
    future = elsewhere(throttle.acquire)
    clock.wait_for_sleepers(1)

    throttle.release()  # rings the one that waits
    clock.wait_for_sleepers(1)
    clock.advance(0.999)
    assert script.answers == [(0.0, GRANTED)]
    clock.advance(0.001)
    assert future.result(PATIENCE)


def test_only_the_first_in_the_line_asks(clock: FakeClock) -> None:
    """While one caller waits for its moment, those behind it ask nothing."""
    throttle, script = make(clock, (0.0, SECOND), (0.0, GRANTED), (0.0, GRANTED))
    first = elsewhere(throttle.acquire)
    clock.wait_for_sleepers(1)
    second = elsewhere(throttle.acquire)
    clock.wait_for_sleepers(2)

    assert len(script.answers) == 2
    clock.advance(1.0)
    assert first.result(PATIENCE)
    assert second.result(PATIENCE)


def test_nothing_is_asked_while_all_places_are_taken(clock: FakeClock) -> None:
    """Without a place there is no start, so none is counted."""
    throttle, script = make(clock, (0.0, GRANTED), max_concurrent=1)
    throttle.acquire()

    assert not throttle.acquire(0)
    assert script.answers == []


def test_late_answer_is_not_used(clock: FakeClock) -> None:
    """A grant that was long on its way might be too late for its window: another one is asked for."""
    throttle, script = make(clock, (0.026, GRANTED), (0.1, GRANTED), (0.025, GRANTED), (0.0, GRANTED), margin=0.05)

    assert throttle.acquire(0)
    assert script.answers == [(0.0, GRANTED)]


def test_answers_that_are_always_late_are_an_error(clock: FakeClock) -> None:
    """If Redis is always too slow for the margin, the caller is told, and nothing is left behind."""
    throttle, _ = make(clock, *[(0.026, GRANTED)] * 5, margin=0.05)

    with pytest.raises(TimeoutError, match=r"5 answers of Redis in a row took more than half of the margin.* 0\.05 s"):
        throttle.acquire()
    assert throttle._books.active == 0
    assert not throttle._books.line


def test_grant_without_a_place_is_not_used(clock: FakeClock) -> None:
    """If a signal handler takes the last place while Redis is asked, the call waits for a place all the same."""
    throttle, script = make(clock, (0.0, GRANTED), max_concurrent=1)

    def ask_interrupted(**_: object) -> int:
        throttle._ask_start = script
        assert throttle.acquire()
        return GRANTED

    throttle._ask_start = ask_interrupted
    assert not throttle.acquire(0)
    assert throttle._books.active == 1
    assert not throttle._books.line


def test_status_is_of_all_processes(clock: FakeClock) -> None:
    """Starts and cooldown are what Redis says, places and line are this process's."""
    throttle, _ = make(clock, (0.0, GRANTED))
    throttle._ask_status = lambda **_: [7, 1]
    throttle.acquire()

    assert throttle.status() == ThrottleStatus(active=1, waiting=0, per_second=7, cooling=True)


def test_redis_that_is_gone_is_an_error() -> None:
    """Without Redis a call fails, and takes no place and no turn with it; making a throttle needs no Redis yet."""
    throttle = RedisThrottle(f"redis://127.0.0.1:{free_port()}", name="calls", max_per_second=1, max_concurrent=1)

    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            throttle.execute(lambda: None)
    assert throttle._books.active == 0
    assert not throttle._books.line


def test_options_are_checked() -> None:
    """What can be shared is needed, a margin too, and the rest is checked as by `Throttle`."""
    bad: list[tuple[dict[str, Any], str]] = [
        ({"max_concurrent": 3}, "a RedisThrottle needs max_per_second or max_burst to share, got neither"),
        ({"max_per_second": 3, "margin": 0}, "margin must be a positive number of seconds, got 0"),
        ({"max_per_second": -1}, "max_per_second must be"),
    ]
    for options, message in bad:
        with pytest.raises(ValueError, match=message):
            RedisThrottle("redis://localhost", name="calls", **options)


@pytest.mark.parametrize("missing", ["limits", "redis"])
def test_without_the_libraries_the_extra_is_named(missing: str) -> None:
    """Where a library is missing, importing the module says how to get it."""
    code = f"import sys; sys.modules['{missing}'] = None; import batcher.contrib.redis"
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert (
        "ImportError: batcher.contrib.redis needs limits and redis: pip install 'thread-batcher[redis]'" in ended.stderr
    )
