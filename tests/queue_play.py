"""What the rooms around the pending queue do to it, without their threads."""

from typing import Any

from batcher._future import ItemFuture, claim_locked
from batcher._group import Batch, Ticket
from batcher._pending import PendingQueue
from batcher._status import Counters
from tests.lone_owner import LoneOwner

OWNER = LoneOwner()


def future(item: object = None, *, key: object = None, weight: float = 0.0, priority: int = 0) -> ItemFuture[Any]:
    """Make the entry of an add."""
    entry: ItemFuture[Any] = ItemFuture(item, OWNER)
    entry._key, entry._weight, entry._priority = key, weight, priority
    return entry


def ticket(item: object = None, *, key: object = None, weight: float = 0.0, priority: int = 0) -> Ticket:
    """Make the entry of a put that has a key, a weight or a priority."""
    entry = Ticket(item)
    entry._key, entry._weight, entry._priority = key, weight, priority
    return entry


def futures(count: int, *, key: object = None) -> list[ItemFuture[Any]]:
    """Make the entries of several adds, for the items 0, 1, and so on."""
    return [future(number, key=key) for number in range(count)]


def enter(queue: PendingQueue, *entries: Any, now: float = 0.0) -> None:
    """Let entries in, as the slow way of an add does."""
    queue.enter(entries, now)


def end(queue: PendingQueue, entry: Any, ending: str = "cancelled", *, is_nested: bool = False) -> None:
    """End an entry where it waits; `is_nested`: in a signal handler, which leaves the account to others."""
    if ending == "cancelled":
        entry._state = "CANCELLED_AND_NOTIFIED"
    else:
        assert claim_locked(entry)
    queue.ended.append((entry, ending))
    if not is_nested:
        queue.account_for_ended()


def cut(queue: PendingQueue, now: float, *, is_paused: bool = False, is_forced: bool = False) -> Batch | None:
    """Take the next batch that may leave, as the flusher does."""
    queue.arrange(now)
    while (group := queue.next_due(now, is_paused=is_paused, is_forced=is_forced)) is not None:
        batch = queue.cut(group, now)
        if batch is not None:
            return batch
    return None


def keys(queue: PendingQueue) -> set[object]:
    """Return the keys that take a place."""
    return {group.key for group in queue._groups.values()} | set(queue._by_key)


def items(batch: Batch | None) -> list[Any] | None:
    """Return what the handler of a batch would get."""
    return None if batch is None else batch.items


def cut_all(queue: PendingQueue, now: float) -> list[list[Any]]:
    """Take batch after batch, each finished before the next, and return their items."""
    taken = []
    while (batch := cut(queue, now)) is not None:
        taken.append(batch.items)
        finish(queue, batch)
    return taken


def finish(queue: PendingQueue, batch: Batch) -> None:
    """Settle a batch, as far as the queue knows of it."""
    batch.tally.processing -= batch.size
    batch.tally.ended["succeeded"] += batch.size
    batch.tally.ring_if_complete()
    queue.release(batch.group)


def drop_oldest(queue: PendingQueue) -> Any:
    """Drop the oldest entry, and return it."""
    counters, dropped = Counters(), list[Any]()
    queue.drop_oldest(counters, dropped)
    assert counters.dropped == len(dropped) == 1
    return dropped[0]


def drop_all(queue: PendingQueue) -> list[Any]:
    """Drop all entries, and return them."""
    counters, dropped = Counters(), list[Any]()
    queue.drop_all(counters, dropped)
    assert counters.dropped == len(dropped)
    return dropped
