"""The pending queue with priorities: what leaves first, what starves, and how a plain queue begins to have them."""

import sys
from random import Random
from types import FrameType
from typing import Any

import pytest

from batcher._offers import SEALED
from batcher._pending import PendingQueue
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
    keys,
    ticket,
)


def make(max_batch_size: int = 3, max_delay: float | None = 10.0, *, is_keyed: bool = False) -> PendingQueue:
    """Make a queue; without keys it is a plain one at first."""
    return PendingQueue(max_batch_size=max_batch_size, max_delay=max_delay, is_tracked=is_keyed, keeps_order=True)


def first(queue: PendingQueue, now: float) -> object:
    """Take a batch, finish it at once, and return its first item."""
    batch = cut(queue, now)
    assert batch is not None
    finish(queue, batch)
    return batch.items[0]


# Within a key


@pytest.mark.parametrize("key", [None, "a"], ids=["unkeyed", "keyed"])
def test_higher_leaves_first(key: str | None) -> None:
    """A batch takes the highest first, equal ones in order of arrival, and is filled up with lower ones."""
    queue = make(is_keyed=key is not None)
    enter(queue, *(future(f"low {number}", key=key) for number in range(3)))
    enter(queue, future("high 0", key=key, priority=2), ticket("high 1", key=key, priority=2))
    enter(queue, future("lowest", key=key, priority=-1))

    assert cut_all(queue, 10.0) == [["high 0", "high 1", "low 0"], ["low 1", "low 2", "lowest"]]
    assert (queue.count, queue.accepted) == (0, 6)


def test_bare_items_of_a_plain_queue_keep_their_order() -> None:
    """What came before the first priority, bare or not, in the inbox or not, leaves in order after it."""
    queue = make(max_batch_size=4)
    enter(queue, "a", future("b"), "c")
    queue.arrange(0.0)
    enter(queue, "d")
    queue.inbox.append("e")
    enter(queue, ticket("high", priority=1), now=1.0)
    assert (queue.count, queue.accepted) == (6, 6)
    enter(queue, "f", now=1.0)

    assert cut_all(queue, 20.0) == [["high", "a", "b", "c"], ["d", "e", "f"]]


def test_queue_that_never_sees_a_priority_stays_plain() -> None:
    """Zero is no priority: nothing is wrapped, and the fast way stays open."""
    queue = make()
    enter(queue, future("a", priority=0), "b")
    queue.arrange(0.0)

    assert not queue.is_ranked
    assert queue.undated_room > 0
    assert list(queue.only.entries)[1] == "b"


def test_first_priority_shuts_the_fast_way() -> None:
    """From the moment a priority came in each item must be dated, and rings the flusher."""
    queue = make()
    enter(queue, "a")
    assert queue.undated_room == 3
    enter(queue, future("b", priority=1))

    assert queue.is_ranked
    assert (queue.undated_room, queue.missing_to_full) == (0, 1)
    queue.arrange(0.0)
    assert (queue.undated_room, queue.missing_to_full) == (0, 1)


@pytest.mark.parametrize("is_future", [True, False], ids=["future", "bare"])
def test_item_that_slips_in_on_the_fast_way(*, is_future: bool) -> None:
    """An append by a thread that saw the fast way open before is taken along, dated when the priority came."""
    queue = make()
    enter(queue, "a", now=1.0)
    enter(queue, future("high", priority=1), now=5.0)
    queue.arrange(5.0)
    late = future("late") if is_future else "late"
    queue.inbox.append(late)
    queue.arrange(6.0)
    assert [items(cut(queue, 11.0)), queue.count] == [["high", "a", "late"], 0]

    queue.inbox.append("later")
    queue.arrange(12.0)
    assert queue.due_at(is_paused=False) == 15.0


def test_item_that_slips_in_and_ends_at_once() -> None:
    """Such an item that is cancelled on top of the account is counted once."""
    queue = make()
    enter(queue, future("high", priority=1))
    queue.arrange(0.0)
    late = future("late")
    end(queue, late, is_nested=True)
    real = queue.collect

    def collect_then_slip_in() -> None:
        queue.collect = real  # type: ignore[method-assign]
        real()
        queue.inbox.append(late)

    queue.collect = collect_then_slip_in  # type: ignore[method-assign]
    queue.account_for_ended()

    assert queue.count == 1
    assert items(cut(queue, 10.0)) == ["high"]
    assert (queue.count, queue.accepted) == (0, 2)


def test_item_that_slips_in_is_arranged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between putting such an item to its lane and taking it out of the inbox doesn't double it."""
    queue = make()
    enter(queue, future("high", priority=1))
    queue.arrange(0.0)
    queue.inbox.append("bare")
    collect = queue._collect_tracked

    def interrupted(entry: Any) -> None:
        collect(entry)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(queue, "_collect_tracked", interrupted)
        with pytest.raises(KeyboardInterrupt):
            queue.collect()

    assert cut_all(queue, 10.0) == [["high", "bare"]]
    assert (queue.count, queue.accepted) == (0, 2)


def test_dates_of_a_plain_queue_stay() -> None:
    """An item that waited before the first priority came goes on being as old as it was."""
    queue = make(max_batch_size=2)
    for number in range(4):
        enter(queue, number, now=float(number))
    enter(queue, future("high", priority=1), now=4.0)
    queue.arrange(4.0)

    assert queue.oldest_since == 0.0
    batch = cut(queue, 4.0)
    assert batch is not None
    assert (batch.items, batch.since) == (["high", 0], 0.0)
    assert [entry._since for entry in queue.waiting()] == [0.0, 2.0, 2.0]


def test_item_without_any_date_is_as_old_as_the_priority() -> None:
    """An item whose add was under way while the queue was emptied is dated by the first priority."""
    queue = make()
    queue.inbox.append("undated")
    queue.collect()
    queue.ranked_since = 3.0
    queue.arrange(7.0)

    assert queue.due_at(is_paused=False) == 13.0


def test_batch_is_as_old_as_its_own_oldest() -> None:
    """A batch of high ones isn't said to have waited as long as the low ones that stay behind."""
    queue = make(max_batch_size=2)
    enter(queue, future("low"), now=0.0)
    enter(queue, future("high", priority=1), future("high 2", priority=1), now=4.0)
    batch = cut(queue, 4.0)

    assert batch is not None
    assert (batch.items, batch.since) == (["high", "high 2"], 4.0)
    assert queue.oldest_since == 0.0


def test_low_one_brings_batches_about() -> None:
    """The oldest item's time is up, whatever its priority: batches leave until it is in one."""
    queue = make(max_batch_size=2)
    enter(queue, "low", now=0.0)
    enter(queue, future(1, priority=1), now=9.0)
    enter(queue, future(2, priority=1), now=9.0)

    assert cut_all(queue, 9.0) == [[1, 2]]
    enter(queue, future(3, priority=1), now=9.5)
    assert cut_all(queue, 9.9) == [[3, "low"]]
    enter(queue, "low again", now=20.0)
    assert cut_all(queue, 29.9) == []
    assert cut_all(queue, 30.0) == [["low again"]]


@pytest.mark.parametrize(("max_delay", "patience"), [(10.0, 100.0), (0.0, 0.1), (0.001, 0.1)])
def test_starving_item_is_promoted(max_delay: float, patience: float) -> None:
    """After ten times the delay, but not within a tenth of a second, an item leaves before higher ones."""
    queue = make(max_batch_size=1, max_delay=max_delay)
    enter(queue, "low", future("low 2"), now=0.0)
    for number in range(3):
        enter(queue, future(number, priority=9), now=patience / 2)

    assert first(queue, patience * 0.99) == 0
    assert first(queue, patience) == "low"
    assert first(queue, patience) == "low 2"
    assert first(queue, patience) == 1


def test_without_a_delay_nobody_is_promoted() -> None:
    """With no time trigger a lower priority waits until no higher one is there."""
    queue = make(max_batch_size=1, max_delay=None)
    enter(queue, "low", now=0.0)
    enter(queue, future("high", priority=1), now=1e9)

    assert cut_all(queue, 1e9) == [["high"], ["low"]]


def test_weight_and_priority() -> None:
    """What is too heavy for the rest of a batch begins the next one: nothing lower slips past it."""
    queue = PendingQueue(max_batch_size=9, max_delay=0.0, max_batch_weight=10.0, is_tracked=True)
    enter(queue, future("light", weight=1.0), future("light 2", weight=1.0))
    enter(queue, future("high", weight=6.0, priority=1))
    enter(queue, future("high 2", weight=6.0, priority=1))

    assert cut_all(queue, 0.0) == [["high"], ["high 2", "light", "light 2"]]
    assert queue.weight == 0.0


def test_key_whose_last_item_has_left_begins_without_lanes() -> None:
    """Lanes are for as long as something waits: items of priority 0 alone need none."""
    queue = make(is_keyed=True)
    enter(queue, future(1, key="a", priority=1))
    queue.arrange(0.0)
    group = queue._by_key["a"]
    assert group.lanes is not None
    batch = cut(queue, 10.0)
    enter(queue, future(2, key="a"), now=11.0)
    queue.arrange(11.0)

    assert group.lanes is None
    assert batch is not None
    finish(queue, batch)
    assert cut(queue, 20.9) is None
    assert items(cut(queue, 21.0)) == [2]


# Flushes and endings


def test_flush_is_not_overtaken() -> None:
    """What a flush sealed leaves before what came later, in batches of its own, and by priority among itself."""
    queue = make(max_delay=None)
    enter(queue, *range(3))
    enter(queue, future("high", priority=1))
    tally = queue.seal()
    enter(queue, future("urgent", priority=9))
    queue.arrange(0.0)

    assert tally.left == 4
    assert queue.due_at(is_paused=True) == SEALED
    assert cut_all(queue, 0.0) == [["high", 0, 1], [2]]
    assert (tally.left, queue.count) == (0, 1)


def test_flush_from_before_the_first_priority() -> None:
    """A flush keeps its boundary, and the count of its bare items, when the queue begins to have priorities."""
    queue = make(max_batch_size=2, max_delay=None)
    cancelled = future("cancelled")
    enter(queue, "a", cancelled, "b")
    tally = queue.seal()
    enter(queue, "c")
    later = queue.seal()
    end(queue, cancelled)
    enter(queue, "d")
    enter(queue, future("high", priority=1))
    queue.collect()
    bare = {entry._result: entry for entry in queue.waiting()}
    assert (bare["a"]._tally, bare["c"]._tally, bare["d"]._tally) == (tally, later, None)
    end(queue, bare["b"], "dropped")

    assert (tally.left, tally.ended["cancelled"], tally.ended["dropped"]) == (1, 1, 1)
    assert cut_all(queue, 0.0) == [["a"], ["c"], ["high", "d"]]
    assert (tally.left, later.left) == (0, 0)


def test_half_a_seal_over_lanes_is_taken_up() -> None:
    """A seal that Ctrl-C ended halfway is made anew over what came since, too."""
    queue = make(max_batch_size=9, max_delay=None)
    enter(queue, future("low"), future("low 2"))
    enter(queue, future("high", priority=1))
    queue.collect()
    queue.only.seal(queue.open_tally)  # and then it came
    enter(queue, future("high 2", priority=1))
    tally = queue.seal()
    enter(queue, future("later", priority=9))

    assert tally.pending == 4
    assert cut_all(queue, 0.0) == [["high", "low", "low 2", "high 2"]]


def test_cancelled_items_leave_with_nobody() -> None:
    """Husks at the head of any lane fill no batch, count for no age and no priority."""
    queue = make(max_batch_size=2, is_keyed=True)
    old, high = future("old", key="a"), future("high", key="a", priority=5)
    enter(queue, old, now=0.0)
    enter(queue, high, now=1.0)
    enter(queue, future("low", key="a"), now=2.0)
    enter(queue, future("other", key="b", priority=1), now=2.0)
    queue.arrange(2.0)
    end(queue, old)
    end(queue, high)
    queue.arrange(2.0)
    group = queue._by_key["a"]

    assert (group.since, group.priority, group.husks, queue.count) == (2.0, 0, 0, 2)
    assert cut_all(queue, 12.0) == [["other"], ["low"]]
    assert (queue.count, queue.accepted) == (0, 4)


@pytest.mark.parametrize(("priority", "came"), [(-1, 0.0), (5, 2.0)], ids=["oldest", "highest"])
def test_cancelled_item_stands_for_nobody(priority: int, came: float) -> None:
    """A husk makes its key neither older nor higher than what waits there."""
    queue = make(is_keyed=True)
    waiting, cancelled = future("waits", key="a"), future("cancelled", key="a", priority=priority)
    for entry, now in sorted([(waiting, 1.0), (cancelled, came)], key=lambda pair: pair[1]):
        enter(queue, entry, now=now)
    queue.arrange(2.0)
    end(queue, cancelled)
    queue.arrange(2.0)
    group = queue._by_key["a"]

    assert (group.since, group.priority, group.size) == (1.0, 0, 1)


def test_husks_between_lanes_are_swept_out() -> None:
    """However many items are cancelled behind one that waits, few of them are kept; boundaries stay."""
    queue = make(max_batch_size=1000, max_delay=None)
    enter(queue, future("first", priority=1))
    queue.seal()
    for number in range(500):
        entry = future(number, priority=number % 3)
        enter(queue, entry)
        end(queue, entry)
        assert queue.only.size + len(queue.inbox) <= 66
    enter(queue, future("last", priority=9))

    assert (queue.count, queue.accepted) == (2, 502)
    assert items(cut(queue, 0.0)) == ["first"]
    assert items(cut(queue, 0.0, is_forced=True)) == ["last"]


def test_cancelled_while_a_batch_is_being_chosen() -> None:
    """A destructor that cancels the last item, on the flusher's own thread, holds nothing up."""
    queue = make()
    entry = future("only", priority=1)
    enter(queue, entry)
    queue.arrange(10.0)
    group = queue.next_due(10.0, is_paused=False, is_forced=False)
    end(queue, entry, is_nested=True)

    assert group is not None
    assert queue.cut(group, 10.0) is None
    assert (group.since, group.priority) == (float("inf"), 0)
    assert queue.next_due(10.0, is_paused=False, is_forced=True) is None
    assert (queue.count, queue.accepted) == (0, 1)


@pytest.mark.parametrize("is_keyed", [False, True], ids=["unkeyed", "keyed"])
def test_oldest_is_dropped_whatever_its_priority(*, is_keyed: bool) -> None:
    """The oldest goes by arrival, what came before the first priority included."""
    queue = make(is_keyed=is_keyed)
    entries = [*futures(2), future("high", priority=5), future("low")]
    for entry in entries:
        enter(queue, entry)
    queue.arrange(0.0)
    end(queue, entries[0])

    assert [drop_oldest(queue) for _ in range(3)] == entries[1:]
    assert queue.count == 0


def test_bare_item_that_became_a_ticket_is_dropped() -> None:
    """The oldest of a queue that was plain may be an item that nobody has a future of."""
    queue = make()
    enter(queue, "bare")
    enter(queue, future("high", priority=1))

    assert drop_oldest(queue)._result == "bare"
    assert cut_all(queue, 10.0) == [["high"]]


def test_all_are_dropped() -> None:
    """Dropping all ends whatever waits in any lane, on either side of a seal."""
    queue = make()
    entries = [future(number, priority=number % 2) for number in range(4)]
    for entry in entries:
        enter(queue, entry)
    tally = queue.seal()
    late = future("late", priority=9)
    enter(queue, late)
    end(queue, entries[1])

    assert drop_all(queue) == [entries[3], entries[0], entries[2], late]
    assert (tally.left, tally.ended["dropped"], tally.ended["cancelled"]) == (0, 3, 1)
    queue.arrange(0.0)
    assert (queue.count, queue.accepted, queue.due_at(is_paused=False)) == (0, 5, None)


@pytest.mark.parametrize("priority", [2, 0], ids=["first", "last"])
def test_husk_that_nobody_has_counted_yet_is_not_dropped(priority: int) -> None:
    """An item that a signal handler cancelled meanwhile is passed over as all are dropped."""
    queue = make()
    cancelled, other = future("cancelled", priority=priority), future("other", priority=1)
    enter(queue, cancelled)
    enter(queue, other)
    queue.collect()
    real = queue.collect

    def collect_then_cancel() -> None:
        real()
        end(queue, cancelled, is_nested=True)

    queue.collect = collect_then_cancel  # type: ignore[method-assign]
    assert drop_all(queue) == [other]
    queue.collect = real  # type: ignore[method-assign]
    queue.arrange(0.0)
    assert (queue.count, queue.accepted) == (0, 2)


def test_flip_may_be_repeated() -> None:
    """Ctrl-C halfway through the queue's becoming a tracked one changes nothing: it is done anew."""
    queue = make()
    enter(queue, "a", future("b"), "c")
    queue.seal()
    enter(queue, future("high", priority=1))
    queue.only.tracked(0.0)  # and then it came

    assert cut_all(queue, 0.0) == [["a", "b", "c"]]
    assert cut_all(queue, 10.0) == [["high"]]


def test_priority_that_came_on_top_of_a_collect() -> None:
    """A signal handler's add with a priority, while a plain queue was just being filled, gets its lane."""
    queue = make(max_batch_size=9)
    enter(queue, "a")
    enter(queue, future("high", priority=1), now=2.0)
    # A collect that had looked before the handler came moves it as one of a plain queue.
    queue.only.entries.extend(queue.inbox)
    queue.inbox.clear()

    assert cut_all(queue, 10.0) == [["high", "a"]]


# Among keys


def test_key_with_the_highest_item_leaves_first() -> None:
    """Of the keys that are due, the one with the highest priority leaves first, equal ones by time."""
    queue = make(is_keyed=True)
    for number, (key, priority) in enumerate([("a", 0), ("b", 2), ("c", 5), ("d", 2)]):
        enter(queue, future(key, key=key, priority=priority), now=float(number))

    assert [first(queue, 20.0) for _ in range(4)] == ["c", "b", "d", "a"]
    assert queue.due_at(is_paused=False) is None
    assert keys(queue) == {"a"}  # freed with the next look
    queue.arrange(20.0)
    assert keys(queue) == set()


def test_key_that_is_not_due_waits_whatever_its_priority() -> None:
    """A priority makes nobody leave earlier: a key's own time or size does."""
    queue = make(is_keyed=True)
    enter(queue, future("low", key="a"), now=0.0)
    enter(queue, future("high", key="b", priority=9), now=5.0)

    assert first(queue, 10.0) == "low"
    assert cut(queue, 14.9) is None
    assert queue.due_at(is_paused=False) == 15.0
    assert first(queue, 15.0) == "high"


def test_key_that_starves_leaves_first() -> None:
    """A key whose oldest item waits too long leaves before keys with higher ones, the oldest of those first."""
    queue = make(max_batch_size=1, max_delay=0.01, is_keyed=True)
    enter(queue, future("low", key="a"), now=0.0)
    enter(queue, future("lower", key="b", priority=-1), now=0.01)
    enter(queue, future("high", key="c", priority=9), now=0.05)
    enter(queue, future("high 2", key="d", priority=9), now=0.05)

    assert first(queue, 0.09) == "high"
    assert [first(queue, 0.12) for _ in range(3)] == ["low", "lower", "high 2"]


def test_sealed_keys_leave_before_all_others() -> None:
    """What a flush is about leaves before what came later in other keys, and by priority among itself."""
    queue = make(max_batch_size=1, max_delay=0.0, is_keyed=True)
    enter(queue, future("low", key="a"), future("low 2", key="b"))
    enter(queue, future("mid", key="c", priority=1))
    queue.arrange(0.0)
    queue.next_due(0.0, is_paused=False, is_forced=False)
    queue.seal()
    enter(queue, future("urgent", key="d", priority=9))

    assert [items(cut(queue, 50.0, is_paused=True)) for _ in range(4)] == [["low"], ["low 2"], ["mid"], None]
    assert items(cut(queue, 50.0)) == ["urgent"]


def test_sealed_keys_leave_by_priority() -> None:
    """Where nobody starves, a flush sends the higher ones first."""
    queue = make(max_delay=None, is_keyed=True)
    enter(queue, future("low", key="a"))
    enter(queue, future("high", key="b", priority=1))
    queue.seal()

    assert [first(queue, 0.0) for _ in range(2)] == ["high", "low"]


def test_forced_key_has_the_highest_item() -> None:
    """Where a batch is forced, the key with the highest item sends it; busy ones wait."""
    queue = make(max_delay=None, is_keyed=True)
    enter(queue, future("low", key="a"))
    enter(queue, future("high", key="b", priority=2))
    enter(queue, future("mid", key="c", priority=1))
    enter(queue, future("high 2", key="b", priority=2))
    busy = cut(queue, 0.0, is_forced=True)
    enter(queue, future("high 3", key="b", priority=2))

    assert items(busy) == ["high", "high 2"]
    assert queue.due_at(is_paused=False) is None
    assert items(cut(queue, 0.0, is_forced=True)) == ["mid"]
    assert items(cut(queue, 0.0, is_forced=True)) == ["low"]
    assert cut(queue, 0.0, is_forced=True) is None
    assert busy is not None
    finish(queue, busy)
    assert items(cut(queue, 0.0, is_forced=True)) == ["high 3"]


def test_keys_that_waited_before_the_first_priority() -> None:
    """The offers made before the first priority came hold on, and nobody's is lost."""
    queue = make(is_keyed=True)
    enter(queue, *(future(key, key=key) for key in "abc"))
    busy = cut(queue, 10.0)
    enter(queue, future("high", key="b", priority=1), now=10.0)

    assert items(busy) == ["a"]
    assert [items(cut(queue, 10.0)), items(cut(queue, 10.0))] == [["high", "b"], ["c"]]


def test_key_that_was_due_before_the_first_priority() -> None:
    """A key that could leave at the very beginning of time can afterwards."""
    queue = make(max_delay=0.0, is_keyed=True)
    enter(queue, future("a", key="a"))
    queue.arrange(0.0)
    enter(queue, future("b", key="b", priority=1))

    assert cut_all(queue, 0.0) == [["b"], ["a"]]


# Costs


@pytest.mark.parametrize("keys", [1, 50], ids=["one key", "many keys"])
def test_cost_of_an_item_does_not_grow_with_the_queue(keys: int) -> None:
    """Ten times as many items that wait with five priorities take no more calls each to get in and out."""
    few, many = (calls_each(count, keys) for count in (1_000, 10_000))

    assert many <= few * 1.3


def calls_each(count: int, keys: int) -> float:
    """Return how many calls, those into C included, one of `count` items takes."""
    random, calls = Random(count), 0
    queue = make(max_batch_size=100, max_delay=0.0, is_keyed=keys > 1)
    entries = [
        future(number, key=number % keys if keys > 1 else None, priority=random.randrange(5)) for number in range(count)
    ]

    def count_calls(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count_calls)
    try:
        for number, entry in enumerate(entries):
            enter(queue, entry, now=float(number))
            if number % 100 == 0:
                queue.arrange(float(number))
        batches = cut_all(queue, float(count))
    finally:
        sys.setprofile(None)
    assert sum(map(len, batches)) == count
    return calls / count
