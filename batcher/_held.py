"""Batches that were cut and wait for their next handler call: for a retry's time, or for a part before them.

Their items count as pending. A batch that was split carries its later parts along as `rest`: they come
one after another, and a part waits here only when it is the next one.

Thread safety: none of its own; the owner's lock guards all.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batcher._group import Batch


class HeldBatches:
    """A heap of batches by the time from which they may start."""

    __slots__ = ("_number", "had_turn", "heap", "size", "weight")

    def __init__(self) -> None:
        """Start empty."""
        self.heap: list[tuple[float, int, Batch]] = []
        self.size = 0  # items that wait, those of later parts included
        self.weight = 0.0
        self.had_turn = False  # the latest batch to leave was one of these
        self._number = 0

    def count_in(self, batch: Batch) -> None:
        """Count the batch's items as waiting; its `rest` is counted apart."""
        batch.keep_live()
        batch.is_held = True
        self.size += batch.size
        self.weight += batch.weight

    def count_out(self, batch: Batch, weight: float) -> None:
        """Count one item of `batch` that ended where it waited."""
        self.size -= 1
        self.weight -= weight
        batch.gone += 1

    def remove(self, batch: Batch) -> bool:
        """Take out a batch that waits for its time; False if it is a later part, whose turn comes."""
        kept = [offer for offer in self.heap if offer[2] is not batch]
        is_here = len(kept) < len(self.heap)
        heapq.heapify(kept)
        self.heap = kept
        return is_here

    def put(self, batch: Batch, due: float) -> None:
        """Have a batch that is counted leave from `due` on, those of the same time in order."""
        self._number += 1
        heapq.heappush(self.heap, (due, self._number, batch))

    def due_at(self, *, is_paused: bool) -> float | None:
        """Return when the first batch may leave; while paused only those of a flush may."""
        if not is_paused:
            return self.heap[0][0] if self.heap else None
        return min((due for due, _, batch in self.heap if batch.tally.sealed), default=None)

    def take(self, now: float, *, is_paused: bool) -> Batch | None:
        """Take the first batch that may leave now, without the items that ended meanwhile."""
        passed_over = []
        taken = None
        while taken is None and self.heap and self.heap[0][0] <= now:
            offer = heapq.heappop(self.heap)
            if is_paused and not offer[2].tally.sealed:
                passed_over.append(offer)
            else:
                taken = offer[2]
        for offer in passed_over:
            heapq.heappush(self.heap, offer)
        if taken is not None:
            taken.keep_live()
            taken.is_held = False
            self.size -= taken.size
            self.weight -= taken.weight
        return taken

    def hurry(self) -> None:
        """Have every batch leave as soon as it can."""
        self.heap = [(-1.0, number, batch) for _, number, batch in sorted(self.heap)]

    def adopt_rest(self, batch: Batch) -> None:
        """Have the parts that were to follow a running batch wait on their own."""
        if not batch.rest:
            return
        first, *others = batch.rest
        self._number += 1
        # One straight line: half of it would have the parts twice.
        first.rest = others
        self.heap += ((math.inf, self._number, first),)
        batch.rest = []

    def recount(self, parts: Iterable[Batch]) -> tuple[int, float]:
        """Return how many items of held batches are left, and what they weigh."""
        size, weight = 0, 0.0
        for part in parts:
            part.keep_live()
            size += part.size
            weight += part.weight
        return size, weight

    def batches(self) -> Iterator[Batch]:
        """Yield every batch that waits for its time; of their later parts and those of running batches none."""
        return (batch for _, _, batch in self.heap)
