"""Snapshots are frozen, reports are honest, and a tally rings when its last item has ended."""

import dataclasses
from typing import Any

import pytest

from batcher._clock import Bell
from batcher._status import BatcherStatus, BatchRecord, Counters, FlushReport, State, Tally


def test_snapshots_are_frozen() -> None:
    """What a user was handed can't be changed, nor given fields of its own."""
    numbers: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(BatchRecord)}
    record = BatchRecord(**numbers)
    numbers = {field.name: 0 for field in dataclasses.fields(BatcherStatus)}
    snapshots = (record, FlushReport(succeeded=1), BatcherStatus(**numbers))
    for snapshot in snapshots:
        for field in dataclasses.fields(snapshot):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(snapshot, field.name, 7)
        assert not hasattr(snapshot, "__dict__")


def test_report_of_nothing_is_complete() -> None:
    """Where there was nothing to do, nothing is left and nothing was lost."""
    assert FlushReport() == FlushReport(succeeded=0, failed=0, cancelled=0, expired=0, dropped=0, pending=0)
    assert FlushReport().complete


@pytest.mark.parametrize("ending", ["succeeded", "cancelled"])
def test_report_is_complete_where_items_ended_as_asked(ending: str) -> None:
    """A result, or a cancelling that somebody asked for, is no loss."""
    assert FlushReport(**{ending: 3}).complete


@pytest.mark.parametrize("ending", ["failed", "expired", "dropped", "pending"])
def test_report_is_incomplete_where_anything_is_left_or_lost(ending: str) -> None:
    """One item that failed, expired, was dropped or is left makes it incomplete."""
    assert not FlushReport(**{"succeeded": 5, ending: 1}).complete


def test_states_are_named_as_status_shows_them() -> None:
    """The states of a batcher's life have the names that users see."""
    assert [state.value for state in State] == ["open", "closing", "closed"]


def test_counters_start_at_zero() -> None:
    """Nothing has happened to a new batcher's items."""
    counters = Counters()

    assert [getattr(counters, name) for name in Counters.__slots__] == [0] * len(Counters.__slots__)


def test_tally_counts_every_ending_of_a_report() -> None:
    """A tally counts by the names that a report has, so that the one becomes the other."""
    tally = Tally()
    tally.ended["failed"] += 2

    assert FlushReport(**tally.ended, pending=tally.left) == FlushReport(failed=2)


def test_what_is_left_waits_or_is_in_a_handler() -> None:
    """Items that wait and items in a handler are both left."""
    tally = Tally()
    tally.pending, tally.processing = 2, 3

    assert tally.left == 5


@pytest.mark.parametrize(
    ("sealed", "pending", "processing", "rings"),
    [(True, 0, 0, True), (True, 1, 0, False), (True, 0, 1, False), (False, 0, 0, False)],
    ids=["complete", "waiting", "processing", "open"],
)
def test_tally_rings_once_complete(sealed: bool, pending: int, processing: int, rings: bool) -> None:  # noqa: FBT001
    """All who wait are woken when the tally is sealed and its last item ended, and not before."""
    tally = Tally()
    tally.sealed, tally.pending, tally.processing = sealed, pending, processing
    tally.bells += [Bell(), Bell()]

    tally.ring_if_complete()

    assert [bell.is_rung for bell in tally.bells] == [rings, rings]
