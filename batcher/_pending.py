"""The pending queue: given the time, it says whether a batch is due and hands it over.

A plain state machine without threads. An item's way through it:

1. `inbox.append(entry)` accepts the item. That one call is the whole commitment: it is atomic on every
   build of CPython, needs no lock, and leaves an interrupted `add` wholly in or wholly out.
2. `arrange` moves what came in to the group of its key; without keys there is only one.
3. `next_due` names a group that may leave, `cut` takes a batch from it.

Thread safety: none of its own, `inbox.append` excepted; the owner's lock guards all else.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from concurrent.futures._base import RUNNING
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any

from batcher._group import Batch, Group, is_live, is_tracked
from batcher._status import Tally

if TYPE_CHECKING:
    from collections.abc import Hashable

    from batcher._future import ItemFuture
    from batcher._group import Ticket
    from batcher._status import Counters

SEALED = -math.inf  # the time from which a group may leave that a flush waits for


class PendingQueue:
    """Items that were accepted and that no handler has yet."""

    def __init__(
        self,
        *,
        max_batch_size: int,
        max_delay: float | None,
        max_batch_weight: float | None = None,
        is_weighed: bool = False,
        is_keyed: bool = False,
    ) -> None:
        """Make an empty queue; the options are those of `Batcher`."""
        self._max_batch_size = max_batch_size
        self._max_batch_weight = math.inf if max_batch_weight is None else max_batch_weight
        self._max_delay = max_delay
        self._is_weighed = is_weighed
        self._is_keyed = is_keyed
        self.inbox: deque[Any] = deque()
        self.open_tally = Tally()
        self.weight = 0.0  # of all that waits
        self._left = 0  # entries that ever left a group
        self._held = 0  # entries in groups
        self._husks = 0  # of those in groups and in the inbox: ended, and not yet swept out
        self._groups: dict[Hashable, Group] = {}
        self._only = Group(None)  # where nothing is keyed
        if not is_keyed:
            self._groups[None] = self._only
        self._order: deque[ItemFuture[Any] | Ticket] = deque()  # see `oldest`
        self.ended: deque[tuple[ItemFuture[Any] | Ticket, str]] = deque()  # see `account_for_ended`
        self._offers: list[tuple[float, int, Group]] = []
        self._last_offer = 0
        self._last_batch = 0

    @property
    def accepted(self) -> int:
        """Entries that ever came in."""
        return self._left + self._held_in_groups + len(self.inbox)

    @property
    def count(self) -> int:
        """Entries that wait."""
        return self._held_in_groups + len(self.inbox) - self._husks

    @property
    def _held_in_groups(self) -> int:
        # Derived where a user's thread may move entries (see `arrange`), counted where only ours does.
        return self._held if self._is_keyed else len(self._only.entries)

    @property
    def oldest_since(self) -> float | None:
        """When the oldest waiting entry came, as far as arranged; None if none waits."""
        return min((group.since for group in self._groups.values() if group.live and group.marks), default=None)

    @property
    def undated_room(self) -> int:
        """How long the inbox may get before the next entry must be dated."""
        if self._is_keyed:
            return 0
        marks = self._only.marks
        return self._max_batch_size - (self._only.tail - marks[-1][0]) if marks else 0

    @property
    def missing_to_full(self) -> int:
        """How long the inbox must get before a batch may be full."""
        return 1 if self._is_keyed else max(self._max_batch_size - self._only.live, 1)

    # Coming in: what a thread of the user may call

    def date_next(self, now: float, count: int) -> None:
        """Note that the `count` entries which come in next came now."""
        if not self._is_keyed:  # else each carries its own date
            tail = self._only.tail + len(self.inbox)
            for offset in range(0, count, self._max_batch_size):
                self._only.mark(tail + offset, now, self._max_batch_size)

    def account_for_ended(self) -> None:
        """Count the entries that ended where they waited: cancelled, expired or dropped.

        Who ends an entry changes its state and appends it to `ended`, in a straight line. If a signal
        handler does so on top of another step, the count is left to the next step.
        """
        if not self.ended:
            return
        if not self._is_keyed:
            self.arrange_only()  # from here on they are in the group, wherever they were
        ended = self.ended
        while ended:
            entry, ending = ended[0]
            group = entry._place if self._is_keyed else self._only
            tally = entry._tally
            self._husks += 1
            self.weight -= entry._weight
            if group is not None:  # else it is in the inbox, and `arrange` will see what it is
                group.husks += 1
                group.weight -= entry._weight
            if tally is not None:
                tally.pending -= 1
                tally.ended[ending] += 1
            ended.popleft()
            if tally is not None:
                tally.ring_if_complete()
        if not self.count or self._husks > max(self.count, 64):
            self._sweep()

    def _sweep(self) -> None:
        """Take the husks out: they must not fill the memory, nor make what follows them look old."""
        for group in self._groups.values():
            if group.husks:
                kept, marks, seals = group.compacted()
                removed = len(group.entries) - len(kept)
                group.head += removed
                group.husks -= removed
                group.entries, group.marks, group.seals = kept, marks, seals
                self._husks -= removed
                self._left += removed
                self._held -= removed
        if self._is_keyed:
            self._groups = {key: group for key, group in self._groups.items() if group.entries or group.is_busy}

    def remember_order(self, entry: ItemFuture[Any] | Ticket) -> None:
        """Keep the order of arrival across the keys, for `drop_oldest`."""
        if self._is_keyed:
            if len(self._order) > 2 * self.count + 64:
                self._order = deque(entry for entry in self._order if is_live(entry))
            self._order.append(entry)

    def drop_oldest(self, counters: Counters, dropped: list[Any]) -> None:
        """End the entry that came first of all that wait; there must be one."""
        if not self._is_keyed:
            self.arrange_only()
            self._drop_head(self._only, counters, dropped)
            return
        while not is_live(self._order[0]):
            self._order.popleft()
        entry = self._order[0]
        dropped.append(entry)
        entry._state = RUNNING  # claimed, for whoever settles it
        counters.dropped += 1
        self.ended.append((entry, "dropped"))
        self.account_for_ended()

    def drop_all(self, now: float, counters: Counters, dropped: list[Any]) -> None:
        """End all entries that wait."""
        self.arrange(now)
        for group in list(self._groups.values()):
            while group.live:
                self._drop_head(group, counters, dropped)
            self._tidy(group)
            self._offer(group)

    def _drop_head(self, group: Group, counters: Counters, dropped: list[Any]) -> None:
        """End the group's oldest live entry, and take it out with the husks before it.

        Nothing but `dropped` hears of it if Ctrl-C comes after the first line; so who reads that list
        leaves out what still waits.
        """
        while not is_live(entry := group.entries[0]):
            self._husks -= 1
            self._left += 1
            self._held -= 1
            group.husks -= 1
            group.head += 1
            group.entries.popleft()
        group.forget_passed()
        dropped.append(entry)
        tally = group.seals[0][1] if group.seals else None
        if is_tracked(entry):
            weight = entry._weight
            entry._state = RUNNING  # claimed, for whoever settles it
            self.weight -= weight
            group.weight -= weight
        if tally is not None:
            tally.pending -= 1
            tally.ended["dropped"] += 1
        counters.dropped += 1
        self._left += 1
        self._held -= 1
        group.head += 1
        group.entries.popleft()
        if tally is not None:
            tally.ring_if_complete()

    def waiting(self, now: float) -> list[Any]:
        """Return the entries that wait."""
        self.arrange(now)
        return [entry for group in self._groups.values() for entry in group.entries if is_live(entry)]

    def arrange_only(self) -> None:
        """Move what came in to the only group: one C call, so that no signal comes between."""
        inbox = self.inbox
        # Others may append meanwhile, but nobody else takes: these many are there.
        self._only.entries.extend(starmap(inbox.popleft, repeat((), len(inbox))))

    # On its way: what only the thread that runs batches calls

    def arrange(self, now: float) -> None:
        """Move what came in to the groups, and see which of them may leave when."""
        self.account_for_ended()
        if not self._is_keyed:
            if self.inbox:
                self.arrange_only()
                if not self._only.marks:  # its add was under way while the queue was emptied
                    self._only.mark(self._only.head, now, self._max_batch_size)
            self._offer(self._only)
            return
        while self.inbox:
            self._arrange_keyed(self.inbox[0])
            self.inbox.popleft()

    def _arrange_keyed(self, entry: ItemFuture[Any] | Ticket) -> None:
        """Put the entry to its group; nothing is done twice if Ctrl-C kept it from leaving the inbox."""
        if entry._place is not None:
            return
        group = self._groups.get(entry._key)
        if group is None:
            group = self._groups[entry._key] = Group(entry._key)
        group.mark(group.tail, entry._since, self._max_batch_size)
        live = is_live(entry)
        entry._place = group
        self._held += 1
        if live:
            group.weight += entry._weight
        else:
            group.husks += 1
        group.entries.append(entry)
        self._offer(group)

    def _is_full(self, group: Group) -> bool:
        return group.live >= self._max_batch_size or group.weight >= self._max_batch_weight

    def _offer(self, group: Group) -> None:
        """Enter the group's one valid offer to leave, or withdraw it."""
        when = self._leaves_at(group)
        if when is None:
            group.offer = 0
            return
        if group.offer and group.leaves_at == when:
            return
        if len(self._offers) > 2 * len(self._groups) + 64:  # mostly offers that others have replaced
            self._offers = [offer for offer in self._offers if offer[2].offer == offer[1]]
            heapq.heapify(self._offers)
        self._last_offer += 1
        group.offer, group.leaves_at = self._last_offer, when
        heapq.heappush(self._offers, (when, group.offer, group))

    def _leaves_at(self, group: Group) -> float | None:
        """Return the time from which the group may leave by itself; None: not before more comes."""
        if group.is_busy or not group.live:
            return None
        if group.seals:
            return SEALED
        if self._is_full(group):
            return group.since
        return None if self._max_delay is None else group.since + self._max_delay

    def due_at(self, *, is_paused: bool) -> float | None:
        """Return when the next group may leave, None if none will by itself.

        While paused only those leave that a flush has sealed.
        """
        while self._offers and self._offers[0][1] != self._offers[0][2].offer:
            heapq.heappop(self._offers)
        if not self._offers or (is_paused and self._offers[0][0] != SEALED):
            return None
        return self._offers[0][0]

    def next_due(self, now: float, *, is_paused: bool, is_forced: bool) -> Group | None:
        """Return a group that may leave now; `is_forced`: any that can, where none is due by itself."""
        when = self.due_at(is_paused=is_paused)
        if when is not None and when <= now:
            return self._offers[0][2]
        if is_forced:
            return next((group for group in self._groups.values() if group.live and not group.is_busy), None)
        return None

    def cut(self, group: Group) -> Batch | None:
        """Take the next batch of `group`; None if there were only husks up to the next seal."""
        tally = group.seals[0][1] if group.seals else self.open_tally
        most = group.seals[0][0] - group.head if group.seals else len(group.entries)
        self._last_batch += 1
        batch = Batch(self._last_batch, group, tally, group.since)
        if self._is_weighed:
            self._take_weighed(batch, most)
        else:
            self._take_counted(batch, most)
        size = len(batch.items)
        tally.processing += size
        if tally.sealed:
            tally.pending -= size
        group.is_busy = self._is_keyed and size > 0
        self._tidy(group)
        self._offer(group)
        return batch if size else None

    def _take_counted(self, batch: Batch, most: int) -> None:
        """Fill the batch from the group's first `most` entries."""
        while most and len(batch.items) < self._max_batch_size:
            count = min(most, self._max_batch_size - len(batch.items))
            self._account_left(batch.group, count, batch.add(batch.group.take(count)))
            most -= count
        batch.weight = float(len(batch.items))

    def _take_weighed(self, batch: Batch, most: int) -> None:
        """Fill the batch up to its weight as well."""
        group = batch.group
        for _ in range(most):
            entry = group.entries[0]
            weight = entry._weight if is_tracked(entry) and is_live(entry) else 0.0
            if batch.items and batch.weight + weight > self._max_batch_weight:
                break
            self._account_left(group, 1, batch.add(group.take(1)))
            batch.weight += weight
            group.weight -= weight
            self.weight -= weight
            if len(batch.items) == self._max_batch_size:
                break

    def _account_left(self, group: Group, count: int, husks: int) -> None:
        self._left += count
        self._held -= count
        self._husks -= husks
        group.husks -= husks

    def _tidy(self, group: Group) -> None:
        """Forget what lies behind the group's head; an empty queue starts from nothing."""
        group.forget_passed()
        if not group.live:
            group.weight = 0.0  # sums of floats drift
            if self._is_keyed and not group.is_busy:
                self._free(group)
            elif not group.entries and not self.inbox:
                group.marks.clear()
        elif self._is_keyed:
            self._groups[group.key] = self._groups.pop(group.key)  # to the end: the others come first
        if not self.count:
            self.weight = 0.0

    def _free(self, group: Group) -> None:
        """Let an idle key go; what is left in it are husks."""
        self._account_left(group, len(group.entries), group.husks)
        group.entries.clear()
        del self._groups[group.key]

    def release(self, group: Group) -> None:
        """Let the next batch of the group's key leave: the one before is done."""
        if self._is_keyed:
            group.is_busy = False
            if not group.live:
                self._free(group)
            self._offer(group)

    def seal(self, now: float) -> Tally:
        """Close the open tally over all that waits; those groups may leave at once."""
        self.arrange(now)
        tally = self.open_tally
        tally.sealed = True
        try:
            self._seal_groups(tally)
        except BaseException:
            self._seal_groups(tally)  # Ctrl-C: half a seal would be waited for in vain
            raise
        return tally

    def _seal_groups(self, tally: Tally) -> None:
        """Have every group end the tally's part; may be repeated."""
        pending = 0
        for group in self._groups.values():
            if group.live:
                pending += group.seal(tally)
                self._offer(group)
        tally.pending = pending
        if self.open_tally is tally:
            self.open_tally = Tally()
