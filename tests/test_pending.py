"""The pending queue says when a batch is due, and hands over what it should hold; without keys or weights.

Keys are in `test_pending_keys`, weights in `test_pending_weights`, flushes and endings in
`test_pending_ends`, all of it against a naive reference in `test_pending_model`.
"""

import pytest

from batcher._offers import SEALED
from batcher._pending import PendingQueue
from tests.queue_play import cut, cut_all, drop_all, end, enter, future, futures, items, ticket


def make(max_batch_size: int = 3, max_delay: float | None = 10.0) -> PendingQueue:
    """Make a queue without keys and weights."""
    return PendingQueue(max_batch_size=max_batch_size, max_delay=max_delay)


def test_empty_queue_has_nothing_due() -> None:
    """Nothing waits, nothing was accepted, and nothing leaves, not even if forced."""
    queue = make()
    queue.arrange(0.0)

    assert (queue.count, queue.accepted, queue.weight, queue.oldest_since) == (0, 0, 0.0, None)
    assert queue.due_at(is_paused=False) is None
    assert cut(queue, 1e9, is_forced=True) is None


def test_first_in_first_out() -> None:
    """Futures, tickets and bare items leave in the order they came in, as their items."""
    queue = make(max_batch_size=2)
    enter(queue, future("a"), "b")
    enter(queue, ticket("c"), future("d"), "e", now=1.0)

    assert cut_all(queue, 11.0) == [["a", "b"], ["c", "d"], ["e"]]
    assert (queue.count, queue.accepted) == (0, 5)


def test_batch_never_exceeds_its_size() -> None:
    """However many wait, no batch gets more than the cap, a flush included."""
    queue = make(max_batch_size=4)
    enter(queue, *range(10))
    queue.arrange(0.0)
    queue.seal()

    assert [len(batch) for batch in cut_all(queue, 0.0)] == [4, 4, 2]


def test_full_batch_leaves_at_once() -> None:
    """A full batch is due since its oldest item came; the rest waits on."""
    queue = make()
    enter(queue, *range(4), now=5.0)

    assert items(cut(queue, 5.0)) == [0, 1, 2]
    assert cut(queue, 5.0) is None
    assert queue.due_at(is_paused=False) == 15.0


def test_batch_leaves_when_its_oldest_item_has_waited() -> None:
    """What isn't full leaves `max_delay` after its oldest item, not before."""
    queue = make()
    enter(queue, "a", now=1.0)
    enter(queue, "b", now=7.0)

    assert cut(queue, 10.999) is None
    assert queue.due_at(is_paused=False) == 11.0
    assert items(cut(queue, 11.0)) == ["a", "b"]


def test_without_a_delay_only_size_counts() -> None:
    """With no time trigger what isn't full never leaves by itself, but does when forced."""
    queue = make(max_delay=None)
    enter(queue, "a")

    assert cut(queue, 1e9) is None
    assert queue.due_at(is_paused=False) is None
    assert items(cut(queue, 1e9, is_forced=True)) == ["a"]


def test_zero_delay_leaves_at_once() -> None:
    """With a delay of zero whatever waits is due."""
    queue = make(max_delay=0.0)
    enter(queue, "a", now=3.0)

    assert items(cut(queue, 3.0)) == ["a"]


def test_paused_queue_sends_only_what_a_flush_sealed() -> None:
    """While paused neither size nor time sends anything; what a flush sealed leaves, and no more."""
    queue = make()
    enter(queue, *range(4))
    assert cut(queue, 100.0, is_paused=True) is None
    assert queue.due_at(is_paused=True) is None

    queue.seal()
    enter(queue, "later", now=100.0)
    queue.arrange(100.0)
    assert queue.due_at(is_paused=True) == SEALED
    assert items(cut(queue, 100.0, is_paused=True)) == [0, 1, 2]
    assert items(cut(queue, 100.0, is_paused=True)) == [3]
    assert cut(queue, 200.0, is_paused=True) is None
    assert items(cut(queue, 200.0)) == ["later"]


def test_batch_knows_its_number_and_age() -> None:
    """Batches count up; each knows when its oldest item came and how many it has."""
    queue = make(max_batch_size=2)
    enter(queue, "a", now=1.0)
    enter(queue, "b", now=2.0)
    enter(queue, "c", now=2.0)
    first, second = cut(queue, 20.0), cut(queue, 20.0)

    assert first is not None
    assert second is not None
    assert second.number > first.number
    assert (first.since, first.size) == (1.0, 2)
    assert second.since == 2.0
    assert first.group is second.group


def test_items_that_come_at_once_are_dated_a_batch_apart() -> None:
    """Of many items that come together the one that opens the next batch is dated, whatever came before."""
    queue = make(max_batch_size=100)
    enter(queue, "first", now=0.0)
    enter(queue, *range(100), now=9.0)

    assert len(items(cut(queue, 9.0)) or []) == 100
    assert cut(queue, 10.0) is None
    assert items(cut(queue, 19.0)) == [99]


def test_age_is_exact_to_one_batch_and_never_too_young() -> None:
    """An item between two dates counts as old as the date before it: it leaves early by less than a batch."""
    queue = make(max_batch_size=4)
    for number in range(12):
        enter(queue, number, now=float(number))
    queue.arrange(11.0)
    queue.seal()
    enter(queue, *range(12, 16), now=12.0)
    batches = [cut(queue, 11.0) for _ in range(3)]

    assert [batch and batch.since for batch in batches] == [0.0, 4.0, 8.0]


def test_undated_items_fill_up_one_batch() -> None:
    """The queue says how many may come in undated: less than a batch after the last date."""
    queue = make(max_batch_size=4)
    assert queue.undated_room == 0
    enter(queue, "a", now=1.0)
    assert queue.undated_room == 4
    queue.inbox.extend("bc")
    queue.arrange(1.5)
    assert queue.undated_room == 1
    queue.inbox.append("d")
    queue.arrange(1.5)
    assert queue.undated_room == 0

    assert items(cut(queue, 1.5)) == ["a", "b", "c", "d"]
    assert queue.undated_room == 0


def test_inbox_rings_when_a_batch_may_be_full() -> None:
    """The queue says how long the inbox must get to fill a batch with what waits already."""
    queue = make(max_batch_size=3)
    assert queue.missing_to_full == 3
    enter(queue, "a", "b")
    queue.arrange(0.0)
    assert queue.missing_to_full == 1
    enter(queue, *"cdef")
    queue.arrange(0.0)
    assert queue.missing_to_full == 1


def test_item_that_came_in_while_the_queue_emptied_is_dated() -> None:
    """An add that looked at a date which is gone by then gets a new one: its item still leaves in time."""
    queue = make()
    enter(queue, "a")
    cut(queue, 10.0)
    queue.inbox.append("late")
    queue.arrange(12.0)

    assert queue.due_at(is_paused=False) == 22.0
    assert items(cut(queue, 22.0)) == ["late"]


def test_date_is_kept_while_an_item_is_on_its_way() -> None:
    """Where an undated item is in the inbox as the last batch is cut, the date that covers it stays."""
    queue = make(max_batch_size=3)
    enter(queue, "a", "b", "c", now=1.0)
    queue.arrange(1.0)
    queue.inbox.append("d")
    group = queue.next_due(1.0, is_paused=False, is_forced=False)
    assert group is not None
    assert items(queue.cut(group, 1.0)) == ["a", "b", "c"]
    queue.arrange(2.0)

    assert queue.due_at(is_paused=False) == 11.0


def test_cancelled_item_is_not_handed_over() -> None:
    """What was cancelled in the inbox or in its group isn't in the batch, which is filled up from behind."""
    queue = make()
    entries = futures(6)
    enter(queue, *entries[:3])
    end(queue, entries[0])
    queue.arrange(0.0)
    enter(queue, *entries[3:])
    end(queue, entries[4])

    assert (queue.count, queue.accepted) == (4, 6)
    assert items(cut(queue, 0.0)) == [1, 2, 3]
    assert items(cut(queue, 10.0)) == [5]
    assert (queue.count, queue.accepted) == (0, 6)


def test_cancelled_items_do_not_fill_a_batch() -> None:
    """A batch isn't full with items that have ended."""
    queue = make()
    entries = futures(3)
    enter(queue, *entries)
    end(queue, entries[1])

    assert cut(queue, 0.0) is None
    assert queue.due_at(is_paused=False) == 10.0


def test_cancelled_on_top_of_another_step_is_counted_by_the_next() -> None:
    """What a signal handler cancels leaves the account to the next step, and is never handed over."""
    queue = make()
    entries = futures(2)
    enter(queue, *entries)
    queue.arrange(0.0)
    end(queue, entries[0], is_nested=True)
    assert queue.count == 2

    assert items(cut(queue, 10.0)) == [1]
    assert (queue.count, queue.accepted) == (0, 2)


def test_item_cancelled_as_its_batch_is_cut_counts_once() -> None:
    """A husk that the batch finds before the account does is counted once in the end."""
    queue = make()
    entries = futures(2)
    enter(queue, *entries)
    queue.arrange(10.0)
    group = queue.next_due(10.0, is_paused=False, is_forced=False)
    end(queue, entries[0], is_nested=True)
    assert group is not None
    assert items(queue.cut(group, 10.0)) == [1]
    queue.arrange(10.0)

    assert (queue.count, queue.accepted) == (0, 2)
    enter(queue, "next", now=20.0)
    assert items(cut(queue, 30.0)) == ["next"]
    assert (queue.count, queue.accepted) == (0, 3)


def test_last_item_cancelled_as_its_batch_is_chosen() -> None:
    """A destructor that cancels the only item, on the thread that chooses the batch, leaves nothing to choose."""
    queue = make()
    entry = future("only")
    enter(queue, entry)
    queue.arrange(10.0)
    group = queue.next_due(10.0, is_paused=False, is_forced=False)
    end(queue, entry, is_nested=True)

    assert group is not None
    assert queue.cut(group, 10.0) is None
    assert queue.next_due(10.0, is_paused=False, is_forced=True) is None
    assert (queue.count, queue.accepted) == (0, 1)


def test_last_item_cancelled_as_all_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that cancels the only item, while all are being dropped, leaves nothing to drop."""
    queue = make()
    entry = future("only")
    enter(queue, entry)
    collect = PendingQueue.collect

    def collect_then_cancel(self: PendingQueue) -> None:
        collect(self)
        end(queue, entry, is_nested=True)

    with monkeypatch.context() as patch:
        patch.setattr(PendingQueue, "collect", collect_then_cancel)
        assert drop_all(queue) == []
    queue.arrange(0.0)
    assert (queue.count, queue.accepted) == (0, 1)


def test_queue_of_husks_starts_anew() -> None:
    """When the last item that waited was cancelled nothing is due, and the next item's age is its own."""
    queue = make()
    entries = futures(2)
    enter(queue, *entries)
    queue.arrange(0.0)
    for entry in entries:
        end(queue, entry)
    assert (queue.count, queue.accepted, queue.oldest_since) == (0, 2, None)
    queue.arrange(0.0)
    assert queue.due_at(is_paused=False) is None

    enter(queue, "next", now=50.0)
    queue.arrange(50.0)
    assert queue.due_at(is_paused=False) == 60.0


def test_item_behind_cancelled_ones_waits_its_own_time() -> None:
    """Items that were cancelled don't make those behind them look as old as they were."""
    queue = make(max_batch_size=2)
    entries = futures(3)
    enter(queue, *entries[:2], now=0.0)
    enter(queue, entries[2], now=9.0)
    queue.arrange(9.0)
    for entry in entries[:2]:
        end(queue, entry)

    assert cut(queue, 10.0) is None
    assert items(cut(queue, 19.0)) == [2]


def test_husks_do_not_pile_up() -> None:
    """However many items are cancelled behind one that waits, the queue holds few of them."""
    queue = make(max_batch_size=1000, max_delay=None)
    first = future("first")
    enter(queue, first)
    for _ in range(1000):
        entry = future()
        enter(queue, entry)
        end(queue, entry)
        assert len(queue.only.entries) + len(queue.inbox) <= 66

    assert (queue.count, queue.accepted) == (1, 1001)
    assert items(cut(queue, 0.0, is_forced=True)) == ["first"]


@pytest.mark.parametrize("is_first_arranged", [True, False], ids=["arranged", "inbox"])
def test_oldest_since_is_of_the_oldest_that_waits(is_first_arranged: bool) -> None:  # noqa: FBT001
    """The status shows since when the oldest item waits, as far as it was arranged."""
    queue = make()
    enter(queue, "a", now=4.0)
    if is_first_arranged:
        queue.arrange(4.0)
    enter(queue, "b", now=5.0)

    assert queue.oldest_since == (4.0 if is_first_arranged else None)
    queue.arrange(5.0)
    assert queue.oldest_since == 4.0
