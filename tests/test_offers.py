"""The groups that may leave, by time: the earliest first, one valid offer each, nothing outdated."""

import pytest

from batcher._group import Group
from batcher._offers import Offers


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
