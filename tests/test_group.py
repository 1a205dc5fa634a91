"""A group keeps the order of arrival, its age, and where a flush ends, whatever ends inside it."""

import pytest

from batcher._group import Batch, Group, Ticket, is_live, is_tracked
from batcher._status import Tally
from tests.queue_play import future, futures, ticket


@pytest.fixture(name="group")
def _group() -> Group:
    """An empty group."""
    return Group("key")


def cancel(group: Group, *positions: int) -> None:
    """End entries where they are."""
    for position in positions:
        group.entries[position]._state = "CANCELLED_AND_NOTIFIED"
        group.husks += 1


def test_future_and_ticket_are_tracked() -> None:
    """Futures and tickets have a state of their own; whatever else a user puts is an item."""

    class Likeness(Ticket):
        pass

    assert is_tracked(future())
    assert is_tracked(ticket())
    assert not any(is_tracked(item) for item in (None, "item", object(), Ticket, Likeness("item")))


def test_tracked_entry_lives_until_it_has_ended() -> None:
    """A tracked entry lives as long as it waits; a bare item in the queue always does."""
    waiting, cancelled, claimed = futures(3)
    cancelled._state, claimed._state = "CANCELLED", "RUNNING"

    assert [is_live(entry) for entry in (waiting, cancelled, claimed)] == [True, False, False]
    assert is_live(ticket())
    assert is_live("item")
    assert is_live(None)


def test_ticket_is_lean_and_reads_like_a_future() -> None:
    """A ticket starts as a future does, under the same names, and has no room for more."""
    entry, like = ticket("item"), future("item")

    for name in Ticket.__slots__:
        if name.startswith("_"):
            assert getattr(entry, name) == getattr(like, name)
    assert (entry.members, entry.live, entry.shared_key) == (None, 1, None)
    with pytest.raises(AttributeError):
        entry.more = 1  # type: ignore[attr-defined]


def test_batch_claims_what_still_waits(group: Group) -> None:
    """Entries that wait become the batch's, in order; those that have ended are only counted."""
    first, cancelled, last, put = future("a"), future("b"), future("d"), ticket("e")
    cancelled._state = "CANCELLED"
    batch = Batch(1, group, Tally(), 0.0)

    assert batch.add([first, cancelled, "c", last]) == 1
    assert batch.add([put]) == 0
    assert batch.items == ["a", "c", "d", "e"]
    assert batch.entries == [first, "c", last, put]
    assert batch.size == 4
    assert [entry._state for entry in (first, last, put)] == ["RUNNING"] * 3
    assert cancelled._state == "CANCELLED"


def test_take_gives_the_oldest(group: Group) -> None:
    """Entries leave in the order they came in; positions go on counting."""
    group.entries.extend("abcde")

    assert group.take(2) == ["a", "b"]
    assert (group.head, group.tail, group.live) == (2, 5, 3)
    assert group.take(3) == ["c", "d", "e"]
    assert group.take(0) == []
    assert (group.head, group.tail, group.live) == (5, 5, 0)


def test_one_mark_dates_a_batch(group: Group) -> None:
    """Of entries one batch apart each is dated; those between count as old as the mark before them."""
    for position in range(7):
        group.mark(position, float(position), 3)

    assert list(group.marks) == [(0, 0.0), (3, 3.0), (6, 6.0)]
    assert group.since == 0.0


def test_age_is_never_too_young(group: Group) -> None:
    """As entries leave, the age is that of the last mark not beyond the oldest one; one mark stays."""
    group.entries.extend(range(9))
    for position in range(9):
        group.mark(position, float(position), 3)
    seen = []
    for _ in range(9):
        seen.append(group.since)
        group.take(1)
        group.forget_passed()

    assert seen == [0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 6.0, 6.0, 6.0]
    assert list(group.marks) == [(6, 6.0)]


def test_seal_counts_what_waits_and_tells_whose_it_is(group: Group) -> None:
    """A seal ends a tally's part at the tail, and says how many of it wait."""
    tally = Tally()
    entries = futures(3)
    group.entries.extend([*entries, "bare"])
    cancel(group, 1)

    assert group.seal(tally) == 3
    assert list(group.seals) == [(4, tally)]
    assert [entry._tally for entry in entries] == [tally, None, tally]


def test_seal_reaches_back_to_the_one_before(group: Group) -> None:
    """A second seal is about what came since the first."""
    first, second = Tally(), Tally()
    before, after = futures(2)
    group.entries.append(before)
    group.seal(first)
    group.entries.append(after)

    assert group.seal(second) == 1
    assert list(group.seals) == [(1, first), (2, second)]
    assert (before._tally, after._tally) == (first, second)


def test_seal_of_nothing_new_is_none(group: Group) -> None:
    """Where nothing came since the last seal, there is nothing to seal."""
    first = Tally()
    group.entries.append("a")
    group.seal(first)

    assert group.seal(Tally()) == 0
    assert list(group.seals) == [(1, first)]


def test_seal_may_be_repeated(group: Group) -> None:
    """A seal that Ctrl-C may have ended halfway is made anew, over all that waits by then."""
    tally = Tally()
    entries = futures(3)
    group.entries.extend(entries)
    group.seals.append((3, tally))

    assert group.seal(tally) == 3
    late = futures(1)
    group.entries.extend(late)
    assert group.seal(tally) == 4
    assert list(group.seals) == [(4, tally)]
    assert [entry._tally for entry in entries + late] == [tally] * 4


def test_passed_seals_are_forgotten(group: Group) -> None:
    """A seal is over when its last entry has left."""
    tally = Tally()
    group.entries.extend("abc")
    group.seal(tally)
    group.take(2)
    group.forget_passed()
    assert list(group.seals) == [(3, tally)]

    group.take(1)
    group.forget_passed()
    assert list(group.seals) == []


def test_compacted_group_has_no_husks(group: Group) -> None:
    """What waits stays in order, as if the husks had left; marks and seals stay with their entries."""
    tally, later = Tally(), Tally()
    entries = futures(8)
    group.head = 10
    group.entries.extend(entries)
    group.marks.extend([(10, 1.0), (13, 2.0), (16, 3.0)])
    group.seals.extend([(14, tally), (18, later)])
    cancel(group, 0, 3, 4, 7)

    kept, _, marks, seals = group.compacted()
    assert list(kept) == [entries[1], entries[2], entries[5], entries[6]]
    # Four have left, so the first that waits is at 14.
    assert list(marks) == [(14, 1.0), (16, 2.0), (17, 3.0)]
    assert list(seals) == [(16, tally), (18, later)]


def test_seal_over_husks_alone_is_gone_when_compacted(group: Group) -> None:
    """A flush all of whose entries ended has nothing left here."""
    tally = Tally()
    group.entries.extend(futures(4))
    group.mark(0, 1.0, 100)
    group.seals.append((2, tally))
    cancel(group, 0, 1)

    kept, _, marks, seals = group.compacted()
    assert len(kept) == 2
    assert list(marks) == [(2, 1.0)]
    assert list(seals) == []


def test_group_of_husks_is_empty_when_compacted(group: Group) -> None:
    """Where nothing waits, nothing is left: no entry, no date, no seal."""
    group.entries.extend(futures(3))
    group.mark(0, 1.0, 100)
    group.seals.append((3, Tally()))
    cancel(group, 0, 1, 2)

    kept, lanes, marks, seals = group.compacted()
    assert (list(kept), lanes, list(marks), list(seals)) == ([], None, [], [])


def test_mark_before_the_head_stays_when_compacted(group: Group) -> None:
    """The mark that dates the oldest entry may lie before it, and goes on dating it."""
    group.head = 5
    group.entries.extend(futures(3))
    group.marks.append((3, 1.0))
    cancel(group, 0)

    kept, _, marks, _ = group.compacted()
    assert len(kept) == 2
    assert list(marks) == [(6, 1.0)]
