"""Timeouts: a caller's own, and those of the call it shares."""

from batcher.http._timeouts import Timeouts, longest


def test_patience_is_the_delay_and_connect_and_read() -> None:
    """A caller waits for the batch to leave, for the connection and for the answer."""
    assert Timeouts(1.0, 2.0, 30.0, 30.0).patience(0.5) == 3.5


def test_patience_has_no_end_where_a_limit_is_missing() -> None:
    """None is no limit, wherever it stands."""
    assert Timeouts(None, 2.0).patience(0.5) is None
    assert Timeouts(1.0, None).patience(0.5) is None
    assert Timeouts(1.0, 2.0).patience(None) is None


def test_shared_call_takes_the_longest() -> None:
    """Each limit of a shared call is the longest of its callers', and none where one has none."""
    assert longest([Timeouts(1.0, 9.0, 3.0, None), Timeouts(2.0, 8.0, None, None)]) == Timeouts(2.0, 9.0, None, None)
