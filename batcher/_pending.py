"""The pending queue: given the time, it says whether a batch is due and hands it over.

A plain state machine without threads. An item's way through it:

1. `inbox.append(entry)` accepts the item. That one call is the whole commitment: it is atomic on every
   build of CPython, needs no lock, and leaves an interrupted `add` wholly in or wholly out.
2. `collect` moves what came in to the group of its key; without keys there is only one.
3. `next_due` names a group that may leave, `cut` takes a batch from it.

Two kinds of queue. In a plain one, without keys and weights, entries may be bare items, and `collect`
is a single C call. In a tracked one every entry is a future or a ticket that knows its group, its
weight and its time. A plain queue becomes a tracked one for good with the first entry that has a priority:
`enter` announces it, and since that may come on top of any other step, the next `collect` does it.

Thread safety: none of its own, `inbox.append` excepted; the owner's lock guards all else. What a user's
thread may call can be interrupted by Ctrl-C at any point: such a step may be repeated, or ends in a
straight line (see `_group`). `arrange`, `next_due`, `due_at`, `cut` and `release` are for the thread
that runs batches.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures._base import PENDING, RUNNING
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any

from batcher._flights import Flights, end_ticket, extra_of, ticket_of
from batcher._future import blocked_on
from batcher._group import Batch, Group, Ticket, is_live, is_tracked
from batcher._held import HeldBatches
from batcher._offers import SEALED, Offers, RankedOffers
from batcher._sizing import BatchSizing
from batcher._status import Tally

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from batcher._future import ItemFuture
    from batcher._status import Counters

_FEW = 64  # husks that are not worth a sweep


class PendingQueue:
    """Items that were accepted and that no handler has yet."""

    def __init__(
        self,
        *,
        max_batch_size: int,
        max_delay: float | None,
        max_batch_weight: float | None = None,
        is_tracked: bool = False,
        keeps_order: bool = False,
        is_in_order: bool = True,
        shares: bool = False,
    ) -> None:
        """Make an empty queue.

        Args:
            max_batch_size: As for `Batcher`, and so `max_delay`, `max_batch_weight`.
            max_delay: See there.
            max_batch_weight: See there.
            is_tracked: Every entry is a future or a ticket whose `_place` is its group.
            keeps_order: Remember the order of arrival across the groups, for `drop_oldest`.
            shares: Entries are tickets that several items may share.
            is_in_order: What has no key leaves in order, too: nothing of it while a batch of it is held.
        """
        self._max_batch_size = max_batch_size
        self._max_delay = max_delay
        self._max_batch_weight = math.inf if max_batch_weight is None else max_batch_weight
        self._is_tracked = is_tracked
        self._keeps_order = keeps_order
        self.ranked_since: float | None = None  # when the first entry with a priority came
        # After so many seconds an entry starves, and leaves before higher priorities.
        self._patience = math.inf if max_delay is None else max(10 * max_delay, 0.1)
        self.inbox: deque[Any] = deque()
        self.ended: deque[tuple[ItemFuture[Any] | Ticket, str]] = deque()  # see `account_for_ended`
        self.tallies = [Tally()]  # of flushes that aren't complete, and the open one at last
        self.weight = 0.0  # of all that waits in groups
        self._left = 0  # entries that ever left a group
        self._held = 0  # entries in groups, of a tracked queue
        self._husks = 0  # of those: ended, and not yet swept out
        self.only = Group(None)  # where nothing is keyed
        self._by_key: dict[Hashable, Group] = {}
        # The groups that have entries or are busy, by id: a key's own hash and equality are the user's,
        # may raise, and are asked only where a user's thread adds. In the order in which they take turns.
        self._groups: dict[int, Group] = {} if is_tracked else {id(self.only): self.only}
        self.order: deque[Any] | None = deque() if is_tracked and keeps_order else None
        self._touched: dict[int, Group] = {}  # groups that may have to change their offer
        self._offers = Offers()
        self.blocked = 0  # callers who wait for what waits here
        self._eager: dict[int, Group] = {}  # the groups that may leave for their sake
        self.hold_until = -math.inf  # the moment until which a crowd may wait though it is due
        self.sizing = BatchSizing(max_batch_size)
        self._is_in_order = is_in_order
        self.held = HeldBatches()
        self.flights = Flights() if shares else None
        self.extra = 0  # members of tickets that wait, beyond the tickets themselves
        self._last_number = 0

    @property
    def accepted(self) -> int:
        """Entries that ever came in."""
        return self._left + self._in_groups + len(self.inbox)

    @property
    def count(self) -> int:
        """Entries that wait."""
        return self._in_groups + len(self.inbox) - self._husks + self.held.size + self.extra

    @property
    def heft(self) -> float:
        """What the entries that wait weigh together, as far as they were collected."""
        return self.weight + self.held.weight

    @property
    def _in_groups(self) -> int:
        # Derived where one C call moves any number of entries, counted where each is moved alone.
        return self._held if self._is_tracked else len(self.only.entries)

    @property
    def open_tally(self) -> Tally:
        """What the items belong to that no flush was about."""
        return self.tallies[-1]

    @property
    def sealed(self) -> list[Tally]:
        """The tallies of flushes that aren't complete."""
        return [tally for tally in self.tallies if tally.sealed and tally.left]

    @property
    def oldest_since(self) -> float | None:
        """When the oldest collected entry came, what waits for its next attempt included; None if none waits."""
        grouped = [group.since for group in self._groups.values() if group.live and group.is_dated]
        return min((*grouped, *(batch.since for batch in self.held.batches())), default=None)

    @property
    def is_ranked(self) -> bool:
        """Whether an entry with a priority ever came."""
        return self.ranked_since is not None

    @property
    def undated_room(self) -> int:
        """How long the inbox may get before the next entry must be dated; 0 where each must be."""
        only = self.only
        if self._is_tracked or self.ranked_since is not None or not only.marks:
            return 0
        return self._max_batch_size - (only.head + len(only.entries) - only.marks[-1][0])

    @property
    def missing_to_full(self) -> int:
        """How long the inbox must get before a batch may be full."""
        return 1 if self._is_tracked or self.is_ranked else max(self.sizing.limit - self.only.live, 1)

    # What a user's thread may call

    def enter(self, entries: Sequence[Any], now: float) -> None:
        """Append entries to the inbox, dated; nothing enters if a key's equality raises.

        Those of one call have the same priority.
        """
        first = entries[0] if entries else None
        is_ranked = is_tracked(first) and first._priority != 0
        if is_ranked and self.ranked_since is None:
            self.ranked_since = now
        if self._is_tracked or is_ranked:
            # An add that saw a plain queue may bring a bare item.
            entries = [entry if is_tracked(entry) else Ticket(entry) for entry in entries]
            for entry in entries:
                entry._since = now
                self.place(entry)
        self.date_next(now, len(entries))
        self.inbox.extend(entries)

    def place(self, entry: ItemFuture[Any] | Ticket) -> None:
        """Give the entry its group; raises what its key's hash or equality raises."""
        key = entry._key
        if key is None:
            entry._place = self.only
            return
        group = self._by_key.get(key)
        entry._place = self._by_key.setdefault(key, Group(key)) if group is None else group

    def date_next(self, now: float, count: int) -> None:
        """Note that the `count` entries which come in next came now."""
        if not self._is_tracked:  # else each carries its own date
            only, spacing = self.only, self._max_batch_size
            marks, tail = only.marks, only.head + len(only.entries) + len(self.inbox)
            first = max(marks[-1][0] + spacing, tail) if marks else tail
            for position in range(first, tail + count, spacing):
                marks.append((position, now))

    def collect(self) -> None:
        """Move what came in to its group."""
        inbox = self.inbox
        if not self._is_tracked:
            # Others may append meanwhile, but nobody else takes: these many are there.
            self.only.entries.extend(starmap(inbox.popleft, repeat((), len(inbox))))
            if self.ranked_since is None:
                return
            self._track(self.ranked_since)
        while inbox:
            entry = inbox[0]
            if not is_tracked(entry):
                entry = inbox[0] = Ticket(entry)
            if entry._place is None:  # it came as a plain queue's, just after that had become a tracked one
                entry._since = self.ranked_since or 0.0
                entry._place = self.only
            if not entry._is_collected:  # else Ctrl-C came before it left the inbox
                self._collect_tracked(entry)
            inbox.popleft()

    def _track(self, since: float) -> None:
        """Make this a tracked queue, and put what waits in lanes."""
        only = self.only
        entries = only.tracked(since)
        lanes = only.laned(entries)
        order = deque(filter(is_live, entries)) if self._keeps_order else None
        no_entries, no_marks = deque[Any](), deque[tuple[int, float]]()
        # One straight line.
        only.lanes = lanes
        only.entries = no_entries
        only.marks = no_marks
        self._held = lanes.count
        self.order = order
        self._is_tracked = True

    def _collect_tracked(self, entry: ItemFuture[Any] | Ticket) -> None:
        group: Group = entry._place
        self._groups.setdefault(id(group), group)
        self._touched[id(group)] = group
        if not group.live:
            group.marks.clear()
        lane = group.lane_for(entry)
        lanes = group.lanes
        if lanes is None:
            group.mark(group.tail, entry._since, self._max_batch_size)
        order = self.tidied_order()
        if order is not None:
            order.extend((type(entry) is Ticket and entry.members) or (entry,))
        weight = entry._weight
        self.weight += weight
        group.weight += weight
        self._held += 1
        if lanes is not None:
            lanes.count += 1
        entry._is_collected = True
        lane.append(entry)

    def tidied_order(self) -> deque[Any] | None:
        """Return the order of arrival, where that is kept, without too many who are gone; who enters is appended."""
        if self.order is not None and len(self.order) > 2 * self.count + _FEW:
            self.order = deque(filter(is_live, self.order))
        return self.order

    def block(self, future: ItemFuture[Any]) -> None:
        """Note that a caller waits for `future`, which waits here."""
        group = self.only
        if self._is_tracked:  # else the only group counts as touched in any case
            group = self._group_of(future)
            self._touched[id(group)] = group
        group.blocked += 1
        self.blocked += 1

    def unblock(self, future: ItemFuture[Any]) -> None:
        """Note that a caller has given up to wait for `future`, which waits on."""
        group = self._group_of(future)
        self._touched[id(group)] = group
        self._unblock(group, 1)

    def _group_of(self, entry: ItemFuture[Any] | Ticket) -> Group:
        """Return the group that an entry waits in, or the ticket of a member."""
        place = entry._place
        if type(place) is Ticket:
            place = place._place
        return self.only if place is None else place

    def _unblock(self, group: Group, count: int) -> None:
        # Ctrl-C may have kept a caller from being counted: a group without entries has none, for certain.
        left = max(group.blocked - count, 0) if group.live else 0
        self.blocked = max(self.blocked - group.blocked + left, 0)
        group.blocked = left

    def end(
        self,
        entry: ItemFuture[Any] | Ticket,
        state: str,
        ending: str,
        counters: Counters,
        dropped: list[Any] | None = None,
    ) -> bool:
        """End an entry where it waits, or one of those who share an entry; False if it waits no more.

        It is "cancelled", "expired" or "dropped", and accounted for later; it is added to `dropped`, if that is given.
        """
        ticket = ticket_of(entry)
        # What has claimed the ticket has claimed its members, be they marked already or not.
        if entry._state is not PENDING or (ticket is not None and ticket._state is not PENDING):
            return False
        # One straight line from the look at the state.
        entry._state = state
        if ending == "cancelled":
            counters.cancelled += 1
        elif ending == "expired":
            counters.expired += 1
        else:
            counters.dropped += 1
        if dropped is not None:
            dropped += (entry,)
        if ticket is not None:
            ticket.live -= 1
            if not ticket.live:
                ticket._state = RUNNING
                entry = ticket
        self.ended += ((entry, ending),)
        return True

    def account_for_ended(self) -> None:
        """Count the entries that ended where they waited: cancelled, expired or dropped.

        Who ends an entry changes its state and appends it to `ended`, in a straight line. If a signal
        handler does so on top of another step, the count is left to the next step.
        """
        if not self.ended:
            return
        self.collect()
        ended = self.ended
        while ended:
            entry, ending = ended[0]
            ticket = ticket_of(entry)
            if ticket is not None:
                self._count_member(entry, ticket, ending)
                continue
            if type(entry) is Ticket and self.flights is not None:  # the last of its members has ended
                self.flights.free(entry)
            group = (entry._place if self._is_tracked else None) or self.only
            tally, weight = entry._tally, entry._weight
            self._touched[id(group)] = group
            self._husks += 1
            group.husks += 1
            self.weight -= weight
            group.weight -= weight
            if tally is not None:
                tally.pending -= 1
                tally.ended[ending] += 1
            ended.popleft()
            if group.blocked:
                self._unblock(group, blocked_on(entry))
            if type(entry) is Ticket:
                end_ticket(entry)
            if tally is not None:
                tally.ring_if_complete()
        if not self.count or self._husks > max(self.count, _FEW):
            self._sweep()

    def _count_member(self, member: ItemFuture[Any] | Ticket, ticket: Ticket, ending: str) -> None:
        """Count one of several who share a ticket as ended; the others go on."""
        tally, place = ticket._tally, ticket._place
        group = place if type(place) is Group else None  # else it has left, in a batch
        blocked = blocked_on(member)
        members: dict[Any, None] = ticket.members or {}  # none if their batch was settled meanwhile
        # One straight line.
        if tally is not None:
            tally.pending -= 1
            tally.ended[ending] += 1
        self.extra -= 1
        if members:
            del members[member]
        self.ended.popleft()
        if group is not None:
            self._touched[id(group)] = group
            self._unblock(group, blocked)
        if tally is not None:
            tally.ring_if_complete()

    def _sweep(self) -> None:
        """Take the husks out: they must not fill the memory, nor make what follows them look old."""
        for group in list(self._groups.values()):
            if group.husks:
                entries, lanes, marks, seals = group.compacted()
                removed = group.size - (len(entries) if lanes is None else lanes.count)
                group.head += removed
                group.husks -= removed
                group.entries, group.lanes, group.marks, group.seals = entries, lanes, marks, seals
                self._husks -= removed
                self._left += removed
                self._held -= removed
                self._touched[id(group)] = group
            if not group.size and not group.is_busy:
                self._free(group)
        self._forget_drift()

    def _free(self, group: Group) -> None:
        """Let an idle key go."""
        if not self._is_tracked:
            return
        self._offers.withdraw(group)
        self._unblock(group, group.blocked)
        self._eager.pop(id(group), None)
        self._groups.pop(id(group), None)
        self._touched.pop(id(group), None)
        try:
            if self._by_key.get(group.key) is group:
                del self._by_key[group.key]
        except BaseException:  # noqa: BLE001, S110 - the key's own equality; then its empty group stays
            pass

    def _forget_drift(self) -> None:
        """Start from zero when nothing waits: sums of floats drift."""
        if not self.count:
            self.weight = 0.0

    def drop_oldest(self, counters: Counters, dropped: list[Any]) -> bool:
        """End the item that came first of all that wait; False if all that wait were in a handler already."""
        self.collect()
        if self.order is None:
            before = counters.dropped
            self._drop_head(self.only, counters, dropped)
            if not self.only.live and not self.inbox:
                self.only.marks.clear()
            return counters.dropped > before
        while self.order:
            entry = self.order[0]
            if self.end(entry, RUNNING, "dropped", counters, dropped):  # claimed, for whoever settles it
                self.account_for_ended()
                return True
            self.order.popleft()
        return False

    def drop_all(self, counters: Counters, dropped: list[Any]) -> None:
        """End all entries that wait."""
        self.account_for_ended()
        self.collect()
        for group in list(self._groups.values()):
            while group.live and group.size:
                self._drop_head(group, counters, dropped)
            self._touched[id(group)] = group
        self._forget_drift()

    def _drop_head(self, group: Group, counters: Counters, dropped: list[Any]) -> None:
        """End the group's first live entry, if there is one, and take it out with the husks before it."""
        lanes = group.lanes
        while True:
            if not group.size:
                return  # a signal handler has just ended the last one
            lane = group.entries if lanes is None else lanes.next_lane(-math.inf)
            entry = lane[0]
            weight = entry._weight if is_tracked(entry) else None
            is_ticket = type(entry) is Ticket
            group.forget_passed()
            tally = group.seals[0][1] if group.seals else None
            # One straight line from the look at the state: nobody can cancel the entry in between, and what is
            # in `dropped` has left the queue, or another batch might have it by the time that it is settled.
            if weight is None or entry._state is PENDING:
                break
            self._husks -= 1
            self._left += 1
            self._held -= 1
            group.husks -= 1
            group.head += 1
            if lanes is not None:
                lanes.count -= 1
            lane.popleft()
        if weight is not None:
            entry._state = RUNNING  # claimed, for whoever settles it
            self.weight -= weight
            group.weight -= weight
        dropped += (entry,)
        number = entry.live if is_ticket else 1
        if tally is not None:
            tally.pending -= number
            tally.ended["dropped"] += number
        counters.dropped += number
        self.extra -= number - 1
        self._left += 1
        self._held -= 1
        group.head += 1
        if lanes is not None:
            lanes.count -= 1
        lane.popleft()
        if tally is not None:
            tally.ring_if_complete()

    def drop_held(self, after: float, running: Iterable[Batch], counters: Counters, dropped: list[Batch]) -> None:
        """End the batches that are held for a time beyond `after`, and what is to follow `running` ones."""
        held = self.held
        for batch in running:
            held.adopt_rest(batch)
        held.heap.sort()  # a sorted list is a heap
        while held.heap and held.heap[-1][0] > after:
            batch = held.heap[-1][2]
            parts = (batch, *batch.rest)
            size, weight = held.recount(parts)
            entries = [entry for part in parts for entry in part.entries if is_tracked(entry)]
            for entry in entries:
                entry._place = None  # where nobody joins it any more, and no deadline finds it
            extra = 0 if self.flights is None else extra_of(entry for part in parts for entry in part.entries)
            tally, group = batch.tally, batch.group
            self._touched[id(group)] = group
            # One straight line.
            del held.heap[-1]
            held.size -= size
            held.weight -= weight
            self.extra -= extra
            tally.processing -= size + extra
            tally.ended["dropped"] += size + extra
            counters.dropped += size + extra
            group.is_busy = False
            dropped[:0] = (batch,)
            tally.ring_if_complete()

    def waiting(self) -> list[Any]:
        """Return the entries that wait in groups."""
        self.account_for_ended()
        self.collect()
        return [entry for group in self._groups.values() for entry in group if is_live(entry)]

    def seal(self) -> Tally:
        """Close the open tally over all that waits; those groups may leave at once.

        Half a seal, where Ctrl-C came, only makes its groups leave; the next seal takes up the same tally.
        """
        self.account_for_ended()
        self.collect()
        tally, fresh = self.open_tally, Tally()
        pending = 0
        for group in self._groups.values():
            if group.live:
                self._touched[id(group)] = group
                pending += group.seal(tally)
        # One with bells is complete, perhaps, and Ctrl-C came before they were rung.
        unfinished = [earlier for earlier in self.tallies if earlier is tally or earlier.left or earlier.bells]
        # One straight line.
        tally.pending = pending
        tally.sealed = True
        self.tallies = [*unfinished, fresh]
        return tally

    # What only the thread that runs batches calls

    def forget_complete(self) -> None:
        """Let the tallies go of flushes that are complete, and that nobody waits for any more."""
        if len(self.tallies) > 1:
            self.tallies = [tally for tally in self.tallies if not tally.sealed or tally.left or tally.bells]

    def arrange(self, now: float) -> None:
        """Collect what came in, and see which groups may leave when."""
        self.account_for_ended()
        if not self._is_tracked:
            self._touched[id(self.only)] = self.only
        self.collect()
        if self.is_ranked and type(self._offers) is Offers:
            self._rank_offers()
        touched, self._touched = self._touched, {}
        for group in touched.values():
            if group.live and not group.is_dated:  # its add was under way while the queue was emptied
                group.mark(group.head, now, self._max_batch_size)
            self._tidy(group)
            self._offer(group)

    def collect_plain(self, now: float) -> Group:
        """Collect what came in, and return the only group of a plain queue, dated."""
        self.collect()
        group = self.only
        if group.entries and not group.marks:  # its add was under way while the queue was emptied
            group.mark(group.head, now, self._max_batch_size)
        return group

    def _rank_offers(self) -> None:
        """Have the groups leave by priority from now on."""
        self._offers = RankedOffers(self._patience)
        for group in self._groups.values():
            group.offer = 0
        self._touched |= self._groups

    def _tidy(self, group: Group) -> None:
        """Forget what lies behind the group's head; an empty group starts from nothing, or goes."""
        if group.live:
            while (lane := group.lane_of_husk()) is not None:  # or the next would look as old
                self._account_left(group, 1, 1)
                group.take_from(lane)
            group.forget_passed()
            return
        self._account_left(group, group.size, group.husks)
        self._unblock(group, group.blocked)
        group.clear()
        if self._is_tracked or not self.inbox:
            group.marks.clear()
        if not group.is_busy:
            self._free(group)

    def _offer(self, group: Group) -> None:
        """Say anew when the group may leave."""
        self._offers.put(group, self._leaves_at(group))
        if group.blocked and group.live and not group.is_busy:
            self._eager[id(group)] = group
        elif self._eager:
            self._eager.pop(id(group), None)

    def is_full(self, group: Group) -> bool:
        """Say whether the group fills a batch."""
        return group.size - group.husks >= self.sizing.limit or group.weight >= self._max_batch_weight

    def _leaves_at(self, group: Group) -> float | None:
        """Return the time from which the group may leave by itself; None: not before something changes."""
        if group.is_busy or not group.live:
            return None
        if group.seals:
            return SEALED
        if self.is_full(group):
            return group.since
        return None if self._max_delay is None else group.since + self._max_delay

    def due_at(self, *, is_paused: bool) -> float | None:
        """Return when the next group may leave, None if none will by itself.

        While paused only those leave that a flush has sealed.
        """
        group = self._offers.first()
        if group is None or (is_paused and group.leaves_at != SEALED):
            return None
        return max(group.leaves_at, self.hold_until) if self._may_be_held(group) else group.leaves_at

    def _may_be_held(self, group: Group) -> bool:
        """Say whether all that wait there have callers, and the time alone makes them leave."""
        return (
            self.hold_until > group.leaves_at != SEALED
            and group is self.only
            and group.blocked >= group.live + self.extra
            and not self.is_full(group)
        )

    @property
    def eager_keys(self) -> int:
        """How many groups could leave for the sake of blocked callers."""
        return len(self._eager)

    @property
    def is_eager(self) -> bool:
        """Whether a group could leave for the sake of blocked callers."""
        return bool(self._eager)

    def next_due(self, now: float, *, is_paused: bool, is_forced: bool, is_eager: bool = False) -> Group | None:
        """Return a group that may leave now.

        Args:
            now: The present time.
            is_paused: Only what a flush has sealed may.
            is_forced: Any may that can, where none is due by itself.
            is_eager: Those may that callers are blocked on, where none is due by itself.
        """
        if self.ended:  # by a destructor on this very thread: nothing may be offered that isn't there
            self.arrange(now)
        when = self.due_at(is_paused=is_paused)
        if when is not None and when <= now:
            return self._offers.due(now)
        if is_eager and self._eager:
            groups = self._eager.values()
            return max(groups, key=lambda group: group.priority) if self.is_ranked else next(iter(groups))
        return self._offers.forced(self._groups.values()) if is_forced else None

    def cut(self, group: Group, now: float) -> Batch | None:
        """Take the next batch of `group`; None if there were only husks up to the next seal."""
        tally = group.seals[0][1] if group.seals else self.open_tally
        most = group.seals[0][0] - group.head if group.seals else group.size
        batch = Batch(self.next_number(), group, tally, group.since)
        if group.weight or group.lanes is not None:
            self._take_weighed(batch, most, now - self._patience)
        else:
            self._take_counted(batch, most)
        size = batch.size
        number = size if self.flights is None else size + extra_of(batch.entries)
        tally.processing += number
        if tally.sealed:
            tally.pending -= number
        group.is_busy = group is not self.only and size > 0
        self._tidy(group)
        if self._is_tracked and id(group) in self._groups:
            self._groups[id(group)] = self._groups.pop(id(group))  # to the end: the others take turns first
        if group.blocked:
            self._unblock(group, sum(map(blocked_on, filter(is_tracked, batch.entries))))
        self._offer(group)
        self._forget_drift()
        return batch if size else None

    def cut_all(self) -> Batch | None:
        """Take all that waits in a plain queue, where it fits into one batch: a short way of `cut`."""
        group = self.only
        if group.seals or len(group.entries) > self.sizing.limit:
            return self.cut(group, 0.0)
        batch = Batch(self.next_number(), group, self.open_tally, group.since if group.marks else 0.0)
        entries = list(group.entries)
        group.entries.clear()
        group.head += len(entries)
        self._left += len(entries)
        husks = batch.add(entries)
        if husks:
            self._husks -= husks
            group.husks -= husks
        batch.tally.processing += len(batch.items)
        if not self.inbox:
            group.marks.clear()
        if self.blocked:
            self.blocked = group.blocked = 0  # there is no other group
            self._eager.clear()
        if group.offer:
            self._offers.withdraw(group)
        return batch if batch.items else None

    def _take_counted(self, batch: Batch, most: int) -> None:
        """Fill the batch from the group's first `most` entries."""
        while most and batch.size < self.sizing.limit:
            count = min(most, self.sizing.limit - batch.size)
            self._account_left(batch.group, count, batch.add(batch.group.take(count)))
            most -= count

    def _take_weighed(self, batch: Batch, most: int, starving_since: float) -> None:
        """Fill the batch up to its weight as well, by priority where there is any."""
        group = batch.group
        lanes = group.lanes
        for _ in range(most):
            lane = group.entries if lanes is None else lanes.next_lane(starving_since)
            entry = lane[0]
            weight = entry._weight if is_live(entry) else 0.0
            if batch.items and batch.weight + weight > self._max_batch_weight:
                break
            self._account_left(group, 1, batch.add([group.take_from(lane)]))
            batch.weight += weight
            group.weight -= weight
            self.weight -= weight
            if batch.size == self.sizing.limit:
                break
        if lanes is not None:
            batch.since = min((entry._since for entry in batch.entries), default=batch.since)

    def _account_left(self, group: Group, count: int, husks: int) -> None:
        self._left += count
        self._held -= count
        self._husks -= husks
        group.husks -= husks

    def next_number(self) -> int:
        """Return a number that no batch has yet."""
        self._last_number += 1
        return self._last_number

    def hold(self, batches: Sequence[Batch], due: float) -> None:
        """Have batches leave again, one after another, from `due` on; they are counted as held already."""
        first, *first.rest = batches
        if first.group is not self.only or self._is_in_order:
            first.group.is_busy = True  # what came later must not overtake
            self._touched[id(first.group)] = first.group
        self.held.put(first, due)

    def end_held(self, batch: Batch, weight: float, now: float) -> None:
        """Count an item of a held batch as ended; when nothing is left of the batch, nobody waits for its time."""
        self.held.count_out(batch, weight)
        if batch.gone == batch.size and self.held.remove(batch):
            self.pass_over(batch, now)

    def pass_over(self, batch: Batch, now: float) -> None:
        """Go on after a held batch of which nothing is left."""
        if batch.rest:
            self.hold(batch.rest, now)
        else:
            self.release(batch.group)
            self.arrange(now)

    def release(self, group: Group) -> None:
        """Let the next batch of the group's key leave: the one before is done."""
        group.is_busy = False
        self._touched[id(group)] = group
