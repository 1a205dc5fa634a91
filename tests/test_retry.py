"""Retry: when to try again, as a pure decision."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher._retry import Retry, RetryPolicy, as_retry

STEADY = Retry(attempts=None, delay=1.0, jitter="none")


class BusyError(Exception):
    """An error that says when to come back."""

    def __init__(self, retry_after: object) -> None:
        super().__init__()
        self.retry_after = retry_after


class SecretiveError(Exception):
    """An error whose `retry_after` can't be read."""

    @property
    def retry_after(self) -> float:
        """Raise instead of saying it."""
        raise KeyboardInterrupt


def wait(policy: Retry, attempts: int = 1, error: BaseException | None = None, elapsed: float = 0.0) -> float | None:
    """Ask the policy."""
    return policy.wait_after(error or OSError(), attempts=attempts, elapsed=elapsed)


def test_waits_grow_up_to_the_longest() -> None:
    """Each wait is `multiplier` times the one before, `max_delay` at most."""
    policy = Retry(attempts=None, delay=0.5, multiplier=3, max_delay=10, jitter="none")

    assert [wait(policy, attempts) for attempts in range(1, 6)] == [0.5, 1.5, 4.5, 10.0, 10.0]


def test_waits_after_thousands_of_attempts() -> None:
    """An outage of a month overflows no float."""
    assert wait(STEADY, 10**6) == 30.0
    assert wait(Retry(attempts=None, delay=0.0), 10**6) == 0.0


@given(st.integers(1, 5000), st.floats(0, 100), st.floats(0, 100), st.floats(1, 10))
def test_full_jitter_stays_within_the_wait(attempts: int, delay: float, longest: float, multiplier: float) -> None:
    """A jittered wait lies between zero and the computed one."""
    options: dict[str, Any] = {"delay": delay, "max_delay": longest, "multiplier": multiplier, "attempts": None}
    whole = wait(Retry(jitter="none", **options), attempts)
    part = wait(Retry(**options), attempts)

    assert whole is not None
    assert part is not None
    assert 0 <= part <= whole <= longest


def test_full_jitter_uses_the_whole_range() -> None:
    """Waits are spread over the range, so that callers that failed together come back apart."""
    random.seed(7)
    waits = [wait(Retry(delay=1.0)) or 0.0 for _ in range(1000)]

    assert 0.45 < math.fsum(waits) / 1000 < 0.55
    assert min(waits) < 0.02
    assert max(waits) > 0.98


def test_attempts_include_the_first() -> None:
    """Three attempts are one and two more."""
    assert [wait(Retry(attempts=3), attempts) is None for attempts in (1, 2, 3)] == [False, False, True]
    assert wait(Retry(1)) is None


def test_only_named_errors_are_tried_again() -> None:
    """`retry_on` names them, `give_up_on` takes some out, and Ctrl-C is none of them by default."""
    policy = Retry(retry_on=OSError, give_up_on=FileNotFoundError)

    assert wait(policy, error=ConnectionError()) is not None
    assert wait(policy, error=FileNotFoundError()) is None
    assert wait(policy, error=ValueError()) is None
    assert wait(Retry(), error=KeyboardInterrupt()) is None
    assert wait(Retry(retry_on=(KeyboardInterrupt,)), error=KeyboardInterrupt()) is not None


@pytest.mark.parametrize(("asked", "waits"), [(5, 5.0), (0.25, 0.25), (0, 0.0), (3600, 30.0)])
def test_retry_after_is_waited_for(asked: float, waits: float) -> None:
    """What the error asks for takes the place of the computed wait, without jitter, `max_delay` at most."""
    assert wait(Retry(), error=BusyError(asked)) == waits


@pytest.mark.parametrize("asked", [None, True, "5", -1, math.nan, math.inf, 1j, b""])
def test_retry_after_that_is_no_time_is_ignored(asked: object) -> None:
    """An error that says nothing sensible is waited for as any other."""
    assert wait(STEADY, error=BusyError(asked)) == 1.0


def test_retry_after_that_raises_is_ignored() -> None:
    """An error's own code can't break the decision."""
    assert wait(STEADY, error=SecretiveError()) == 1.0


def test_no_attempt_begins_after_the_deadline() -> None:
    """The deadline counts from the first attempt, the coming wait included."""
    policy = Retry(attempts=None, delay=2.0, jitter="none", deadline=10)

    assert wait(policy, elapsed=8.0) == 2.0
    assert wait(policy, elapsed=8.5) is None
    assert wait(policy, elapsed=0.0, error=BusyError(11)) is None


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": -1},
        {"delay": -0.1},
        {"delay": math.nan},
        {"max_delay": -1},
        {"multiplier": 0.5},
        {"multiplier": math.nan},
        {"multiplier": math.inf},
        {"jitter": "some"},
        {"deadline": -1},
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any]) -> None:
    """The error names the option and shows what was received."""
    [(name, value)] = options.items()
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        Retry(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 1.5},
        {"attempts": True},
        {"delay": "1"},
        {"max_delay": None},
        {"multiplier": "2"},
        {"multiplier": True},
        {"deadline": "soon"},
        {"retry_on": OSError()},
        {"retry_on": (OSError, "Timeout")},
        {"give_up_on": int},
    ],
)
def test_values_of_another_type_are_refused(options: dict[str, Any]) -> None:
    """The error names the option."""
    [name] = options
    with pytest.raises(TypeError, match=f"{name} must be .*got"):
        Retry(**options)


def test_number_means_extra_attempts() -> None:
    """A plain number n is one attempt and n more; none and 0 are no retry."""
    assert as_retry("retry", 2) == Retry(attempts=3)
    assert as_retry("retry", 0) is None
    assert as_retry("retry", None) is None


def test_policy_is_taken_as_it_is() -> None:
    """A Retry, or any object with its method, decides itself."""

    class Stubborn:
        """Always at once."""

        def wait_after(self, error: BaseException, *, attempts: int, elapsed: float) -> float | None:
            return 0.0

    policy: RetryPolicy = Stubborn()

    assert as_retry("retry", policy) is policy
    assert as_retry("retry", STEADY) is STEADY


@pytest.mark.parametrize("value", [True, 1.5, "3", Retry, object()])
def test_what_is_no_policy_is_refused(value: object) -> None:
    """The error shows what was received."""
    with pytest.raises(TypeError, match="retry must be a Retry, a number of extra attempts or None, got"):
        as_retry("retry", value)


def test_negative_number_is_refused() -> None:
    """The error shows what was received."""
    with pytest.raises(ValueError, match=r"retries must be .* at least 0, got -1"):
        as_retry("retries", -1)
