"""`split_failed`: a batch that fails as a whole is halved until the bad items stand alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher import Batcher, BatcherClosedError, CircuitBreaker, ItemTimeoutError, ResultShapeError, Retry
from batcher.testing import FakeClock, RecordingHandler, inline
from tests import stage
from tests.stage import PATIENCE, Maker, endings

clock, make = stage.clock, stage.make


def poisoned(bad: set[int]) -> RecordingHandler:
    """Return a handler that fails whenever a bad item is among its items."""

    def handle(items: list[int]) -> list[int]:
        if found := bad.intersection(items):
            raise ValueError(min(found))
        return [-item for item in items]

    return RecordingHandler(handle)


@given(size=st.integers(1, 40), bad=st.sets(st.integers(0, 39), max_size=6), is_keyed=st.booleans())
def test_row_24_only_the_bad_items_fail(size: int, bad: set[int], *, is_keyed: bool) -> None:
    """Each good item gets its result, each bad one the error, in at most 2k*ceil(log2 n)+1 calls, in order."""
    bad = {item for item in bad if item < size}
    handler = poisoned(bad)
    with inline():
        batcher: Batcher[int, int] = Batcher(
            handler, max_batch_size=size, split_failed=True, batch_key=(lambda _: "key") if is_keyed else None
        )
        batcher.pause()
        futures = batcher.add_many(range(size))
        batcher.close()

    for item, future in enumerate(futures):
        if item in bad:
            with pytest.raises(ValueError, match=str(item)):
                future.result(0)
        else:
            assert future.result(0) == -item
    assert len(handler.batches) <= 2 * len(bad) * math.ceil(math.log2(max(size, 2))) + 1
    done = [item for items in handler.batches if not bad.intersection(items) or len(items) == 1 for item in items]
    assert done == list(range(size))


def test_row_26_later_items_wait_for_the_parts(make: Maker) -> None:
    """What came later doesn't overtake the parts of a batch that was split."""
    handler = poisoned({1})
    batcher = make(handler, max_batch_size=4, max_delay=None, split_failed=True)

    batcher.add_many(range(8))
    batcher.close()

    assert handler.batches == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3], [4, 5, 6, 7]]
    status = batcher.status()
    assert (status.split, status.batches, status.succeeded, status.failed) == (2, 6, 7, 1)


def test_off_by_default(make: Maker) -> None:
    """Without the option a bad item fails its batch: splitting repeats side effects."""
    handler = poisoned({1})
    batcher = make(handler, max_batch_size=2)

    batcher.add_many([0, 1])
    batcher.close()

    assert handler.batches == [[0, 1]]
    assert endings(batcher.status()) == {"failed": 2}


def test_retries_come_first(make: Maker) -> None:
    """The whole batch uses up its retries; then it is split without further ones."""
    handler = poisoned({1})
    batcher = make(handler, max_batch_size=2, split_failed=True, retry=Retry(delay=0.0))

    batcher.add_many([0, 1])
    batcher.close()

    assert handler.batches == [[0, 1], [0, 1], [0, 1], [0], [1]]


def test_items_that_fail_alone_split_nothing(make: Maker) -> None:
    """Where the handler says which items failed, there is nothing to search for."""
    handler = RecordingHandler(lambda items: [ValueError(item) for item in items])
    batcher = make(handler, max_batch_size=2, split_failed=True)

    batcher.add_many([0, 1])
    batcher.close()

    assert handler.batches == [[0, 1]]


def test_wrong_shape_is_split(make: Maker) -> None:
    """An answer that can't be matched fails the batch as a whole, and is searched for its cause."""
    handler = RecordingHandler(lambda items: [item for item in items if item != 2])
    batcher = make(handler, max_batch_size=4, split_failed=True)

    futures = batcher.add_many(range(4))
    batcher.close()

    assert [future.result(0) for future in futures if future is not futures[2]] == [0, 1, 3]
    assert isinstance(futures[2].exception(0), ResultShapeError)


def test_deadline_ends_an_item_of_a_later_part(make: Maker, clock: FakeClock) -> None:
    """An item whose part has yet to come leaves it at its own deadline."""
    gone: list[Any] = []

    def handle(items: list[int]) -> None:
        if items == [0, 1]:
            clock.advance(1.0)
        if items == [0]:
            clock.wait_for_sleepers(1)  # another flusher has the place of this one, and saw the deadline
            gone.append(batcher.status().expired)
        raise ValueError

    handler = RecordingHandler(handle)
    batcher = make(handler, max_batch_size=4, max_delay=None, split_failed=True, max_concurrent=2)
    futures = [batcher.add(item, timeout=1.0 if item == 3 else None) for item in range(4)]
    report = batcher.flush(PATIENCE)

    assert isinstance(futures[3].exception(PATIENCE), ItemTimeoutError)
    assert gone == [1]
    assert (report.failed, report.expired) == (3, 1)
    assert [3] not in handler.batches


def test_close_fails_the_parts_to_come(make: Maker, clock: FakeClock) -> None:
    """When close ends while a part hangs in the handler, the parts after it fail; the hanging one keeps its futures."""
    handler = stage.HeldHandler(lambda items: [-item for item in items])

    def handle(items: list[int]) -> object:
        if len(items) == 4:
            raise ValueError
        return handler(items)

    batcher = make(handle, max_batch_size=4, split_failed=True, max_concurrent=2)
    futures = batcher.add_many(range(4))
    handler.wait_for_batches(1)
    report = batcher.close(0)

    assert (report.dropped, report.pending) == (2, 2)
    for future in futures[2:]:
        with pytest.raises(BatcherClosedError) as caught:
            future.result(0)
        assert isinstance(caught.value.__cause__, ValueError)
    handler.let_go()
    assert [future.result(PATIENCE) for future in futures[:2]] == [0, -1]


def test_part_whose_items_all_ended_is_passed_over(make: Maker, clock: FakeClock) -> None:
    """When nothing is left of a part, the one after it comes."""

    def handle(items: list[int]) -> list[int]:
        if len(items) == 2:
            batcher.pause()
            raise ValueError
        return [-item for item in items]

    handler = RecordingHandler(handle)
    batcher = make(handler, max_batch_size=2, max_delay=None, split_failed=True, max_concurrent=2)
    hasty, patient = batcher.add(1, timeout=1.0), batcher.add(2)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    assert isinstance(hasty.exception(PATIENCE), ItemTimeoutError)
    clock.wait_for_sleepers(1)
    batcher.resume()

    assert patient.result(PATIENCE) == -2
    assert handler.batches == [[1, 2], [2]]


def test_bad_item_opens_no_circuit(make: Maker) -> None:
    """The search for a bad item fails many calls in a row; the breaker counts the first of them alone."""
    breaker = CircuitBreaker(failure_threshold=2)
    handler = poisoned({0})
    batcher = make(handler, max_batch_size=64, split_failed=True, circuit_breaker=breaker)

    futures = batcher.add_many(range(64))
    batcher.close()

    assert [future.exception(0) is None for future in futures] == [False] + [True] * 63
    assert breaker.status().state == "closed"


def test_parts_are_not_retried(make: Maker) -> None:
    """Once a batch is split its parts have no retries, though they fail with what would be tried again."""

    def fail_differently(items: list[int]) -> list[int]:
        raise KeyError if len(items) > 1 else OSError

    handler = RecordingHandler(fail_differently)
    batcher = make(
        handler, max_batch_size=2, split_failed=True, retry=Retry(attempts=9, delay=0.0, retry_on=(OSError,))
    )
    futures = batcher.add_many([1, 2])

    assert [type(future.exception(PATIENCE)) for future in futures] == [OSError, OSError]
    assert handler.batches == [[1, 2], [1], [2]]
