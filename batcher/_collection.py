"""What a bulk run returns, gathered as its batches are closed.

In the order of the input, and into plain lists at once: a batch that is closed is freed, so that a long run
leaves no objects behind for the garbage collector to look at again and again.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from batcher._job import NO_RESULT

if TYPE_CHECKING:
    from batcher._job import Batch
    from batcher._result import FailedItem


class Collection:
    """The items of one run that have ended. The conductor's; the caller's when the run is over.

    Attributes:
        successful: The items that succeeded.
        results: Their results, if they are kept.
    """

    def __init__(self, *, is_shuffled: bool, keeps_results: bool) -> None:
        """Have nothing yet.

        Args:
            is_shuffled: Whether the items of a batch may come from anywhere in the input.
            keeps_results: Whether somebody wants the results.
        """
        self.successful: list[Any] = []
        self.results: list[Any] = []
        self._failed: list[tuple[int, FailedItem[Any]]] = []
        self._indices: list[int] | None = [] if is_shuffled else None
        self._keeps_results = keeps_results
        self._waiting: dict[int, Batch] = {}  # those before whom another one is missing, by number
        self._next = 0

    def add(self, batch: Batch) -> None:
        """Take a batch that is closed."""
        self._waiting[batch.number] = batch
        while self._waiting and (first := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            self._take(first)

    def finish(self) -> None:
        """Take what waits, and put all in the order of the input; may be repeated."""
        for number in sorted(self._waiting):
            self._take(self._waiting.pop(number))
        if self._indices is not None:
            order = sorted(range(len(self._indices)), key=self._indices.__getitem__)
            self.successful = [self.successful[i] for i in order]
            self.results = [self.results[i] for i in order] if self._keeps_results else []
            self._indices = sorted(self._indices)
        self._failed.sort(key=itemgetter(0))

    @property
    def failed(self) -> list[FailedItem[Any]]:
        """The items that failed."""
        return [failed for _, failed in self._failed]

    def _take(self, batch: Batch) -> None:
        items, results, indices = batch.items, batch.results, batch.indices
        if batch.failed:
            self._failed += [(indices[position], failed) for position, failed in batch.failed.items()]
        if not batch.is_whole:
            good = [i for i, result in enumerate(results) if result is not NO_RESULT]
            items, results, indices = [items[i] for i in good], [results[i] for i in good], [indices[i] for i in good]
        self.successful += items
        if self._keeps_results:
            self.results += results
        if self._indices is not None:
            self._indices += indices
