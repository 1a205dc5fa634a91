"""Which group may leave when: a heap of offers, one valid offer a group.

A group that changes makes a new offer; the one before stays in the heap and is passed over when its
turn comes. So every change costs O(log n), whatever the number of keys.

Thread safety: none of its own; the owner's lock guards all. Only the thread that runs batches makes offers.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batcher._group import Group

_SLACK = 64


class Offers:
    """The groups that may leave by themselves, by the time from which they may."""

    def __init__(self) -> None:
        """Start without offers."""
        self._heap: list[tuple[float, int, Group]] = []
        self._number = 0
        self._valid = 0

    def put(self, group: Group, when: float | None) -> None:
        """Make `when` the time from which `group` may leave; None: not before something changes."""
        if when is None:
            self.withdraw(group)
            return
        if group.offer and group.leaves_at == when:
            return
        if len(self._heap) > 2 * self._valid + _SLACK:  # mostly offers that others have replaced
            self._heap = [offer for offer in self._heap if offer[2].offer == offer[1]]
            heapq.heapify(self._heap)
        self._valid += group.offer == 0
        self._number += 1
        group.offer, group.leaves_at = self._number, when
        heapq.heappush(self._heap, (when, self._number, group))

    def withdraw(self, group: Group) -> None:
        """Take the group's offer back. A user's thread may call this one."""
        if group.offer:
            self._valid -= 1
            group.offer = 0

    def first(self) -> Group | None:
        """Return the group whose offer is the earliest, None without offers."""
        while self._heap:
            _, number, group = self._heap[0]
            if group.offer == number:
                return group
            heapq.heappop(self._heap)
        return None
