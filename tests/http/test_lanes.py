"""Lanes: calls to one host side by side, and little kept of each."""

from batcher.http._lanes import Lanes


def test_requests_gather_until_the_batch_is_full() -> None:
    """One lane takes as many as a batch has, then the next one gathers."""
    lanes = Lanes(3, 2)

    assert [lanes.enter("k") for _ in range(7)] == [0, 0, 1, 1, 2, 2, 0]


def test_a_busy_lane_gathers_no_more() -> None:
    """While a lane's batch is under way, requests gather in a free one; where none is free, in the next."""
    lanes = Lanes(2, 10)

    with lanes.running("k", lanes.enter("k")):
        assert [lanes.enter("k"), lanes.enter("k")] == [1, 1]
        with lanes.running("k", 1):
            assert lanes.enter("k") == 0
    assert lanes.enter("k") == 0


def test_keys_are_apart() -> None:
    """What one key does changes nothing for another."""
    lanes = Lanes(2, 1)
    lanes.enter("a")

    with lanes.running("a", 0):
        assert lanes.enter("b") == 0


def test_idle_keys_are_forgotten() -> None:
    """A key is kept while calls of it run; keys whose calls never ran are bounded (fault 32)."""
    lanes = Lanes(2, 1)
    with lanes.running("k", lanes.enter("k")):
        assert len(lanes) == 1
    assert len(lanes) == 0

    for number in range(3_000):
        lanes.enter(number)
    assert len(lanes) == 1_024


def test_a_key_that_was_forgotten_while_it_ran_is_done_with() -> None:
    """The end of a call whose key has been forgotten, or begun anew, leaves what is new alone."""
    lanes = Lanes(2, 5)
    with lanes.running("k", lanes.enter("k")):
        for number in range(3_000):
            lanes.enter(number)
        lanes.enter("k")
    assert lanes.enter("k") == 0
    assert len(lanes) == 1_024
