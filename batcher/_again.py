"""What of a handled batch is tried again: a decision from its outcomes, the policy and the time spent.

Only what failed is. Items of one batch keep together: those that the policy tries again wait for the
longest of their waits. A batch that failed as a whole and has used up its retries may be split; its
parts have no retries of their own.

Asks the user's policy, so no lock is held here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batcher._failure import Failure
from batcher._options import require_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batcher._group import Batch
    from batcher._retry import RetryPolicy

    Report = Callable[[str, BaseException], object]


@dataclass(frozen=True, slots=True)
class Again:
    """What is tried again.

    Attributes:
        parts: The positions of the items of each further handler call, in order.
        wait: Seconds until the first of those calls.
        error: What the items failed with, or one of them.
        is_split: Whether the parts are halves of a batch that failed as a whole.
    """

    parts: tuple[Sequence[int], ...]
    wait: float
    error: BaseException
    is_split: bool


def try_again(
    batch: Batch,
    outcomes: list[Any],
    elapsed: float,
    *,
    policy: RetryPolicy | None,
    splits: bool,
    report: Report,
) -> Again | None:
    """Return what of the batch is tried again; None: nothing.

    Args:
        batch: What the handler was called with.
        outcomes: What came of it, an outcome for each item.
        elapsed: Seconds since the batch's first attempt began.
        policy: Says which failures are tried again, and when.
        splits: Whether to bisect a batch that failed as a whole.
        report: Called with what a policy raises that is no decision; then nothing is retried.
    """
    failed = [position for position, outcome in enumerate(outcomes) if type(outcome) is Failure]
    if not failed:
        return None
    if policy is not None and not batch.is_part:
        waits = {
            id(outcomes[position]): _ask(policy, outcomes[position].error, batch.attempt, elapsed, report)
            for position in failed
        }
        again = [position for position in failed if waits[id(outcomes[position])] is not None]
        if again:
            wait = max(wait for wait in waits.values() if wait is not None)
            return Again((again,), wait, outcomes[again[-1]].error, is_split=False)
    size = len(outcomes)
    if splits and size > 1 and is_whole_failure(outcomes):
        middle = (size + 1) // 2
        return Again((range(middle), range(middle, size)), 0.0, outcomes[0].error, is_split=True)
    return None


def is_whole_failure(outcomes: list[Any]) -> bool:
    """Say whether the handler call failed, rather than each of its items."""
    # One Failure stands for all then; items that fail alone have one each.
    return bool(outcomes) and type(outcomes[0]) is Failure and outcomes[0] is outcomes[-1]


def _ask(
    policy: RetryPolicy,
    error: BaseException,
    attempts: int,
    elapsed: float,
    report: Report,
) -> float | None:
    """Return what the policy says; a policy that can't say gives up."""
    try:
        wait = policy.wait_after(error, attempts=attempts, elapsed=elapsed)
        return None if wait is None else require_seconds("the retry policy's wait", wait)
    except BaseException as problem:  # noqa: BLE001 - a user's policy
        report("the retry policy raised", problem)
        return None
