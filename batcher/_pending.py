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
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any

from batcher._group import Batch, Group, is_live, is_tracked
from batcher._status import Tally

if TYPE_CHECKING:
    from collections.abc import Hashable

    from batcher._future import ItemFuture
    from batcher._group import Ticket

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
        self._late: deque[tuple[ItemFuture[Any] | Ticket, str]] = deque()  # see `discard_later`
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

    def discard(self, entry: ItemFuture[Any] | Ticket, ending: str) -> None:
        """Account for an entry that has just ended where it waits: cancelled, expired or dropped."""
        if not self._is_keyed:
            self.arrange_only()  # from here on it is in the group, wherever it was
        group = entry._place if self._is_keyed else self._only
        self._husks += 1
        self.weight -= entry._weight
        if group is not None:  # else it is in the inbox, and `arrange` will see what it is
            group.husks += 1
            group.weight -= entry._weight
        if entry._tally is not None:
            entry._tally.pending -= 1
            entry._tally.note(ending, 1)
        if not self.count or self._husks > max(self.count, 64):
            self._sweep()

    def discard_later(self, entry: ItemFuture[Any] | Ticket, ending: str) -> None:
        """Leave the accounting to the next call that isn't on top of another one on the same thread."""
        self._late.append((entry, ending))

    def catch_up(self) -> None:
        """Account for what was left to later."""
        while self._late:
            self.discard(*self._late.popleft())

    def _sweep(self) -> None:
        """Take the husks out: they must not fill the memory, nor make what follows them look old."""
        for group in self._groups.values():
            if group.husks:
                removed = group.compact()
                self._husks -= removed
                self._left += removed
                self._held -= removed
        if self._is_keyed:
            self._groups = {key: group for key, group in self._groups.items() if group.entries or group.is_busy}

    def oldest(self) -> Any:  # noqa: ANN401 - an entry is a future, a ticket or the user's bare item
        """Return the entry that came first of all that wait; there must be one."""
        if not self._is_keyed:
            self.arrange_only()
            return next(entry for entry in self._only.entries if is_live(entry))
        while not is_live(self._order[0]):
            self._order.popleft()
        return self._order[0]

    def remember_order(self, entry: ItemFuture[Any] | Ticket) -> None:
        """Keep the order of arrival across the keys, for `oldest`."""
        if len(self._order) > 2 * self.count + 64:
            self._order = deque(entry for entry in self._order if is_live(entry))
        self._order.append(entry)

    def drop_bare(self) -> None:
        """Remove the oldest entry of an unkeyed queue, a bare item; husks before it go as well."""
        while is_tracked(self._only.entries[0]):
            self._husks -= 1
            self._only.husks -= 1
            self._left += 1
            self._only.head += 1
            self._only.entries.popleft()
        self._only.forget_passed()
        if self._only.seals:
            self._only.seals[0][1].pending -= 1
            self._only.seals[0][1].note("dropped", 1)
        self._left += 1
        self._only.head += 1
        self._only.entries.popleft()

    def arrange_only(self) -> None:
        """Move what came in to the only group: one C call, so that no signal comes between."""
        inbox = self.inbox
        # Others may append meanwhile, but nobody else takes: these many are there.
        self._only.entries.extend(starmap(inbox.popleft, repeat((), len(inbox))))

    # On its way: what only the thread that runs batches calls

    def arrange(self, now: float) -> None:
        """Move what came in to the groups, and see which of them may leave when."""
        self.catch_up()
        if not self._is_keyed:
            if self.inbox:
                self.arrange_only()
                if not self._only.marks:  # its add was under way while the queue was emptied
                    self._only.mark(self._only.head, now, self._max_batch_size)
            self._offer(self._only)
            return
        for _ in range(len(self.inbox)):
            self._arrange_keyed(self.inbox.popleft())

    def _arrange_keyed(self, entry: ItemFuture[Any] | Ticket) -> None:
        group = self._groups.get(entry._key)
        if group is None:
            group = self._groups[entry._key] = Group(entry._key)
        group.mark(group.tail, entry._since, self._max_batch_size)
        group.entries.append(entry)
        self._held += 1
        entry._place = group
        if is_live(entry):
            group.weight += entry._weight
        else:
            group.husks += 1
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
        tally, self.open_tally = self.open_tally, Tally()
        tally.sealed = True
        for group in self._groups.values():
            if group.live:
                group.seal(tally)
                self._offer(group)
        return tally

    def take_all(self, now: float) -> list[Batch]:
        """Take all that waits, as batches that no handler will get."""
        self.arrange(now)
        batches = []
        for group in list(self._groups.values()):
            was_busy, group.is_busy = group.is_busy, False
            while group.live:
                batch = self.cut(group)
                if batch is not None:
                    batches.append(batch)
                    group.is_busy = False
            group.is_busy = was_busy
            if not was_busy and self._is_keyed and self._groups.get(group.key) is group:
                self._free(group)
        return batches
