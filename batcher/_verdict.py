"""What becomes of a failed attempt: another one, or the end of the item, or of the whole run.

Decided at once, on the thread that saw the failure: so that `max_failures` stops a run at the failure
that is one too many, and not a batch later. The retry policy is the user's; no lock is held while it is
asked.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from batcher._execution import free_frames, trim
from batcher._job import Again
from batcher._result import FailedItem
from batcher.errors import ItemTimeoutError

if TYPE_CHECKING:
    from batcher._clock import Clock
    from batcher._control import Control
    from batcher._failure import Failure
    from batcher._job import Batch
    from batcher._report import Reporter
    from batcher._retry import RetryPolicy


class FailureLimit:
    """How many items of a run may fail for good.

    Thread safety: `count` may be called from any thread.
    """

    def __init__(self, limit: float | None, total: int | None, sample: int) -> None:
        """Allow `limit` failures (an int), or that part of all items (a float).

        Args:
            limit: None: any number.
            total: How many items there are, None if unknown: then a part is one of those that have ended.
            sample: How many items must have ended before a part of them says anything.
        """
        self._sample = 0
        self._share: float | None = None
        self._most: float | None = limit
        if isinstance(limit, float):
            self._most = None if total is None else limit * total
            self._share = limit if total is None else None
            self._sample = sample
        # Guards: _failed.
        self._lock = threading.Lock()
        self._failed = 0

    def count(self) -> bool:
        """Count one failure; say whether it is one too many."""
        with self._lock:
            self._failed += 1
            return self._most is not None and self._failed > self._most

    @property
    def is_share(self) -> bool:
        """Whether the limit is a part of what has been processed."""
        return self._share is not None

    def is_passed(self, processed: int, failed: int) -> bool:
        """Say whether too great a part of what has been processed has failed."""
        return self._share is not None and processed >= self._sample and failed > self._share * processed


class Judge:
    """Decides on failed attempts.

    Thread safety: may be called from any thread; only one at a time runs the same item.
    """

    def __init__(
        self, policy: RetryPolicy | None, limit: FailureLimit, control: Control, clock: Clock, reporter: Reporter
    ) -> None:
        """Ask `policy` whether to try again; stop the run by `control` at the limit.

        An item that took too long is tried again only if the policy names that very error: whoever retries
        "all exceptions" rarely means to lose one more thread to a call that hangs.
        """
        self._policy = policy
        self.retries_timeouts = ItemTimeoutError in _named(policy)
        self._limit = limit
        self._control = control
        self._clock = clock
        self._reporter = reporter

    def judge(
        self, batch: Batch, position: int, failure: Failure, began: float, *, is_last: bool = False
    ) -> FailedItem[Any] | Again:
        """Return what becomes of an item whose attempt has failed.

        Args:
            batch: The item's batch.
            position: The item's position there.
            failure: What the attempt ended with.
            began: When the attempt began, on the run's clock.
            is_last: Whether there is no other attempt, whatever the policy says.
        """
        error = trim(failure.own_copy())
        attempts, first = batch.attempts.get(position, (0, began))
        attempts += 1
        batch.attempts[position] = (attempts, first)
        failed = FailedItem(batch.items[position], error, attempts)
        if self._policy is not None and not is_last:
            now = self._clock.monotonic()
            wait = self._wait(self._policy, error, attempts, now - first)
            if wait is not None:
                return Again(now + wait, failed, batch, position)
        return self.end(failed)

    def end(self, failed: FailedItem[Any]) -> FailedItem[Any]:
        """Return an item that has failed for good."""
        free_frames(failed.error)
        if self._limit.count():
            self._control.stop()
        return failed

    def _wait(self, policy: RetryPolicy, error: BaseException, attempts: int, elapsed: float) -> float | None:
        try:
            return policy.wait_after(error, attempts=attempts, elapsed=elapsed)
        except Exception as trouble:  # noqa: BLE001 - the policy is the user's
            self._reporter.report("the retry policy raised", trouble)
            return None


def _named(policy: RetryPolicy | None) -> tuple[type[BaseException], ...]:
    """Return the exception types that a policy names, as far as it says so."""
    named = getattr(policy, "retry_on", ())
    return named if isinstance(named, tuple) else (named,)
