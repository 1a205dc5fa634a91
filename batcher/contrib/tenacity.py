"""tenacity's conditions as a retry policy.

`TenacityRetry` takes the `stop=`, `wait=` and `retry=` objects that `tenacity.retry` takes, and decides with them
wherever this library takes a `Retry`. tenacity itself never runs anything here, and never sleeps: an item
waits for its next attempt in the batcher, where it blocks no thread.

Needs the extra `tenacity`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher._options import check_callable, require_seconds

try:
    import tenacity
except ImportError as _missing:
    raise ImportError("batcher.contrib.tenacity needs tenacity: pip install 'thread-batcher[tenacity]'") from _missing

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_WAIT = tenacity.wait_none()
_ANY_EXCEPTION = tenacity.retry_if_exception_type()


class _State(tenacity.RetryCallState):
    """What tenacity's objects look at, as after a failed attempt of a call that `tenacity.retry` has wrapped."""

    def __init__(self, retrying: tenacity.Retrying, error: BaseException, attempts: int, elapsed: float) -> None:
        super().__init__(retrying, fn=None, args=(), kwargs={})
        self._elapsed = elapsed
        self.start_time -= elapsed
        self.outcome_timestamp = self.start_time + elapsed
        self.attempt_number = attempts
        # What was waited isn't told apart from what was worked: a limit on it must hold, so this is never too little.
        self.idle_for = elapsed if attempts > 1 else 0.0
        self.outcome = tenacity.Future.construct(attempts, error, has_exception=True)

    @property
    def seconds_since_start(self) -> float:
        """The time spent, exactly: a difference of two timestamps would be rounded."""
        return self._elapsed


class TenacityRetry:
    """A retry policy made of tenacity's parts; the defaults are tenacity's own.

    Asked in tenacity's order: `retry`, whether the error is one to try again after (`tenacity.TryAgain` always
    is), then `wait`, how long, then `stop`, whether to give up instead. They see a `tenacity.RetryCallState` with
    the attempt's number, its error as the outcome, and the time since the first attempt began. There is no
    function in it, `next_action` is None as ever at that point, and `idle_for` is the time since the first
    attempt began, too, from the second attempt on.

    What a handler returns for an item is its result, unless it is an exception: `retry_if_result` never
    applies.

    Args:
        stop: When to give up. By default never.
        wait: How long to wait before the next attempt. By default not at all: with the default of `stop` a
            handler that keeps failing is called without a pause.
        retry: After what to try again. By default any Exception.

    Raises:
        TypeError: An argument isn't callable, or a class where an instance of it is meant.

    Thread safety: as the parts given; tenacity's own may be used from any thread.

    Example:
        >>> from tenacity import retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_fixed
        >>> policy = TenacityRetry(
        ...     stop=stop_after_attempt(3) | stop_after_delay(60),
        ...     wait=wait_fixed(2),
        ...     retry=retry_if_exception_type(OSError),
        ... )
        >>> policy.wait_after(ConnectionError(), attempts=1, elapsed=0.5)
        2.0
        >>> policy.wait_after(ConnectionError(), attempts=3, elapsed=5.0)  # None: give up
    """

    def __init__(
        self,
        *,
        stop: Callable[[tenacity.RetryCallState], bool] = tenacity.stop_never,
        wait: Callable[[tenacity.RetryCallState], float] = _NO_WAIT,
        retry: Callable[[tenacity.RetryCallState], bool] = _ANY_EXCEPTION,
    ) -> None:
        for name, part in (("stop", stop), ("wait", wait), ("retry", retry)):
            check_callable(name, part, optional=False)
            if isinstance(part, type):
                raise TypeError(f"{name} must be an instance, got the class {part!r}")
        self.stop = stop
        self.wait = wait
        self.retry = retry
        self._retrying = tenacity.Retrying(stop=stop, wait=wait, retry=retry)  # as what a state belongs to

    def wait_after(self, error: BaseException, *, attempts: int, elapsed: float) -> float | None:
        """Return the seconds to wait before the next attempt; None: give up.

        Args:
            error: What the last attempt ended with.
            attempts: How many attempts were made, the first included.
            elapsed: Seconds since the first attempt began.

        Raises:
            TypeError: `wait` returned no number.
            ValueError: It returned nan, or less than zero.
            Exception: Whatever a part raises.
        """
        state = _State(self._retrying, error, attempts, elapsed)
        if not (isinstance(error, tenacity.TryAgain) or self.retry(state)):
            return None
        seconds = require_seconds("wait(retry_state)", self.wait(state))
        state.upcoming_sleep = seconds
        return None if self.stop(state) else seconds

    def __repr__(self) -> str:
        return f"TenacityRetry(stop={self.stop!r}, wait={self.wait!r}, retry={self.retry!r})"
