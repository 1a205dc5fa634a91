"""The pending queue with keys: no batch mixes them, at most one of each is in a handler, idle ones are freed."""

import pytest

from batcher._pending import PendingQueue
from tests.queue_play import cut, drop_all, drop_oldest, end, enter, finish, future, futures, items, keys, ticket


def make(max_batch_size: int = 3, max_delay: float | None = 10.0) -> PendingQueue:
    """Make a keyed queue."""
    return PendingQueue(max_batch_size=max_batch_size, max_delay=max_delay, is_tracked=True, keeps_order=True)


def weighed_apart() -> PendingQueue:
    """Make a keyed queue in which no two items fit into a batch, and nothing leaves by itself."""
    return PendingQueue(max_batch_size=3, max_delay=None, max_batch_weight=9.0, is_tracked=True)


def test_keys_share_no_batch() -> None:
    """Each key fills batches of its own, in its own order."""
    queue = make(max_batch_size=2)
    enter(queue, future(1, key="a"), ticket(2, key="b"), future(3, key="b"), ticket(4, key="a"), future(5, key="a"))
    batches = []
    while (batch := cut(queue, 10.0)) is not None:
        batches.append((batch.group.key, batch.items))
        finish(queue, batch)

    assert sorted(batches) == [("a", [1, 4]), ("a", [5]), ("b", [2, 3])]


def test_key_waits_for_its_batch_in_a_handler() -> None:
    """While a batch of a key is in a handler no other of that key leaves, not even if forced; other keys do."""
    queue = make(max_batch_size=1)
    enter(queue, future(1, key="a"), future(2, key="a"), future(3, key="b"))
    first, other = cut(queue, 0.0), cut(queue, 0.0)

    assert items(first) == [1]
    assert items(other) == [3]
    assert queue.due_at(is_paused=False) is None
    assert cut(queue, 1e9, is_forced=True) is None
    assert first is not None
    finish(queue, first)
    assert items(cut(queue, 0.0)) == [2]


def test_every_key_has_its_own_time() -> None:
    """Keys are due by the age of their own oldest item, the oldest first."""
    queue = make()
    enter(queue, future(1, key="a"), now=1.0)
    enter(queue, future(2, key="b"), now=2.0)
    enter(queue, future(3, key="a"), now=3.0)
    queue.arrange(3.0)

    assert queue.due_at(is_paused=False) == 11.0
    assert items(cut(queue, 11.0)) == [1, 3]
    assert queue.due_at(is_paused=False) == 12.0
    assert cut(queue, 11.9) is None
    assert items(cut(queue, 12.0)) == [2]


def test_forced_keys_take_turns() -> None:
    """Where batches are forced, a key that just had its turn comes after the others, however fast it fills up."""
    queue = make(max_delay=None)
    enter(queue, future("a0", key="a"), future("b0", key="b"))
    first = cut(queue, 0.0, is_forced=True)
    enter(queue, future("a1", key="a"))
    assert first is not None
    finish(queue, first)

    assert first.items == ["a0"]
    assert items(cut(queue, 0.0, is_forced=True)) == ["b0"]
    assert items(cut(queue, 0.0, is_forced=True)) == ["a1"]


def test_full_keys_take_turns() -> None:
    """Keys that are all full send one batch each, and then the next."""
    queue = weighed_apart()
    enter(queue, *(future(f"{key}{number}", key=key, weight=5.0) for number in range(2) for key in "abc"))
    batches = [cut(queue, 0.0) for _ in range(3)]
    for batch in batches:
        assert batch is not None
        finish(queue, batch)
    batches += [cut(queue, 0.0, is_forced=True) for _ in range(3)]

    assert [items(batch) for batch in batches] == [["a0"], ["b0"], ["c0"], ["a1"], ["b1"], ["c1"]]


def test_forced_batch_comes_where_none_is_due() -> None:
    """Forced, a key leaves that neither size nor time would send."""
    queue = make(max_delay=None)
    enter(queue, future(1, key="a"), future(2, key="b"))

    assert cut(queue, 1e9) is None
    assert items(cut(queue, 0.0, is_forced=True)) == [1]
    assert items(cut(queue, 0.0, is_forced=True)) == [2]
    assert cut(queue, 0.0, is_forced=True) is None


class Fickle:
    """A key whose equality raises when it is told to."""

    is_broken = False

    def __hash__(self) -> int:
        """Be found."""
        return 1

    def __eq__(self, other: object) -> bool:
        """Raise, or say that all are equal."""
        if Fickle.is_broken:
            raise SystemExit
        return True


def test_key_that_cannot_be_looked_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a key's hash or equality raises, the add raises; nothing has entered."""
    queue = make()
    enter(queue, future(1, key=Fickle()))
    monkeypatch.setattr(Fickle, "is_broken", True)

    with pytest.raises(SystemExit):
        enter(queue, future(2, key=Fickle()))
    with pytest.raises(TypeError):
        enter(queue, future(3, key=[]))
    assert (queue.count, queue.accepted) == (1, 1)


def test_key_that_breaks_later_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key whose equality raises by the time it is freed keeps its place, and nothing else."""
    queue = make()
    enter(queue, future(1, key=Fickle()), future(2, key="b"))
    # A key is found by identity first: another one that is equal takes its place in the table.
    queue._by_key[Fickle()] = queue._by_key.pop(next(iter(queue._by_key)))
    queue._by_key["b"] = queue._by_key.pop("b")
    monkeypatch.setattr(Fickle, "is_broken", True)
    batches = [cut(queue, 10.0), cut(queue, 10.0)]
    for batch in batches:
        assert batch is not None
        finish(queue, batch)
    queue.arrange(10.0)

    assert [items(batch) for batch in batches] == [[1], [2]]
    assert queue._groups == {}
    assert len(queue._by_key) == 1


def test_equal_keys_are_one() -> None:
    """Keys are told apart by equality, as in a dict."""
    queue = make()
    enter(queue, future(1, key=1), future(2, key=1.0), future(3, key=True))

    assert items(cut(queue, 0.0)) == [1, 2, 3]


def test_inbox_rings_for_every_item() -> None:
    """With keys nobody knows what an item fills before it is arranged: each rings, and each is dated."""
    queue = make()
    enter(queue, future(1, key="a"))
    queue.date_next(5.0, 1)

    assert queue.missing_to_full == 1
    assert queue.undated_room == 0
    assert items(cut(queue, 10.0)) == [1]


@pytest.mark.parametrize("max_delay", [0.0, None])
def test_idle_keys_are_freed(max_delay: float | None) -> None:
    """A key takes no place once its items are done, however many there were; old offers don't pile up."""
    queue = make(max_delay=max_delay)
    for number in range(2000):
        enter(queue, future(number, key=number))
        batch = cut(queue, 0.0, is_forced=True)
        assert batch is not None
        assert keys(queue) == {number}
        finish(queue, batch)
        queue.arrange(0.0)
        assert keys(queue) == set()
        assert len(queue._offers._heap) <= 66

    assert queue.accepted == 2000


def test_replaced_offers_do_not_pile_up() -> None:
    """A key whose time changes again and again leaves few outdated offers behind."""
    queue = make(max_batch_size=2, max_delay=1000.0)
    blocker = future("last", key="b")
    enter(queue, blocker)
    for number in range(300):
        enter(queue, future(number, key="a"), now=float(number))
        queue.arrange(float(number))
        enter(queue, future(number, key="a"), now=float(number))
        batch = cut(queue, float(number))
        assert batch is not None
        finish(queue, batch)

    assert len(queue._offers._heap) <= 70
    assert queue.due_at(is_paused=False) == 1000.0


def test_cancelled_item_is_not_handed_over() -> None:
    """What was cancelled in the inbox or in its group leaves with nobody."""
    queue = make()
    entries = futures(4, key="a")
    enter(queue, *entries[:2])
    queue.arrange(0.0)
    end(queue, entries[0])
    enter(queue, *entries[2:])
    end(queue, entries[2])

    assert (queue.count, queue.accepted) == (2, 4)
    assert items(cut(queue, 10.0)) == [1, 3]
    assert (queue.count, queue.accepted) == (0, 4)


def test_key_of_cancelled_items_leaves_nothing_behind() -> None:
    """When all items of a key were cancelled the key is freed, and nothing of it falls due later."""
    queue = make()
    entry = future(1, key="a")
    enter(queue, entry)
    queue.arrange(0.0)
    end(queue, entry)
    queue.arrange(0.0)

    assert keys(queue) == set()
    assert queue.due_at(is_paused=False) is None
    assert cut(queue, 10.0) is None
    assert (queue.count, queue.accepted) == (0, 1)


def test_key_of_cancelled_items_leaves_nothing_beside_others() -> None:
    """A key whose items were all cancelled, while another key waits, is due no more and takes no place in the end."""
    queue = make()
    cancelled, other = future(1, key="a"), future(2, key="b")
    enter(queue, cancelled)
    enter(queue, other, now=5.0)
    queue.arrange(5.0)
    end(queue, cancelled)

    assert cut(queue, 10.0) is None
    assert items(cut(queue, 15.0)) == [2]
    assert keys(queue) == {"b"}


def test_key_that_comes_back_after_a_cancel_has_its_own_age() -> None:
    """An item of a key whose earlier items were all cancelled waits its own time."""
    queue = make()
    cancelled = future(1, key="a")
    enter(queue, cancelled, future(2, key="b"))
    queue.arrange(0.0)
    end(queue, cancelled)
    enter(queue, future(3, key="a"), now=8.0)

    assert items(cut(queue, 10.0)) == [2]
    assert cut(queue, 17.9) is None
    assert items(cut(queue, 18.0)) == [3]


def test_cancelled_items_do_not_fill_a_batch() -> None:
    """A key that was full and isn't any more waits for its time."""
    queue = make()
    entries = futures(3, key="a")
    enter(queue, *entries)
    queue.arrange(0.0)
    end(queue, entries[0])

    assert cut(queue, 0.0) is None
    assert items(cut(queue, 10.0)) == [1, 2]


def test_cancelled_while_its_key_is_busy() -> None:
    """When the rest of a busy key is cancelled the key is freed as its batch comes back."""
    queue = make(max_batch_size=1)
    entries = futures(2, key="a")
    enter(queue, *entries)
    batch = cut(queue, 0.0)
    end(queue, entries[1])
    assert batch is not None
    assert cut(queue, 0.0) is None
    finish(queue, batch)
    queue.arrange(0.0)

    assert keys(queue) == set()
    assert (queue.count, queue.accepted) == (0, 2)


def test_item_is_arranged_once() -> None:
    """Ctrl-C between putting an item to its key and taking it out of the inbox doesn't double it."""
    queue = make()
    entry = future(1, key="a")
    enter(queue, entry)
    queue._collect_tracked(entry)  # and then it came
    queue.arrange(0.0)

    assert (queue.count, queue.accepted) == (1, 1)
    assert items(cut(queue, 10.0)) == [1]


def test_oldest_is_dropped_across_keys() -> None:
    """What came first of all keys is dropped first, husks and what has left passed over."""
    queue = make(max_batch_size=1)
    entries = [future(number, key=number % 2) for number in range(6)]
    enter(queue, *entries)
    batch = cut(queue, 0.0)
    end(queue, entries[1])

    assert items(batch) == [0]
    assert drop_oldest(queue) is entries[2]
    assert drop_oldest(queue) is entries[3]
    assert (queue.count, queue.accepted) == (2, 6)
    assert entries[2]._state == "RUNNING"


def test_order_of_arrival_does_not_pile_up() -> None:
    """What the queue remembers of the order of arrival is bounded by what waits."""
    queue = make(max_batch_size=1, max_delay=0.0)
    for number in range(1000):
        enter(queue, future(number, key="a"))
        batch = cut(queue, 0.0)
        assert batch is not None
        finish(queue, batch)
        assert queue.order is not None
        assert len(queue.order) <= 68


def test_all_keys_are_dropped() -> None:
    """Dropping all ends whatever waits, of every key; what is in a handler comes back as ever."""
    queue = make(max_batch_size=1)
    entries = [future(number, key=number % 2) for number in range(5)]
    enter(queue, *entries)
    batch = cut(queue, 0.0)
    end(queue, entries[3])

    assert set(drop_all(queue)) == {entries[1], entries[2], entries[4]}
    queue.arrange(0.0)
    assert (queue.count, queue.accepted) == (0, 5)
    assert queue.due_at(is_paused=False) is None
    assert batch is not None
    finish(queue, batch)
    queue.arrange(0.0)
    assert keys(queue) == set()
