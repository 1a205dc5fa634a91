"""Lanes: calls to one host side by side, and little kept of each."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from batcher.http._lanes import Lanes
from tests.http.test_verdict import call as some_call

if TYPE_CHECKING:
    from batcher.http._call import Call


def call(lane: int) -> Call:
    """Return a call of key "k" in a lane."""
    made = some_call("GET")
    made.sharing_key = "k"
    made.lane = lane
    return made


def test_requests_gather_until_the_batch_is_full() -> None:
    """One lane takes as many as a batch has, then the next one gathers; at the limit they take turns."""
    lanes = Lanes(3, 2)

    assert [lanes.enter("k") for _ in range(9)] == [0, 0, 1, 1, 2, 2, 0, 1, 2]


def test_a_busy_lane_gathers_no_more() -> None:
    """While a lane's batch is under way, requests gather in a free one; where none is free, behind one."""
    lanes = Lanes(2, 10)

    with lanes.running("k", lanes.enter("k")):
        assert [lanes.enter("k"), lanes.enter("k")] == [1, 1]
        with lanes.running("k", 1):
            assert lanes.enter("k") == 0
        assert lanes.enter("k") == 1
    assert lanes.enter("k") == 0


def test_a_lane_whose_batch_has_left_is_not_full_any_more() -> None:
    """What was full and has come back gathers again."""
    lanes = Lanes(4, 1)

    with ExitStack() as both:
        both.enter_context(lanes.running("k", lanes.enter("k")))
        both.enter_context(lanes.running("k", lanes.enter("k")))
        assert lanes.enter("k") == 2
    assert lanes.enter("k") == 0


def test_nothing_gathers_behind_a_call_that_waits_for_its_retry() -> None:
    """A part that was told to come back in a minute holds up nobody, until it has an answer."""
    lanes = Lanes(2, 10)
    waiting = call(lanes.enter("k"))
    with lanes.running("k", waiting.lane):
        lanes.hold(waiting)
        lanes.hold(waiting)  # for the second time it fails

    assert lanes.enter("k") == 1
    with lanes.running("k", 1), lanes.running("k", 2):
        assert lanes.enter("k") in {1, 2}
    lanes.leave(waiting)
    assert len(lanes) == 0
    assert lanes.enter("k") == 0


def test_where_all_lanes_wait_one_has_to_do() -> None:
    """With every lane under way for a retry, requests wait behind one of them."""
    lanes = Lanes(1, 10)
    waiting = call(lanes.enter("k"))
    with lanes.running("k", waiting.lane):
        lanes.hold(waiting)
        assert lanes.enter("k") == 0
    lanes.leave(waiting)


def test_a_call_that_was_given_up_holds_nothing() -> None:
    """Where the caller has left before its call failed, nothing is held for it."""
    lanes = Lanes(2, 10)
    gone = call(lanes.enter("k"))
    with lanes.running("k", 0):
        lanes.leave(gone)
        lanes.hold(gone)
    assert len(lanes) == 0


def test_keys_are_apart() -> None:
    """What one key does changes nothing for another."""
    lanes = Lanes(2, 1)
    lanes.enter("a")

    with lanes.running("a", 0):
        assert lanes.enter("b") == 0


def test_idle_keys_are_forgotten() -> None:
    """A key is kept while calls of it run; keys whose calls never ran are bounded (fault 32)."""
    lanes = Lanes(2, 5)
    with lanes.running("k", lanes.enter("k")):
        assert len(lanes) == 1
    assert len(lanes) == 0

    for number in range(3_000):
        lanes.enter(number)
    assert len(lanes) == 1_024


def test_a_key_that_was_forgotten_while_it_ran_is_done_with() -> None:
    """The end of a call whose key has been forgotten, or begun anew, leaves what is new alone."""
    lanes = Lanes(2, 5)
    old = call(lanes.enter("k"))
    with lanes.running("k", old.lane):
        lanes.hold(old)
        for number in range(3_000):
            lanes.enter(number)
        lanes.hold(call(0))  # of a key that nothing is known of
        lanes.enter("k")
    lanes.leave(old)
    assert lanes.enter("k") == 0
    assert len(lanes) == 1_024
