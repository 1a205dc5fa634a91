"""Lanes hand out the highest or the longest-waiting entry, and nothing from behind a seal, at little cost."""

from collections.abc import Iterable
from random import Random
from typing import Any

import pytest

from batcher._lanes import Lanes
from tests.queue_play import future

NEVER = -1.0  # nothing starves: all dates are later


def entry(item: object, priority: int, since: float = 0.0) -> Any:
    """Make an entry that came at `since`."""
    made = future(item, priority=priority)
    made._since = since
    return made


def add(lanes: Lanes, *entries: Any) -> None:
    """Append entries as the queue does."""
    for new in entries:
        lanes.lane_for(new).append(new)
        lanes.count += 1


def take(lanes: Lanes, starving_since: float = NEVER) -> Any:
    """Take out the next item as the queue does."""
    lanes.count -= 1
    return lanes.next_lane(starving_since).popleft()._result


def take_all(lanes: Lanes, starving_since: float = NEVER) -> list[Any]:
    """Take out all items."""
    return [take(lanes, starving_since) for _ in range(lanes.count)]


def heap_sizes(lanes: Lanes) -> list[int]:
    """Return how many places the heaps have, and how many lanes there are."""
    return [size for one in lanes._stretches for size in (len(one._ranks), len(one._ages), len(one._lanes))]


def test_highest_leaves_first() -> None:
    """A higher number leaves first, equal ones in order of arrival."""
    lanes = Lanes()
    add(lanes, *(entry(item, priority) for item, priority in [("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", 0)]))

    assert (lanes.count, lanes.priority) == (5, 5)
    assert take_all(lanes) == ["b", "d", "a", "e", "c"]


def test_starving_leaves_before_all() -> None:
    """What has waited too long leaves first, the oldest before others, of equal age the higher one."""
    lanes = Lanes()
    add(lanes, entry("low", 0, 1.0), entry("mid", 3, 2.0), entry("mid 2", 4, 2.0), entry("high", 9, 3.0))
    add(lanes, entry("low again", 0, 4.0))

    assert take_all(lanes, starving_since=2.0) == ["low", "mid 2", "mid", "high", "low again"]


def test_age_is_that_of_the_oldest() -> None:
    """The lanes know exactly when the oldest of all came, as entries come and go; an empty one never."""
    lanes = Lanes()
    assert (lanes.since, lanes.priority) == (float("inf"), 0)
    add(lanes, entry("a", 0, 1.0), entry("b", 1, 2.0), entry("c", 0, 3.0), entry("d", 1, 4.0))
    seen = []
    for starving_since in (NEVER, 1.0, 3.0):
        seen.append(lanes.since)
        take(lanes, starving_since)
    seen.append(lanes.since)

    assert seen == [1.0, 1.0, 3.0, 4.0]


def test_nothing_overtakes_a_seal() -> None:
    """What comes after a seal leaves after all that was before it, whatever its priority or its age."""
    lanes = Lanes()
    add(lanes, entry("low", 0, 1.0), entry("high", 1, 1.0))
    lanes.begin_stretch()
    add(lanes, entry("urgent", 9, 0.0))

    assert (lanes.since, lanes.priority) == (1.0, 1)
    assert [[one._result for one in part] for part in lanes.parts()] == [["high", "low"], ["urgent"]]
    assert [one._result for one in lanes] == ["high", "low", "urgent"]
    assert take_all(lanes, starving_since=0.5) == ["high", "low", "urgent"]


def test_seal_of_nothing_changes_nothing() -> None:
    """Seals with nothing between them take no place, and those that are empty by now are passed over."""
    lanes = Lanes([[], [entry("a", 0)], [], [entry("b", 1)], [entry("c", 2)]])
    lanes.begin_stretch()
    lanes.begin_stretch()

    assert lanes.count == 3
    assert len(lanes._stretches) == 4
    assert take_all(lanes) == ["a", "b", "c"]
    assert lanes.highest() is lanes.oldest() is None
    assert len(lanes._stretches) == 1


def test_lane_that_was_made_and_not_filled_is_passed_over() -> None:
    """Ctrl-C between the making of a lane and the append leaves nothing that anybody stumbles over."""
    lanes = Lanes()
    late = entry("late", 3, 2.0)
    assert lanes.lane_for(entry("never", 9, 0.0)) is lanes.lane_for(entry("never", 9, 0.0))
    assert lanes.oldest() is None
    assert lanes.lane_for(late) is lanes.lane_for(late)
    add(lanes, entry("a", 0, 1.0))
    assert (lanes.since, lanes.priority) == (1.0, 0)
    add(lanes, late)

    assert take_all(lanes) == ["late", "a"]


@pytest.mark.parametrize("starving_since", [NEVER, 1e9], ids=["by priority", "by age"])
def test_places_of_lanes_that_are_gone_do_not_pile_up(starving_since: float) -> None:
    """However many priorities come and go beside one entry that stays, few places are kept."""
    lanes = Lanes()
    add(lanes, entry("stays", -1 if starving_since == NEVER else 10_000, 0.0 if starving_since == NEVER else 1e9))
    for number in range(2000):
        add(lanes, entry(number, number, float(number)))
        assert take(lanes, starving_since) == number
        assert max(heap_sizes(lanes)) <= 70

    assert take(lanes) == "stays"


def test_lane_that_empties_again_and_again_takes_one_place() -> None:
    """A priority that comes back each time after its last entry has left doesn't pile up beside an older entry."""
    lanes = Lanes()
    add(lanes, entry("stays", 0, 0.0))
    for number in range(2000):
        add(lanes, entry(number, 5, float(number + 1)))
        assert take(lanes) == number
        assert max(heap_sizes(lanes)) <= 70


@pytest.mark.parametrize("spread", [5, 100_000], ids=["five priorities", "all different"])
def test_lanes_agree_with_a_sorted_list(spread: int) -> None:
    """Any mix of coming and leaving is that of a list which is searched anew each time."""
    random, lanes = Random(spread), Lanes()
    waiting: list[Any] = []
    for number in range(3000):
        if random.random() < 0.55:
            waiting.append(entry(number, random.randrange(spread), number // 10))
            add(lanes, waiting[-1])
        elif waiting:
            starving_since = number // 10 - random.choice([20, 100, 1000])
            wanted = next_of(waiting, starving_since)
            waiting.remove(wanted)
            assert take(lanes, starving_since) == wanted._result

    assert sorted(one._result for one in lanes) == [one._result for one in waiting]


def next_of(waiting: Iterable[Any], starving_since: float) -> Any:
    """Say what has to leave next."""
    starving = [one for one in waiting if one._since <= starving_since]
    if starving:
        return min(starving, key=lambda one: (one._since, -one._priority))
    return max(waiting, key=lambda one: one._priority)
