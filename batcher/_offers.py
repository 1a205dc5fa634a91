"""Which group may leave when: a heap of offers, one valid offer a group.

A group that changes makes a new offer; the one before stays in the heap and is passed over when its
turn comes. So every change costs O(log n), whatever the number of keys.

Where priorities count, `RankedOffers` takes the place of `Offers`: of the groups that may leave by now, the
one whose first entry has the highest priority does.

Thread safety: none of its own; the owner's lock guards all. Only the thread that runs batches makes offers.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batcher._group import Group

SEALED = -math.inf  # the time from which a group may leave that a flush waits for
_SLACK = 64


class Offers:
    """The groups that may leave by themselves, by the time from which they may."""

    def __init__(self) -> None:
        """Start without offers."""
        self._heap: list[tuple[Any, int, Group]] = []
        self._number = 0
        self._valid = 0

    def put(self, group: Group, when: float | None) -> None:
        """Make `when` the time from which `group` may leave; None: not before something changes."""
        if when is None:
            self.withdraw(group)
        elif not group.offer or group.leaves_at != when:
            self._renew(group, when)

    def _renew(self, group: Group, when: float) -> None:
        is_new = group.offer == 0
        self._number += 1
        group.offer, group.leaves_at = self._number, when
        self._push(self._heap, when, group)
        self._valid += is_new

    def _push(self, heap: list[tuple[Any, int, Group]], key: object, group: Group) -> None:
        """Add the group's valid offer to a heap that is sorted by `key`, and then by age."""
        if len(heap) > 2 * self._valid + _SLACK:  # mostly offers that others have replaced
            heap[:] = [offer for offer in heap if offer[2].offer == offer[1]]
            heapq.heapify(heap)
        heapq.heappush(heap, (key, group.offer, group))

    def withdraw(self, group: Group) -> None:
        """Take the group's offer back. A user's thread may call this one."""
        if group.offer:
            self._valid -= 1
            group.offer = 0

    def first(self) -> Group | None:
        """Return the group whose offer is the earliest, None without offers."""
        return _first(self._heap)

    def due(self, now: float) -> Group | None:  # noqa: ARG002 - what isn't due yet matters only to ranked ones
        """Return the group that leaves now, where one may."""
        return _first(self._heap)

    def forced(self, groups: Iterable[Group]) -> Group | None:
        """Return the group that leaves where none may by itself, of all `groups`; None if none can."""
        return next((group for group in groups if group.live and not group.is_busy), None)


class RankedOffers(Offers):
    """The groups that can leave, by time and by priority.

    Offers wait in the heap of their time. When it has come they move to two others: one by priority, one
    by age, for those that starve. What a flush waits for comes first in both.
    """

    def __init__(self, patience: float) -> None:
        """Start without offers.

        Args:
            patience: Seconds after which an entry starves: from then on it comes before all priorities.
        """
        super().__init__()
        self._patience = patience
        self._ready: list[tuple[Any, int, Group]] = []  # what may leave by now, by priority
        self._aged: list[tuple[Any, int, Group]] = []  # the same, by age
        self._all: list[tuple[Any, int, Group]] = []  # what can leave if it is forced, by priority

    def put(self, group: Group, when: float | None) -> None:
        """Make `when` the time from which `group` may leave; None: not by itself."""
        if not group.live or group.is_busy:
            self.withdraw(group)
            return
        terms = (math.inf if when is None else when, group.priority, group.since)
        if not group.offer or group.terms != terms:
            group.terms = terms
            self._renew(group, terms[0])
            self._push(self._all, -terms[1], group)

    def first(self) -> Group | None:
        """Return the group whose offer is the earliest, or any that may leave by now; None if none will by itself."""
        groups = [group for group in (_first(self._ready), _first(self._heap)) if group is not None]
        group = min(groups, key=lambda group: group.leaves_at, default=None)
        return None if group is None or group.leaves_at == math.inf else group

    def due(self, now: float) -> Group | None:
        """Return the group that leaves now, where one may."""
        while (group := _first(self._heap)) is not None and group.leaves_at <= now:
            heapq.heappop(self._heap)
            when, priority, since = group.terms
            self._push(self._ready, (when != SEALED, -priority, when), group)
            self._push(self._aged, (when != SEALED, since), group)
        oldest = _first(self._aged)
        is_starving = oldest is not None and oldest.since <= now - self._patience
        return oldest if is_starving else _first(self._ready)

    def forced(self, groups: Iterable[Group]) -> Group | None:  # noqa: ARG002 - their offers are here
        """Return the group that leaves where none may by itself; None if none can."""
        return _first(self._all)


def _first(heap: list[tuple[Any, int, Group]]) -> Group | None:
    """Return the group of the first valid offer, and forget those before it."""
    while heap:
        _, number, group = heap[0]
        if group.offer == number:
            return group
        heapq.heappop(heap)
    return None
