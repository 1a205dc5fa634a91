"""What waits: entries, the group of a key that they wait in, and the batch that they leave in.

An entry is an `ItemFuture`, a `Ticket`, or for a plain `put` the bare item.

A rule for this room and the next: what a thread of the user may call, a signal may interrupt, and
Ctrl-C may end. So such a step first computes, then commits: by one call of a C method, or by a run of
plain assignments, between which Python looks for no signals.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures._base import PENDING, RUNNING
from itertools import compress, islice, repeat, starmap
from typing import TYPE_CHECKING, Any

from batcher._future import ItemFuture, is_pending

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from concurrent.futures import Future

    from typing_extensions import TypeIs

    from batcher._starts import Start
    from batcher._status import Tally


class Ticket:
    """The entry of a `put` that needs more than the bare item: a key, a weight, a state of its own.

    The names are those of `ItemFuture`, so that the queue reads both alike.
    """

    __slots__ = ("_is_collected", "_key", "_place", "_result", "_since", "_state", "_tally", "_weight")

    def __init__(self, item: object) -> None:
        """Hold `item` where an ItemFuture holds its own."""
        self._result = item
        self._state = ItemFuture._state
        self._key: Hashable = None
        self._place: Any = None
        self._is_collected = False
        self._since = 0.0
        self._weight = 0.0
        self._tally: Tally | None = None


def is_tracked(entry: object) -> TypeIs[ItemFuture[Any] | Ticket]:
    """Say whether the entry is more than a bare item."""
    kind = type(entry)
    return kind is ItemFuture or kind is Ticket


def is_live(entry: object) -> bool:
    """Say whether the entry still waits; a bare item that is in the queue does."""
    return not is_tracked(entry) or is_pending(entry)


class Batch:
    """Items on their way to one handler call."""

    __slots__ = (
        "attempt",
        "deadline",
        "entries",
        "expired",
        "first_started",
        "given_up",
        "group",
        "is_held",
        "is_part",
        "items",
        "last_error",
        "lent",
        "number",
        "rest",
        "since",
        "start",
        "started",
        "tally",
        "weight",
    )

    def __init__(self, number: int, group: Group, tally: Tally, since: float) -> None:
        """Start an empty batch of `group`, whose oldest item came at `since`."""
        self.number = number
        self.group = group
        self.tally = tally
        self.since = since
        self.started = since
        self.entries: list[Any] = []
        self.items: list[Any] = []
        self.weight = 0.0
        self.expired = 0  # items whose own deadline passed in the handler
        self.given_up = False  # the call outlasted handler_timeout
        self.deadline: float | None = None
        self.lent: Future[object] | None = None  # of the executor that has it
        self.start: Start | None = None  # what its handler call has to give back
        self.attempt = 1
        self.first_started = since  # of the first attempt
        self.last_error: BaseException | None = None  # of the attempt before
        self.is_part = False  # of a batch that was split
        self.is_held = False  # it waits for its next handler call
        self.rest: list[Batch] = []  # parts whose turn comes when this batch is done

    @property
    def size(self) -> int:
        """How many items the handler gets."""
        return len(self.items)

    def add(self, entries: list[Any]) -> int:
        """Claim those of `entries` that still wait, for this batch; return how many were husks."""
        husks, items, claimed = 0, self.items, self.entries
        for entry in entries:
            kind = type(entry)
            if kind is ItemFuture or kind is Ticket:  # `is_tracked`, `claim_locked`: spelled out for speed
                if entry._state is not PENDING:
                    husks += 1
                    continue
                entry._state = RUNNING
                items.append(entry._result)
            else:
                items.append(entry)
            claimed.append(entry)
        return husks

    def successor(self, number: int, positions: Sequence[int]) -> Batch:
        """Return a new batch of the items at `positions`: this one's handler call may still have the old one."""
        other = Batch(number, self.group, self.tally, self.since)
        other.entries = [self.entries[position] for position in positions]
        other.items = [self.items[position] for position in positions]
        other.first_started = self.first_started
        other.attempt = self.attempt + 1
        for entry in other.entries:
            if is_tracked(entry) and entry._place is self:  # where its own deadline finds it
                entry._place = other
        return other

    def keep_live(self) -> None:
        """Let go of items that ended while the batch waited for its next handler call, and weigh the rest."""
        live = [not is_tracked(entry) or entry._state is RUNNING for entry in self.entries]
        self.items = list(compress(self.items, live))
        self.entries = list(compress(self.entries, live))
        self.weight = math.fsum(entry._weight for entry in self.entries if is_tracked(entry))


class Group:
    """The entries of one key, in order of arrival.

    A position counts arrivals: the oldest entry's is `head`. `marks` holds (position, time) of the first
    entry and of one entry a batch thereafter: the last mark that isn't beyond the head tells the age
    of the oldest entry, to within the gathering of one batch and never too young. `seals` holds
    (position, tally): no batch crosses such a boundary, so that a flush can say what became of its
    items. A husk is an entry that ended in the queue: cancelled, expired, dropped.
    """

    __slots__ = (
        "blocked",
        "entries",
        "head",
        "husks",
        "is_busy",
        "key",
        "leaves_at",
        "marks",
        "offer",
        "seals",
        "weight",
    )

    def __init__(self, key: Hashable) -> None:
        """Make an empty group."""
        self.key = key
        self.entries: deque[Any] = deque()
        self.marks: deque[tuple[int, float]] = deque()
        self.seals: deque[tuple[int, Tally]] = deque()
        self.head = 0
        self.husks = 0
        self.weight = 0.0
        self.blocked = 0  # callers who wait for the results of its entries, more or less
        self.is_busy = False  # a batch of this key is in a handler, and no other may be
        self.offer = 0  # the number of its valid offer to leave; 0: none
        self.leaves_at = 0.0  # what that offer says

    @property
    def live(self) -> int:
        """Entries that still wait."""
        return len(self.entries) - self.husks

    @property
    def tail(self) -> int:
        """The position that the next entry will have."""
        return self.head + len(self.entries)

    @property
    def since(self) -> float:
        """When the oldest entry came."""
        return self.marks[0][1]

    def mark(self, position: int, now: float, spacing: int) -> None:
        """Note that the entry of `position` came now, unless a mark less than `spacing` before will do."""
        if not self.marks or position - self.marks[-1][0] >= spacing:
            self.marks.append((position, now))

    def take(self, count: int) -> list[Any]:
        """Remove and return the oldest `count` entries."""
        taken = list(starmap(self.entries.popleft, repeat((), count)))
        self.head += count
        return taken

    def forget_passed(self) -> None:
        """Drop the marks and seals that lie before the head."""
        head, marks, seals = self.head, self.marks, self.seals
        while len(marks) > 1 and marks[1][0] <= head:
            marks.popleft()
        while seals and seals[0][0] <= head:
            seals.popleft()

    def seal(self, tally: Tally) -> int:
        """End the tally's part here and return how many of it wait; its futures learn whose they are.

        May be repeated, with what came in since: Ctrl-C may end it halfway.
        """
        if self.seals and self.seals[-1][1] is tally:
            self.seals[-1] = (self.tail, tally)
        elif self.seals and self.seals[-1][0] == self.tail:
            return 0
        else:
            self.seals.append((self.tail, tally))
        begin = self.seals[-2][0] if len(self.seals) > 1 else self.head
        live = 0
        for entry in islice(self.entries, begin - self.head, None):
            if is_live(entry):
                live += 1
                if is_tracked(entry):
                    entry._tally = tally
        return live

    def compacted(self) -> tuple[deque[Any], deque[tuple[int, float]], deque[tuple[int, Tally]]]:
        """Return the entries without the husks, and the marks and seals as they then are.

        The husks count as passed: the new head is as far on as husks were taken out.
        """
        kept = deque(entry for entry in self.entries if is_live(entry))
        head = self.tail - len(kept)
        live_before = [0]
        for entry in self.entries:
            live_before.append(live_before[-1] + is_live(entry))

        def moved(position: int) -> int:
            return head + live_before[min(max(position - self.head, 0), len(self.entries))]

        marks = deque((moved(position), when) for position, when in self.marks if kept)
        seals = deque((moved(position), tally) for position, tally in self.seals if moved(position) > head)
        return kept, marks, seals
