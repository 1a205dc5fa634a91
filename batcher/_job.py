"""Batches of a bulk run, and the jobs that workers do on them.

A batch is what was read together; it keeps its place in the read-ahead until every item of it has ended.
A job is what one worker does in one go: a batch the first time, later those of its items that are tried
again. Both hold plain lists, with no object for an item that simply succeeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batcher._result import FailedItem

# Stands in a list of results where there is none: the item has failed, waits, or was never begun.
NO_RESULT: Final = object()


class Batch:
    """Some items that were read together.

    Attributes:
        number: Counted from 0 as batches are begun.
        items: The items as they came.
        indices: The place of each in the input.
        keys: Each item's key, or None without a checkpoint.
        results: The results so far, by position in the batch; `NO_RESULT` where there is none.
        failed: The items that ended with an error, by position.
        attempts: How often an item was tried and when it was first, by position; only of those that have failed once.
        succeeded: How many items have a result.
        unsettled: How many items haven't ended.
    """

    __slots__ = ("attempts", "failed", "indices", "items", "keys", "number", "results", "succeeded", "unsettled")

    def __init__(self, items: list[Any], indices: Sequence[int], keys: list[str] | None = None) -> None:
        """Take the items; the number comes when the batch is begun."""
        self.number = -1
        self.items = items
        self.indices = indices
        self.keys = keys
        self.results: list[Any] = []
        self.failed: dict[int, FailedItem[Any]] = {}
        self.attempts: dict[int, tuple[int, float]] = {}
        self.succeeded = 0
        self.unsettled = len(items)

    def first_job(self) -> Job:
        """Return the job of all items that haven't failed before they began."""
        if not self.failed:
            return Job(self, self.items, range(len(self.items)))
        positions = [i for i in range(len(self.items)) if i not in self.failed]
        return Job(self, [self.items[i] for i in positions], positions)

    def take(self, job: Job) -> Sequence[int]:
        """Take over what a job has achieved; return the positions of the items that have ended by it."""
        done = len(job.results)
        if done == len(self.items) and not job.failures:
            self.results = job.results
            self.succeeded, self.unsettled = done, 0
            return job.positions
        positions = job.positions[:done]
        if done == len(self.items):
            self.results = job.results
        else:
            self.results = self.results or [NO_RESULT] * len(self.items)
            for position, result in zip(positions, job.results, strict=True):
                self.results[position] = result
        if not job.failures:
            ended = positions
        else:
            waiting = set()
            for i, verdict in job.failures:
                if isinstance(verdict, Again):
                    waiting.add(positions[i])
                else:
                    self.failed[positions[i]] = verdict
            ended = [position for position in positions if position not in waiting]
        self.succeeded += done - len(job.failures)
        self.unsettled -= len(ended)
        return ended

    @property
    def is_whole(self) -> bool:
        """Whether every item has a result."""
        return self.succeeded == len(self.items)

    def ended(self) -> list[int]:
        """Return the positions of the items that have ended."""
        results = self.results or [NO_RESULT] * len(self.items)
        return [i for i, result in enumerate(results) if result is not NO_RESULT or i in self.failed]

    def refuse(self, position: int, failure: FailedItem[Any]) -> None:
        """End an item before any job is made."""
        self.failed[position] = failure
        self.unsettled -= 1


class Again:
    """The verdict on a failed attempt that another one will follow.

    Attributes:
        due: When, on the run's clock.
        failure: How the item ends if there is no other attempt after all.
        value: What the processor will get; the item itself, unless it has been prepared.
        is_prepared: Whether it has.
        batch: The item's batch.
        position: The item's position there.
    """

    __slots__ = ("batch", "due", "failure", "is_prepared", "position", "value")

    def __init__(self, due: float, failure: FailedItem[Any], batch: Batch, position: int) -> None:
        """Try the item in its batch at `position` again when it is due."""
        self.due = due
        self.failure = failure
        self.batch = batch
        self.position = position
        self.value: Any = failure.item
        self.is_prepared = False


class Job:
    """What one worker does in one go.

    The worker appends to `results` and `failures` while others may count them. A failed attempt is put
    into `failures` first and into `results`, as `NO_RESULT`, after that: so whoever reads the length of
    `results` first finds all the failures among them.

    Attributes:
        batch: The batch of the items.
        items: What the processor will get; prepared values, once they are.
        positions: The position of each in the batch.
        is_prepared: Whether `items` are prepared values.
        results: The results of the items that were tried, in order.
        failures: What was decided on those that failed, by the index in `items`.
        rest: When it has ended: another job of items that were taken out of this one.
    """

    __slots__ = ("batch", "failures", "is_prepared", "items", "positions", "rest", "results")

    def __init__(self, batch: Batch, items: list[Any], positions: Sequence[int], *, is_prepared: bool = False) -> None:
        """Have nothing done yet."""
        self.batch = batch
        self.items = items
        self.positions = positions
        self.is_prepared = is_prepared
        self.results: list[Any] = []
        self.failures: list[tuple[int, FailedItem[Any] | Again]] = []
        self.rest: Job | None = None

    def fail(self, i: int, verdict: FailedItem[Any] | Again) -> None:
        """Note what was decided on the failed item `i`, the next one without a result."""
        if isinstance(verdict, Again):
            verdict.value, verdict.is_prepared = self.items[i], self.is_prepared
        self.failures.append((i, verdict))
        self.results.append(NO_RESULT)

    def gather(self) -> None:
        """Have all that will be tried again be due together, as it takes one call."""
        waiting = [verdict for _, verdict in self.failures if isinstance(verdict, Again)]
        due = max((again.due for again in waiting), default=0.0)
        for again in waiting:
            again.due = due

    def split(self, refused: Sequence[int] = ()) -> None:
        """Keep what has a result, and those items without one that are refused; the others become the `rest`."""
        done = len(self.results)
        kept = [*range(done), *refused]
        left = [i for i in range(done, len(self.items)) if i not in refused]
        if left:
            items, positions = [self.items[i] for i in left], [self.positions[i] for i in left]
            self.rest = Job(self.batch, items, positions, is_prepared=self.is_prepared)
        self.items, self.positions = [self.items[i] for i in kept], [self.positions[i] for i in kept]

    def counts(self) -> tuple[int, int]:
        """Return how many items have succeeded so far, and how many have failed for good; from any thread."""
        done = len(self.results)
        if not self.failures:
            return done, 0
        failures = [verdict for i, verdict in self.failures if i < done]
        failed = sum(not isinstance(verdict, Again) for verdict in failures)
        return done - len(failures), failed
