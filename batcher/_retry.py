"""When to try again what failed: a pure decision from the error, the attempts made and the time spent."""

from __future__ import annotations

import math
import random
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from batcher._options import check_choice, check_count, check_seconds, require_seconds

if TYPE_CHECKING:
    ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]

_JITTERS = ("full", "none")


@runtime_checkable
class RetryPolicy(Protocol):
    """What decides whether and when something that failed is tried again.

    `Retry` is one; `batcher.contrib.tenacity` makes one of tenacity's parts.
    """

    def wait_after(self, error: BaseException, *, attempts: int, elapsed: float) -> float | None:
        """Return the seconds to wait before the next attempt; None: give up.

        Args:
            error: What the last attempt ended with.
            attempts: How many attempts were made, the first included.
            elapsed: Seconds since the first attempt began.
        """
        ...


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again what failed, with growing waits; a `RetryPolicy`.

    The wait after attempt n is at most `min(max_delay, delay * multiplier ** (n - 1))`, and with full
    jitter a random part of that: callers that failed together don't come back together. (Marc Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.) An error with a `retry_after`
    attribute, in seconds, is waited for that long instead, `max_delay` at most.

    Attributes:
        attempts: Attempts in all, the first included; None never gives up.
        delay: Seconds to wait after the first attempt, before jitter.
        max_delay: The longest wait in seconds.
        multiplier: What each wait is longer than the one before by, at least 1.
        jitter: "full" waits between zero and the computed time, "none" exactly that.
        retry_on: Exception types to try again after.
        give_up_on: Exception types to give up after, even if `retry_on` has them.
        deadline: Seconds from the first attempt after which no other begins; None: no limit.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range.

    Thread safety: immutable.
    """

    attempts: int | None = 3
    _: KW_ONLY
    delay: float = 0.1
    max_delay: float = 30.0
    multiplier: float = 2.0
    jitter: str = "full"
    retry_on: ErrorTypes = (Exception,)
    give_up_on: ErrorTypes = ()
    deadline: float | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        if self.attempts is not None:
            check_count("attempts", self.attempts)
        check_choice("jitter", self.jitter, _JITTERS)
        for name, value in (
            ("delay", require_seconds("delay", self.delay)),
            ("max_delay", require_seconds("max_delay", self.max_delay)),
            ("multiplier", _check_multiplier(self.multiplier)),
            ("deadline", check_seconds("deadline", self.deadline)),
            ("retry_on", _check_types("retry_on", self.retry_on)),
            ("give_up_on", _check_types("give_up_on", self.give_up_on)),
        ):
            object.__setattr__(self, name, value)

    def wait_after(self, error: BaseException, *, attempts: int, elapsed: float) -> float | None:
        """Return the seconds to wait before the next attempt; None: give up.

        Args:
            error: What the last attempt ended with.
            attempts: How many attempts were made, the first included.
            elapsed: Seconds since the first attempt began.
        """
        if self.attempts is not None and attempts >= self.attempts:
            return None
        if isinstance(error, self.give_up_on) or not isinstance(error, self.retry_on):
            return None
        wait = _asked_for(error)
        wait = self._backoff(attempts) if wait is None else min(wait, self.max_delay)
        if self.deadline is not None and elapsed + wait > self.deadline:
            return None
        return wait

    def _backoff(self, attempts: int) -> float:
        try:
            longest = min(self.delay * self.multiplier ** (attempts - 1), self.max_delay)
        except OverflowError:  # after a thousand attempts
            longest = self.max_delay if self.delay else 0.0
        return longest * random.random() if self.jitter == "full" else longest  # noqa: S311 - no secret


def as_retry(name: str, value: object) -> RetryPolicy | None:
    """Return the policy that an option stands for: a policy, a number of extra attempts, or None for none.

    Raises:
        TypeError: It is none of these.
        ValueError: It is a negative number.
    """
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"{name} must be a Retry or a number of extra attempts, at least 0, got {value!r}")
        return Retry(attempts=value + 1) if value else None
    if isinstance(value, type) or not isinstance(value, RetryPolicy):
        raise TypeError(f"{name} must be a Retry, a number of extra attempts or None, got {value!r}")
    return value


def _asked_for(error: BaseException) -> float | None:
    """Return what the error says to wait, if it says so in seconds."""
    try:
        seconds = error.retry_after  # type: ignore[attr-defined]
    except BaseException:  # noqa: BLE001 - an exception without one, or whose property raises
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return float(seconds) if 0 <= seconds < math.inf else None


def _check_multiplier(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"multiplier must be a finite number of at least 1, got {value!r}")
    if not 1 <= value < math.inf:
        raise ValueError(f"multiplier must be a finite number of at least 1, got {value!r}")
    return float(value)


def _check_types(name: str, value: object) -> tuple[type[BaseException], ...]:
    """Return exception types as a tuple."""
    types: tuple[Any, ...] = value if isinstance(value, tuple) else (value,)
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{name} must be an exception type or a tuple of them, got {value!r}")
    return types
