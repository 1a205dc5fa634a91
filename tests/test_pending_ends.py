"""Flushes, and the ways an entry ends in the queue: the pending queue counts each."""

from collections.abc import Callable
from typing import Any

import pytest

from batcher._clock import Bell
from batcher._group import Group, is_tracked
from batcher._offers import SEALED
from batcher._pending import PendingQueue
from batcher._status import Counters, Tally
from tests.interruptions import at_each_place, interrupt, press_ctrl_c
from tests.queue_play import (
    cut,
    cut_all,
    drop_all,
    drop_oldest,
    end,
    enter,
    finish,
    future,
    futures,
    items,
    ticket,
)


@pytest.fixture(name="queue")
def _queue() -> PendingQueue:
    """A queue that sends nothing by itself."""
    return PendingQueue(max_batch_size=4, max_delay=None)


# Flushes


def test_sealed_items_leave_at_once_and_alone(queue: PendingQueue) -> None:
    """A flush sends what came before it, in batches of its own; what came after waits on."""
    enter(queue, *range(6))
    tally = queue.seal()
    enter(queue, "later")
    queue.arrange(0.0)

    assert queue.due_at(is_paused=False) == SEALED
    assert cut_all(queue, 0.0) == [[0, 1, 2, 3], [4, 5]]
    assert (tally.left, tally.ended["succeeded"]) == (0, 6)
    assert queue.open_tally is not tally


def test_tally_follows_its_items(queue: PendingQueue) -> None:
    """A sealed tally counts what waits and what is in a handler, and rings as the last has ended."""
    enter(queue, *futures(6))
    tally = queue.seal()
    bell = Bell()
    tally.bells.append(bell)
    seen = [(tally.pending, tally.processing)]
    first, second = cut(queue, 0.0), cut(queue, 0.0)
    seen.append((tally.pending, tally.processing))
    assert first is not None
    assert second is not None
    finish(queue, first)
    assert not bell.is_rung
    finish(queue, second)
    seen.append((tally.pending, tally.processing))

    assert seen == [(6, 0), (0, 6), (0, 0)]
    assert bell.is_rung


def test_flush_counts_what_is_in_a_handler_already(queue: PendingQueue) -> None:
    """An item handed over before the flush is still the flush's."""
    enter(queue, *range(5))
    batch = cut(queue, 0.0)
    tally = queue.seal()

    assert (tally.pending, tally.processing) == (1, 4)
    assert batch is not None
    finish(queue, batch)
    assert tally.left == 1


def test_flush_of_nothing_is_complete(queue: PendingQueue) -> None:
    """Where nothing waits, a flush has nothing to wait for; the next one has a tally of its own."""
    first, second = queue.seal(), queue.seal()

    assert first is not second
    assert (first.left, second.left) == (0, 0)
    assert first.sealed
    assert not queue.open_tally.sealed


def test_flushes_share_no_batch(queue: PendingQueue) -> None:
    """Two flushes each have their own batches, in order."""
    enter(queue, 1, 2)
    first = queue.seal()
    enter(queue, 3)
    second = queue.seal()

    assert (first.left, second.left) == (2, 1)
    assert cut_all(queue, 0.0) == [[1, 2], [3]]


def test_flush_reaches_every_key() -> None:
    """A flush seals all keys, busy ones included, which leave as their batch comes back."""
    queue = PendingQueue(max_batch_size=1, max_delay=None, is_tracked=True)
    enter(queue, *(future(number, key=number % 2) for number in range(4)))
    busy = cut(queue, 0.0)
    tally = queue.seal()
    assert (tally.pending, tally.processing) == (3, 1)
    enter(queue, future("later", key=0))

    assert cut_all(queue, 0.0) == [[1], [3]]
    assert busy is not None
    finish(queue, busy)
    assert cut_all(queue, 0.0)[0] == [2]
    assert tally.left == 0


def test_seal_over_husks_holds_nobody_up(queue: PendingQueue) -> None:
    """Where all that a flush sealed was cancelled, the flush is over, and what came later isn't sent for it."""
    entries = futures(2)
    enter(queue, *entries)
    tally = queue.seal()
    bell = Bell()
    tally.bells.append(bell)
    enter(queue, "later")
    for entry in entries:
        end(queue, entry)

    assert bell.is_rung
    assert (tally.left, tally.ended["cancelled"]) == (0, 2)
    assert cut(queue, 0.0) is None
    assert queue.count == 1


def test_half_a_seal_is_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a seal loses nothing: the next one is about all of it, and what came since."""
    queue = PendingQueue(max_batch_size=2, max_delay=None, is_tracked=True)
    enter(queue, *(future(number, key=number) for number in range(3)))
    seal, calls = Group.seal, []

    def interrupted(group: Group, tally: Tally) -> int:
        calls.append(group)
        if len(calls) == 2:
            seal(group, tally)
            raise KeyboardInterrupt
        return seal(group, tally)

    monkeypatch.setattr(Group, "seal", interrupted)
    tally = queue.open_tally
    with pytest.raises(KeyboardInterrupt):
        queue.seal()
    assert not tally.sealed
    enter(queue, future(3, key=0))

    assert queue.seal() is tally
    assert (tally.sealed, tally.pending, queue.sealed) == (True, 4, [tally])
    assert queue.open_tally is not tally
    assert sorted(cut_all(queue, 0.0)) == [[0, 3], [1], [2]]
    assert tally.left == 0


# Endings


@pytest.mark.parametrize("is_keyed", [False, True], ids=["unkeyed", "keyed"])
@pytest.mark.parametrize("ending", ["cancelled", "expired", "dropped"])
def test_every_ending_is_counted_by_its_flush(is_keyed: bool, ending: str) -> None:  # noqa: FBT001
    """However an item ends in the queue, its flush hears of it, and rings as the last one has."""
    queue = PendingQueue(max_batch_size=4, max_delay=None, is_tracked=is_keyed)
    first, second = futures(2, key="a")
    enter(queue, first, second)
    tally = queue.seal()
    bell = Bell()
    tally.bells.append(bell)
    end(queue, first, ending)
    assert not bell.is_rung
    assert (tally.left, tally.ended[ending]) == (1, 1)
    end(queue, second, ending)

    assert bell.is_rung
    assert (tally.left, tally.ended[ending]) == (0, 2)
    assert (queue.count, queue.accepted) == (0, 2)


def test_oldest_is_dropped(queue: PendingQueue) -> None:
    """The oldest that waits is dropped, bare or not, arranged or not; husks before it go as well."""
    entries = futures(3)
    enter(queue, entries[0], "bare", entries[1])
    queue.arrange(0.0)
    enter(queue, entries[2])
    end(queue, entries[0])

    assert drop_oldest(queue) == "bare"
    assert drop_oldest(queue) is entries[1]
    assert entries[1]._state == "RUNNING"
    assert (queue.count, queue.accepted) == (1, 4)
    assert items(cut(queue, 0.0, is_forced=True)) == [2]


def test_dropped_items_are_counted_by_their_flush(queue: PendingQueue) -> None:
    """A sealed item that is dropped is its flush's loss, which rings as the last one has ended."""
    enter(queue, "a", future("b"))
    tally = queue.seal()
    bell = Bell()
    tally.bells.append(bell)
    enter(queue, "c")
    drop_oldest(queue)
    assert not bell.is_rung
    drop_oldest(queue)
    drop_oldest(queue)

    assert bell.is_rung
    assert (tally.left, tally.ended["dropped"]) == (0, 2)
    assert queue.count == 0


def test_all_are_dropped(queue: PendingQueue) -> None:
    """Dropping all ends whatever waits, in order; the queue then starts from nothing."""
    entries = futures(4)
    enter(queue, *entries[:3], "bare")
    tally = queue.seal()
    end(queue, entries[1])
    enter(queue, entries[3])

    assert drop_all(queue) == [entries[0], entries[2], "bare", entries[3]]
    assert (queue.count, queue.accepted, queue.weight) == (0, 5, 0.0)
    assert (tally.left, tally.ended["dropped"], tally.ended["cancelled"]) == (0, 3, 1)
    assert cut(queue, 0.0, is_forced=True) is None
    enter(queue, "next", now=7.0)
    queue.arrange(7.0)
    assert queue.oldest_since == 7.0


def test_waiting_are_all_that_have_not_ended(queue: PendingQueue) -> None:
    """What waits can be listed, in order, husks left out."""
    entries = futures(2)
    enter(queue, entries[0], "bare", entries[1])
    end(queue, entries[0])

    assert queue.waiting() == ["bare", entries[1]]


def test_queue_whose_last_item_was_dropped_starts_anew() -> None:
    """An item that takes the place of the only one that waited, as the latest reading does, waits its own time."""
    queue = PendingQueue(max_batch_size=4, max_delay=10.0)
    enter(queue, "first", now=0.0)
    queue.arrange(0.0)
    drop_oldest(queue)
    enter(queue, "latest", now=9.0)

    assert cut(queue, 10.0) is None
    assert items(cut(queue, 19.0)) == ["latest"]


@pytest.mark.parametrize("drop", [PendingQueue.drop_all, PendingQueue.drop_oldest], ids=["all", "oldest"])
@pytest.mark.parametrize("make_entry", [future, ticket, str], ids=["future", "ticket", "bare"])
@pytest.mark.parametrize("priority", [0, 1], ids=["plain", "ranked"])
def test_what_ctrl_c_kept_from_being_dropped_still_waits(
    drop: Callable[[PendingQueue, Counters, list[Any]], None], make_entry: Callable[[str], Any], priority: int
) -> None:
    """Wherever Ctrl-C ends a drop, each entry either waits or is said to have been dropped, never both."""

    def run(place: int) -> str | None:
        queue = PendingQueue(max_batch_size=9, max_delay=None, keeps_order=True)
        enter(queue, *map(make_entry, "abc"))
        if priority:
            enter(queue, future("d", priority=priority))
        accepted = queue.accepted
        counters, dropped = Counters(), list[Any]()
        where = interrupt(lambda: drop(queue, counters, dropped), press_ctrl_c, place)
        gone = [entry._result if is_tracked(entry) else entry for entry in dropped]
        left = [item for batch in iter(lambda: cut(queue, 0.0, is_forced=True), None) for item in batch.items]
        assert sorted(gone + left) == ["a", "b", "c", "d"][:accepted]
        assert counters.dropped == len(gone)
        return where

    assert at_each_place(run) > 10
