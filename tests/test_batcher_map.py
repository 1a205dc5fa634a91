"""`Batcher.map`: results in order, from input that may be lazy, endless, or broken."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest

from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import PATIENCE, Maker, elsewhere, endings

clock, make = stage.clock, stage.make


def double(items: list[int]) -> list[int]:
    """Answer each number with its double."""
    return [2 * item for item in items]


def test_map_yields_results_in_order(make: Maker) -> None:
    """The results come in the order of the input, the last ones without waiting for a delay."""
    batcher = make(double, max_batch_size=3, max_delay=None)

    assert list(batcher.map(range(10))) == [2 * number for number in range(10)]


def test_map_of_items_that_share_a_place(make: Maker) -> None:
    """Equal items fill no batch, and yet nobody waits for ever: the iterator asks for what it waits for."""
    batcher = make(double, max_batch_size=3, max_delay=None, adaptive=False, dedup_key=True)

    taken = elsewhere(lambda: list(itertools.islice(batcher.map(itertools.repeat(4)), 20)))

    assert taken.result(PATIENCE) == [8] * 20


def test_map_of_nothing(make: Maker) -> None:
    """An input without items gives no results, and what it raises is raised."""

    def broken() -> Iterator[int]:
        yield from ()
        raise OSError("no such file")

    batcher = make(double)

    assert list(batcher.map([])) == []
    with pytest.raises(OSError, match="no such file"):
        list(batcher.map(broken()))


def test_map_of_an_infinite_input(make: Maker) -> None:
    """An infinite input is read as results are asked for; closing the iterator cancels what waits."""
    handler = RecordingHandler(double)
    batcher = make(handler, max_batch_size=5, max_delay=None)

    results = batcher.map(itertools.count())
    taken = list(itertools.islice(results, 12))
    batcher.pause()
    batcher.flush()
    next(results)
    results.close()  # type: ignore[attr-defined]

    assert taken == [2 * number for number in range(12)]
    assert batcher.status().pending == 0
    assert batcher.status().cancelled > 0


def test_map_with_keys_and_no_delay(make: Maker) -> None:
    """Where the items under way fill no batch, since each has a key of its own, map has them sent."""
    batcher = make(double, batch_key=lambda item: item, max_batch_size=2, max_delay=None)

    mapped = elsewhere(lambda: list(batcher.map(range(20))))

    assert mapped.result(PATIENCE) == [2 * number for number in range(20)]


def test_map_raises_an_item_s_error_in_its_turn(make: Maker) -> None:
    """An item's own error is raised when it is that item's turn, after the results before it."""
    batcher = make(lambda items: [ValueError("odd") if item % 2 else item for item in items], max_delay=None)

    results = batcher.map([0, 2, 5, 4])

    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(ValueError, match="odd"):
        next(results)


def test_map_raises_the_input_s_error_last(make: Maker) -> None:
    """What the input raises comes after the results of what it gave."""

    def broken() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("the file ends here")

    results = make(double, max_delay=None).map(broken())

    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(OSError, match="the file ends here"):
        next(results)


def test_map_times_out(make: Maker, clock: FakeClock) -> None:
    """Each result must be there within `timeout` of the call; what waits then is cancelled."""
    batcher = make(max_delay=None)
    results = batcher.map([1, 2], timeout=3.0)

    clock.advance(3.0)

    with pytest.raises(TimeoutError):
        next(results)
    assert endings(batcher.status()) == {"cancelled": 2}


@pytest.mark.parametrize("value", [math.nan, -1, "1"], ids=["nan", "negative", "str"])
def test_map_refuses_wrong_seconds_at_the_call(make: Maker, value: Any) -> None:
    """A wrong timeout is refused by `map` itself, not by the first `next`."""
    with pytest.raises((TypeError, ValueError), match="timeout"):
        make(double).map([1], timeout=value)
