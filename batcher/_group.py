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
from batcher._kinds import kinds_of
from batcher._lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from typing_extensions import TypeIs

    from batcher._starts import Start
    from batcher._status import Tally


class Ticket:
    """The entry of a `put` that needs more than the bare item: a key, a weight, a priority, a state of its own.

    The names are those of `ItemFuture`, so that the queue reads both alike. A ticket may also stand for
    several who share its place; see `_flights`.
    """

    __slots__ = (
        "_is_collected",
        "_key",
        "_place",
        "_priority",
        "_result",
        "_since",
        "_state",
        "_tally",
        "_weight",
        "live",
        "members",
        "shared_key",
    )

    def __init__(self, item: object) -> None:
        """Hold `item` where an ItemFuture holds its own."""
        self._result = item
        self._state = ItemFuture._state
        self._key: Hashable = None
        self._place: Any = None
        self._is_collected = False
        self._priority = 0
        self._since = 0.0
        self._weight = 0.0
        self._tally: Tally | None = None
        # Who shares the place, in order of arrival; an ordered set, so that each can leave at no cost.
        self.members: dict[ItemFuture[Any] | Ticket, None] | None = None
        self.live = 1  # how many of them haven't ended
        self.shared_key: Hashable = None

    def share(self, member: ItemFuture[Any] | Ticket, key: Hashable) -> None:
        """Stand for `member`, and for those of the same key that join it; each keeps its own item."""
        self.members = {member: None}
        self.shared_key = key
        member._place = self

    def claim_members(self) -> Any:  # noqa: ANN401 - an item
        """Make the members of a claimed ticket uncancellable; return the first one's item, for all of them."""
        waiting = [member for member in self.members or () if member._state is PENDING]
        for member in waiting:
            member._state = RUNNING
        return waiting[0]._result


def is_tracked(entry: object) -> TypeIs[ItemFuture[Any] | Ticket]:
    """Say whether the entry is more than a bare item."""
    kind = type(entry)
    return kind is ItemFuture or kind is Ticket


def are_bare(entries: list[Any]) -> bool:
    """Say whether none of the entries is more than a bare item; all in C, for batches of thousands."""
    if entries and type(entries[0]) is ItemFuture:
        return False
    return not any(kind is ItemFuture or kind is Ticket for kind in kinds_of(entries))


def is_live(entry: object) -> bool:
    """Say whether the entry still waits; a bare item that is in the queue does."""
    return not is_tracked(entry) or is_pending(entry)


class Batch:
    """Items on their way to one handler call."""

    # What only some batches need.
    weight = 0.0
    expired = 0  # items whose own deadline passed in the handler
    given_up = False  # the call outlasted handler_timeout
    deadline: float | None = None
    lent: Future[object] | None = None  # of the executor that has it
    start: Start | None = None  # what its handler call has to give back
    attempt = 1
    last_error: BaseException | None = None  # of the attempt before
    is_part = False  # of a batch that was split
    is_held = False  # it waits for its next handler call, and ...
    gone = 0  # ... so many of its items have ended there
    rest: Sequence[Batch] = ()  # parts whose turn comes when this batch is done

    def __init__(self, number: int, group: Group, tally: Tally, since: float) -> None:
        """Start an empty batch of `group`, whose oldest item came at `since`."""
        self.number = number
        self.group = group
        self.tally = tally
        self.since = since
        self.started = since
        self.first_started = since  # of the first attempt
        self.entries: list[Any] = []
        self.items: list[Any] = []

    @property
    def size(self) -> int:
        """How many items the handler gets."""
        return len(self.items)

    def add(self, entries: list[Any]) -> int:
        """Claim those of `entries` that still wait, for this batch; return how many were husks."""
        husks, items, claimed = 0, self.items, self.entries
        if are_bare(entries):
            items += entries
            claimed += entries
            return 0
        for entry in entries:
            kind = type(entry)
            if kind is ItemFuture or kind is Ticket:  # `is_tracked`, `claim_locked`: spelled out for speed
                if entry._state is not PENDING:
                    husks += 1
                    continue
                entry._state = RUNNING
                is_shared = kind is Ticket and entry.members is not None
                items.append(entry.claim_members() if is_shared else entry._result)
            else:
                items.append(entry)
            claimed.append(entry)
        return husks

    @property
    def keys(self) -> list[Any]:
        """What a mapping of results is looked up by: the dedup key where there is one, else the item."""
        return [
            item if type(entry) is not Ticket or entry.shared_key is None else entry.shared_key
            for entry, item in zip(self.entries, self.items, strict=True)
        ]

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
    """The entries of one key, in order of arrival; from the first that has a priority, in lanes.

    A position counts arrivals: the oldest entry's is `head`. `marks` holds (position, time) of the first
    entry and of one entry a batch thereafter: the last mark that isn't beyond the head tells the age
    of the oldest entry, to within the gathering of one batch and never too young. (Lanes know it exactly,
    and need no marks.) `seals` holds
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
        "lanes",
        "leaves_at",
        "marks",
        "offer",
        "seals",
        "terms",
        "weight",
    )

    def __init__(self, key: Hashable) -> None:
        """Make an empty group."""
        self.key = key
        self.entries: deque[Any] = deque()
        self.lanes: Lanes | None = None  # instead of `entries`
        self.marks: deque[tuple[int, float]] = deque()
        self.seals: deque[tuple[int, Tally]] = deque()
        self.head = 0
        self.husks = 0
        self.weight = 0.0
        self.blocked = 0  # callers who wait for the results of its entries, more or less
        self.is_busy = False  # a batch of this key is in a handler, and no other may be
        self.offer = 0  # the number of its valid offer to leave; 0: none
        self.leaves_at = 0.0  # what that offer says
        # All that the offer says where priorities count: time, priority, age.
        self.terms: tuple[float, int, float] = (0.0, 0, 0.0)

    @property
    def size(self) -> int:
        """Entries, the husks among them."""
        return len(self.entries) if self.lanes is None else self.lanes.count

    @property
    def live(self) -> int:
        """Entries that still wait."""
        return self.size - self.husks

    @property
    def tail(self) -> int:
        """The position that the next entry will have."""
        return self.head + self.size

    @property
    def is_dated(self) -> bool:
        """Whether it is known when the oldest entry came; there must be one."""
        return self.lanes is not None or bool(self.marks)

    @property
    def since(self) -> float:
        """When the oldest entry came."""
        return self.marks[0][1] if self.lanes is None else self.lanes.since

    @property
    def priority(self) -> int:
        """The highest priority that may leave; there must be an entry."""
        return 0 if self.lanes is None else self.lanes.priority

    def __iter__(self) -> Iterator[Any]:
        """Go through the entries, husks among them, those of each flush together."""
        return iter(self.entries if self.lanes is None else self.lanes)

    def mark(self, position: int, now: float, spacing: int) -> None:
        """Note that the entry of `position` came now, unless a mark less than `spacing` before will do."""
        if not self.marks or position - self.marks[-1][0] >= spacing:
            self.marks.append((position, now))

    def take(self, count: int) -> list[Any]:
        """Remove and return the oldest `count` entries."""
        taken = list(starmap(self.entries.popleft, repeat((), count)))
        self.head += count
        return taken

    def lane_for(self, entry: ItemFuture[Any] | Ticket) -> deque[Any]:
        """Return where the entry has to be appended, and `lanes.count` be raised if there are lanes by then."""
        if self.lanes is None:
            if not entry._priority:
                return self.entries
            lanes, no_entries, no_marks = self.laned(self.entries), deque[Any](), deque[tuple[int, float]]()
            # One straight line.
            self.lanes = lanes
            self.entries = no_entries
            self.marks = no_marks
        return self.lanes.lane_for(entry)

    def tracked(self, since: float) -> list[ItemFuture[Any] | Ticket]:
        """Return the entries as those of a tracked queue, dated by the marks; `since` is the date where there are none.

        May be repeated: Ctrl-C may end it halfway.
        """
        marks, seals = deque(self.marks), deque(self.seals)
        date = marks[0][1] if marks else since
        found = []
        for position, item in enumerate(self.entries, self.head):
            while marks and marks[0][0] <= position:
                date = marks.popleft()[1]
            while seals and seals[0][0] <= position:
                seals.popleft()
            if is_tracked(item):
                entry = item
            else:
                entry = Ticket(item)
                entry._tally = seals[0][1] if seals else None
            if entry._place is None:  # else it has a date of its own
                entry._since = date
                entry._place = self
            entry._is_collected = True
            found.append(entry)
        return found

    def laned(self, entries: Iterable[Any]) -> Lanes:
        """Return `entries`, which stand for those here, in lanes."""
        rest, begin, parts = iter(entries), self.head, []
        for position, _ in self.seals:
            parts.append(list(islice(rest, position - begin)))
            begin = position
        return Lanes([*parts, list(rest)])

    def take_from(self, lane: deque[Any]) -> Any:  # noqa: ANN401
        """Remove and return the first entry of `entries`, or of a lane of the first stretch."""
        self.head += 1
        if self.lanes is not None:
            self.lanes.count -= 1
        return lane.popleft()

    def lane_of_husk(self) -> deque[Any] | None:
        """Return where a husk is first that stands for what waits: as the oldest or the highest; None if none does."""
        lanes = (self.entries,) if self.lanes is None else (self.lanes.oldest(), self.lanes.highest())
        return next((lane for lane in lanes if lane and not is_live(lane[0])), None)

    def clear(self) -> None:
        """Forget all entries, which must be husks; the next ones begin without lanes."""
        self.entries.clear()
        self.seals.clear()
        self.lanes = None
        self.weight = 0.0

    def forget_passed(self) -> None:
        """Drop the marks and seals that lie before the head."""
        head, marks, seals = self.head, self.marks, self.seals
        while len(marks) > 1 and marks[1][0] <= head:
            marks.popleft()
        while seals and seals[0][0] <= head:
            seals.popleft()

    def seal(self, tally: Tally) -> int:
        """End the tally's part here and return how many items of it wait; its entries learn whose they are.

        May be repeated, with what came in since: Ctrl-C may end it halfway.
        """
        if self.lanes is not None:
            self.lanes.begin_stretch()
        if self.seals and self.seals[-1][1] is tally:
            self.seals[-1] = (self.tail, tally)
        elif self.seals and self.seals[-1][0] == self.tail:
            return 0
        else:
            self.seals.append((self.tail, tally))
        begin = self.seals[-2][0] if len(self.seals) > 1 else self.head
        live = 0
        for entry in islice(self, begin - self.head, None):
            if not is_tracked(entry):
                live += 1
            elif is_pending(entry):
                # Those who have ended and aren't accounted for are counted out of the tally when they are.
                members = entry.members if type(entry) is Ticket else None
                live += 1 if members is None else len(members)
                entry._tally = tally
        return live

    def compacted(
        self,
    ) -> tuple[deque[Any], Lanes | None, deque[tuple[int, float]], deque[tuple[int, Tally]]]:
        """Return the entries without the husks, in lanes or not, and the marks and seals as they then are.

        The husks count as passed: the new head is as far on as husks were taken out.
        """
        lanes = None
        if self.lanes is not None:
            lanes = Lanes([entry for entry in part if is_live(entry)] for part in self.lanes.parts())
        kept = deque(entry for entry in self.entries if is_live(entry))
        live_before = [0]
        for entry in self:
            live_before.append(live_before[-1] + is_live(entry))
        live, size = live_before[-1], self.size
        head = self.tail - live

        def moved(position: int) -> int:
            return head + live_before[min(max(position - self.head, 0), size)]

        marks = deque((moved(position), when) for position, when in self.marks if live)
        seals = deque((moved(position), tally) for position, tally in self.seals if moved(position) > head)
        return kept, lanes, marks, seals
