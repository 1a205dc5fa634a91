"""The entries of one key by priority: which leaves first, which has waited longest, and what a flush sealed.

A lane holds the entries of one priority in order of arrival. The lanes of a stretch stand side by side: the
highest leaves first. A seal begins a new stretch, and nothing of it leaves before the last entry of the one
before, whatever its priority: no batch may cross a flush's boundary.

Each stretch knows its highest and its oldest lane by two heaps. What they say may be outdated, never too
young: it is put right when it comes to the top. So an entry costs O(log n) of the number of lanes, and what
takes an entry out is a single `popleft` of its lane.

Thread safety: none of its own; the owner's lock guards all. Every method may be ended by Ctrl-C anywhere, and be
called again (see `_group`).
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SLACK = 64


class _Stretch:
    """Lanes between two seals.

    Every lane in `_lanes` has a place in both heaps. Lanes that are gone may have places too, and a lane
    more than one.
    """

    __slots__ = ("_ages", "_lanes", "_ranks")

    def __init__(self) -> None:
        self._lanes: dict[int, deque[Any]] = {}
        self._ranks: list[int] = []  # priorities, negated
        self._ages: list[tuple[float, int]] = []  # since when a lane's oldest waits, or an older date; as in `_ranks`

    def lane_for(self, entry: Any, most: int) -> deque[Any]:  # noqa: ANN401
        """Return the lane that the entry belongs to, of `most` that aren't empty; the caller appends it."""
        priority = entry._priority
        lane = self._lanes.get(priority)
        if lane is None:
            if max(len(self._ranks), len(self._ages)) > 2 * most + _SLACK:
                self._forget_outdated()
            heapq.heappush(self._ranks, -priority)
            heapq.heappush(self._ages, (entry._since, -priority))
            lane = self._lanes[priority] = deque()  # at last: a lane in here has its places
        return lane

    def _forget_outdated(self) -> None:
        lanes = {priority: lane for priority, lane in self._lanes.items() if lane}
        ranks = sorted(-priority for priority in lanes)
        ages = sorted((lane[0]._since, -priority) for priority, lane in lanes.items())
        self._lanes = lanes
        self._ranks = ranks
        self._ages = ages

    def highest(self) -> deque[Any] | None:
        """Return the lane of the highest priority, None if nothing is here."""
        while self._ranks:
            priority = -self._ranks[0]
            lane = self._lanes.get(priority)
            if lane:
                return lane
            self._lanes.pop(priority, None)
            heapq.heappop(self._ranks)
        return None

    def oldest(self) -> deque[Any] | None:
        """Return the lane whose first entry has waited longest, None if nothing is here."""
        while self._ages:
            since, rank = self._ages[0]
            lane = self._lanes.get(-rank)
            if not lane:
                self._lanes.pop(-rank, None)
                heapq.heappop(self._ages)
            elif lane[0]._since == since:
                return lane
            else:
                heapq.heapreplace(self._ages, (lane[0]._since, rank))
        return None

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._lanes[priority] for priority in sorted(self._lanes, reverse=True))


class Lanes:
    """What waits of one key, by stretch and by priority.

    Attributes:
        count: How many entries there are. Who appends to a lane, or takes from one, counts.
    """

    __slots__ = ("_stretches", "count")

    def __init__(self, parts: Iterable[Iterable[Any]] = ()) -> None:
        """Hold the entries of each part in a stretch of its own."""
        self._stretches = deque([_Stretch()])
        self.count = 0
        for part in parts:
            self.begin_stretch()
            for entry in part:
                self.lane_for(entry).append(entry)
                self.count += 1

    def begin_stretch(self) -> None:
        """Let nothing that comes from now on leave before what is here."""
        if self._stretches[-1].highest() is not None:
            self._stretches.append(_Stretch())

    def lane_for(self, entry: Any) -> deque[Any]:  # noqa: ANN401
        """Return the lane that a new entry belongs to; the caller appends it."""
        return self._stretches[-1].lane_for(entry, self.count)

    def next_lane(self, starving_since: float) -> deque[Any]:
        """Return the lane whose first entry leaves next; there must be one.

        Args:
            starving_since: What waits since then, or longer, leaves before all that doesn't.
        """
        is_starving = self.since <= starving_since
        return self.oldest() if is_starving else self.highest()  # type: ignore[return-value]

    @property
    def since(self) -> float:
        """When the oldest entry came; never where there is none."""
        lane = self.oldest()
        return math.inf if lane is None else lane[0]._since

    @property
    def priority(self) -> int:
        """The highest priority that may leave; 0 where there is none."""
        lane = self.highest()
        return 0 if lane is None else lane[0]._priority

    def highest(self) -> deque[Any] | None:
        """Return the lane of the highest priority that may leave, None if there is none."""
        return self._first_stretch().highest()

    def oldest(self) -> deque[Any] | None:
        """Return the lane of the entry that has waited longest, None if there is none."""
        return self._first_stretch().oldest()

    def _first_stretch(self) -> _Stretch:
        while len(self._stretches) > 1 and self._stretches[0].highest() is None:
            self._stretches.popleft()
        return self._stretches[0]

    def parts(self) -> list[list[Any]]:
        """Return the entries of each stretch."""
        return [list(stretch) for stretch in self._stretches]

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._stretches)
