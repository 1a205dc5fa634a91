"""The groups that may leave, by time: the earliest first, one valid offer each, nothing outdated."""

import math

import pytest

from batcher._group import Group
from batcher._offers import SEALED, Offers, RankedOffers
from tests.queue_play import future


@pytest.fixture(name="offers")
def _offers() -> Offers:
    """No offers yet."""
    return Offers()


def test_without_offers_there_is_no_first(offers: Offers) -> None:
    """Where nothing may leave nothing is first."""
    assert offers.first() is None


def test_earliest_is_first(offers: Offers) -> None:
    """Whatever the order in which they came, the earliest offer is first; of equal ones the older."""
    late, early, same = Group("late"), Group("early"), Group("same")
    offers.put(late, 3.0)
    offers.put(early, 1.0)
    offers.put(same, 1.0)

    assert offers.first() is early
    assert offers.first() is early
    offers.put(early, None)
    assert offers.first() is same


def test_last_offer_counts(offers: Offers) -> None:
    """A group that offers anew leaves by its new time, earlier or later."""
    group, other = Group("group"), Group("other")
    offers.put(group, 1.0)
    offers.put(other, 5.0)
    offers.put(group, 9.0)
    assert offers.first() is other

    offers.put(group, 2.0)
    assert offers.first() is group
    assert group.leaves_at == 2.0


def test_withdrawn_offer_is_gone(offers: Offers) -> None:
    """A group that may not leave any more isn't named; it may offer again, at the same time even."""
    group = Group("group")
    offers.put(group, 1.0)
    offers.withdraw(group)
    assert offers.first() is None
    offers.put(group, None)
    assert offers.first() is None

    offers.put(group, 1.0)
    assert offers.first() is group


def test_same_offer_again_changes_nothing(offers: Offers) -> None:
    """An offer that stays as it is takes no further place."""
    group = Group("group")
    for _ in range(1000):
        offers.put(group, 1.0)

    assert len(offers._heap) == 1


def test_outdated_offers_do_not_pile_up(offers: Offers) -> None:
    """However often groups change their offers, few outdated ones are kept, and all valid ones."""
    groups = [Group(number) for number in range(50)]
    for turn in range(100):
        for number, group in enumerate(groups):
            offers.put(group, float(turn * 1000 + number))
            assert len(offers._heap) <= 2 * len(groups) + 65
    left = []
    while (first := offers.first()) is not None:
        left.append(first)
        offers.put(first, None)

    assert left == groups


def test_groups_that_come_and_go_leave_nothing(offers: Offers) -> None:
    """Groups that offered once and withdrew are forgotten."""
    for number in range(1000):
        group = Group(number)
        offers.put(group, float(number))
        offers.put(group, None)

        assert len(offers._heap) <= 66


# Where priorities count


def ranked(priority: int, since: float = 0.0) -> Group:
    """Make a group with one entry."""
    group = Group(priority)
    entry = future(priority=priority)
    entry._since = since
    group.lane_for(entry).append(entry)
    if group.lanes is None:
        group.mark(0, since, 1)
    else:
        group.lanes.count += 1
    return group


def leave(offers: Offers, now: float) -> list[Group]:
    """Take what may leave by `now`, one after another."""
    left = []
    while (group := offers.due(now)) is not None:
        left.append(group)
        group.is_busy = True
        offers.put(group, None)
    return left


def test_highest_that_is_due_is_first() -> None:
    """Of what may leave by now the highest does, equal ones by time; what isn't due yet waits."""
    offers = RankedOffers(100.0)
    low, high, late, later = ranked(0), ranked(5), ranked(9), ranked(5)
    for group, when in [(low, 1.0), (high, 3.0), (late, 7.0), (later, 4.0)]:
        offers.put(group, when)

    assert offers.first() is low
    assert offers.due(0.5) is None
    assert leave(offers, 5.0) == [high, later, low]
    assert offers.first() is late
    assert leave(offers, 7.0) == [late]
    assert offers.first() is None


def test_starving_is_first_but_for_what_is_sealed() -> None:
    """What has waited too long comes before higher ones; what a flush waits for comes before both."""
    offers = RankedOffers(10.0)
    low, high, sealed, sealed_old = ranked(0, 2.0), ranked(5, 3.0), ranked(-5, 11.0), ranked(-7, 1.0)
    for group, when in [(low, 2.0), (high, 3.0), (sealed, SEALED), (sealed_old, SEALED)]:
        offers.put(group, when)

    assert leave(offers, 12.0) == [sealed_old, sealed, low, high]


def test_earliest_is_known_whether_or_not_it_is_ready() -> None:
    """A flush's group is the earliest though others were ready before it."""
    offers = RankedOffers(10.0)
    ready, sealed, never = ranked(5), ranked(0), ranked(9)
    offers.put(never, None)
    assert offers.first() is None
    offers.put(ready, 0.0)
    assert offers.due(1.0) is ready
    assert offers.first() is ready
    offers.put(sealed, SEALED)
    assert offers.first() is sealed
    assert offers.due(1.0) is sealed


def test_forced_is_the_highest_of_all_that_can_leave() -> None:
    """A forced batch is the highest one's, due or not, unless it is busy or empty."""
    offers = RankedOffers(math.inf)
    low, high, busy, empty = ranked(0), ranked(5), ranked(9), Group("empty")
    busy.is_busy = True
    for group in (low, high, busy, empty):
        offers.put(group, None)

    assert offers.forced([]) is high
    offers.withdraw(high)
    assert offers.forced([]) is low
    offers.withdraw(low)
    assert offers.forced([]) is None


def test_ranked_offers_that_were_replaced_do_not_pile_up() -> None:
    """However often groups offer anew, ready or not, few outdated offers are kept in any order."""
    offers = RankedOffers(10.0)
    groups = [ranked(number) for number in range(20)]
    for turn in range(200):
        for number, group in enumerate(groups):
            offers.put(group, float(turn + number))
        assert offers.due(turn + 10.0) is not None
        for heap in (offers._heap, offers._ready, offers._aged, offers._all):
            assert len(heap) <= 2 * len(groups) + 65

    assert sorted(group.priority for group in leave(offers, 1e9)) == list(range(20))
