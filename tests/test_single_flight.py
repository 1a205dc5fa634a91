"""Single-flight: items of equal keys that are under way share one place, and each caller keeps its own future."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from batcher import (
    Batcher,
    HandlerTimeoutError,
    ItemTimeoutError,
    MissingResultError,
    QueueFullError,
    ReentrantCallError,
    Retry,
)
from batcher._flights import Flights
from batcher._group import Ticket
from batcher.testing import FakeClock, RecordingHandler, inline
from tests import stage
from tests.forks import FORKS, in_child
from tests.stage import PATIENCE, HeldHandler, Maker, adds_up, endings

if TYPE_CHECKING:
    from collections.abc import Callable

clock, make = stage.clock, stage.make

STEADY = Retry(attempts=3, delay=1.0, jitter="none")


def places(batcher: Batcher[Any, Any]) -> int:
    """Return how many dedup keys take a place."""
    flights = batcher._line.flights
    assert flights is not None
    return len(flights._places)


def counts(batcher: Batcher[Any, Any]) -> tuple[int, int, int, int]:
    """Return how many items entered, shared a place, wait, and are in a handler; all items are somewhere."""
    status = batcher.status()
    assert adds_up(status)
    return status.accepted, status.deduplicated, status.pending, status.processing


def negate(items: list[int]) -> list[int]:
    """Give each item a result of its own."""
    return [-item for item in items]


class Moody:
    """A key that equals another one of its name, until its equality or its hash is told to raise."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: BaseException | None = None
        self.raises_hash = False

    def __hash__(self) -> int:
        if self.raises_hash:
            raise ArithmeticError("no hash today")
        return 1

    def __eq__(self, other: object) -> bool:
        if self.error is not None:
            raise self.error
        return isinstance(other, Moody) and self.name == other.name


# Who shares


def test_equal_keys_share_while_they_wait(make: Maker, clock: FakeClock) -> None:
    """The handler gets the first item of a key once; the others of the key get the same result."""
    handler = RecordingHandler(lambda items: [[item] for item in items])
    batcher = make(handler, max_delay=None, dedup_key=str.lower)

    futures = [batcher.add(item) for item in ("a", "b", "A", "B", "a")]
    assert counts(batcher) == (5, 3, 5, 0)
    batcher.flush()

    results = [future.result(0) for future in futures]
    assert handler.batches == [["a", "b"]]
    assert results == [["a"], ["b"], ["a"], ["b"], ["a"]]
    assert results[0] is results[2] is results[4]
    assert len({id(future) for future in futures}) == 5
    status = batcher.status()
    assert (status.succeeded, status.processed, status.deduplicated) == (5, 5, 3)
    assert (status.batches, status.average_batch_size) == (1, 2.0)
    assert places(batcher) == 0


def test_true_takes_the_item_itself(make: Maker) -> None:
    """`dedup_key=True` shares equal items."""
    handler = RecordingHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=True)
    futures = [batcher.add(item) for item in (1, 2, 1)]
    batcher.flush()

    assert handler.batches == [[1, 2]]
    assert [future.result(0) for future in futures] == [-1, -2, -1]


def test_equal_keys_share_while_in_the_handler(make: Maker) -> None:
    """An item whose key is in a handler gets that call's result; it is running, and can't be cancelled."""
    handler = HeldHandler(negate)
    batcher = make(handler, max_batch_size=1, dedup_key=True)
    first = batcher.add(7)
    handler.wait_for_batches(1)

    second = batcher.add(7)
    assert counts(batcher) == (2, 1, 0, 2)
    assert second.running()
    assert not second.cancel()
    handler.let_go()

    assert first.result(PATIENCE) == second.result(PATIENCE) == -7
    assert handler.batches == [[7]]
    assert batcher.add(7).result(PATIENCE) == -7
    assert handler.batches == [[7], [7]]


def test_equal_keys_share_while_held_for_a_retry(make: Maker, clock: FakeClock) -> None:
    """An item whose key waits for its next attempt shares that; it counts as pending, and its future runs."""
    handler = RecordingHandler(lambda items: [OSError()] if len(handler.batches) == 1 else negate(items))
    batcher = make(handler, max_batch_size=1, dedup_key=True, retry=STEADY)
    first = batcher.add(7)
    clock.wait_for_sleepers(1)

    second = batcher.add(7)
    assert counts(batcher) == (2, 1, 2, 0)
    assert second.running()
    assert not second.cancel()
    clock.advance(1.0)

    assert first.result(PATIENCE) == second.result(PATIENCE) == -7
    assert handler.batches == [[7], [7]]
    assert batcher.status().retried == 1


def test_equal_keys_share_a_part_of_a_split_batch(make: Maker) -> None:
    """While the first half of a split batch is in the handler, an item can join one of the second half."""
    added: list[Any] = []

    def fail_together(items: list[int]) -> list[int]:
        if items == [1]:
            added.append(batcher.add(2))
        if len(items) > 1:
            raise OSError
        return negate(items)

    handler = RecordingHandler(fail_together)
    batcher = make(handler, max_batch_size=2, dedup_key=True, split_failed=True)
    futures = batcher.add_many([1, 2])

    assert [future.result(PATIENCE) for future in futures] == [-1, -2]
    assert added[0].result(PATIENCE) == -2
    assert handler.batches == [[1, 2], [1], [2]]
    assert counts(batcher) == (3, 1, 0, 0)


def test_add_many_shares_within_itself(make: Maker, clock: FakeClock) -> None:
    """Equal keys among the items of one call share a place as well."""
    handler = RecordingHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=True)

    futures = batcher.add_many([1, 2, 1, 1])
    assert counts(batcher) == (4, 2, 4, 0)
    batcher.flush()

    assert [future.result(0) for future in futures] == [-1, -2, -1, -1]
    assert handler.batches == [[1, 2]]


def test_put_shares(make: Maker, clock: FakeClock) -> None:
    """A `put` shares with futures, and futures with a `put`."""
    handler = RecordingHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=True)
    batcher.put(1)
    first = batcher.add(1)
    second = batcher.add(2)
    batcher.put(2)

    assert counts(batcher) == (4, 2, 4, 0)
    assert batcher.flush().succeeded == 4
    assert (first.result(0), second.result(0)) == (-1, -2)
    assert handler.batches == [[1, 2]]


def test_none_is_shared_with_nobody(make: Maker, clock: FakeClock) -> None:
    """Items whose key is None each have a place of their own."""
    handler = RecordingHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=lambda item: None)

    futures = [batcher.add(7), batcher.add(7), *batcher.add_many([7, 7])]
    batcher.flush()

    assert handler.batches == [[7, 7, 7, 7]]
    assert [future.result(0) for future in futures] == [-7] * 4
    assert batcher.status().deduplicated == 0


def test_items_of_different_batch_keys_share(make: Maker, clock: FakeClock) -> None:
    """The dedup key alone decides: an item goes with the first one of its key, whatever its own batch key."""
    handler = RecordingHandler(lambda items: [user for user, _ in items])
    batcher = make(handler, max_delay=None, batch_key=lambda item: item[0], dedup_key=lambda item: item[1])

    futures = [batcher.add(item) for item in (("ann", "page"), ("bob", "page"), ("bob", "other"))]
    batcher.flush()

    assert [future.result(0) for future in futures] == ["ann", "ann", "bob"]
    assert handler.batches == [[("ann", "page")], [("bob", "other")]]


def test_mapping_is_looked_up_by_the_key(make: Maker, clock: FakeClock) -> None:
    """The mapping that a handler returns has dedup keys; for an item whose key is None it has the item."""
    batcher = make(
        lambda items: {"a": 1, "X": 2}, max_delay=None, dedup_key=lambda item: None if item == "X" else item.lower()
    )
    futures = [batcher.add(item) for item in ("A", "a", "X", "b", "B")]
    batcher.flush()

    assert [future.result(0) for future in futures[:3]] == [1, 1, 2]
    for future in futures[3:]:
        with pytest.raises(MissingResultError):
            future.result(0)


def test_everything_at_once(make: Maker, clock: FakeClock) -> None:
    """Batch key, weight, priority and dedup key together: a follower neither weighs nor moves its place."""
    handler = RecordingHandler(lambda items: [item.upper() for item in items])
    batcher = make(
        handler,
        max_delay=None,
        batch_key=lambda item: item[0],
        weigh=lambda item: 2.0,
        max_batch_weight=4.0,
        dedup_key=lambda item: item[:2],
    )
    batcher.pause()
    futures = [batcher.add(item) for item in ("a1", "a2", "a1 again", "a3", "b1")]
    futures.append(batcher.add("a3 once more", priority=9))
    futures.append(batcher.add("a4", priority=5))
    batcher.flush()

    assert handler.batches == [["a4", "a1"], ["b1"], ["a2", "a3"]]
    assert [future.result(0) for future in futures] == ["A1", "A2", "A1", "A3", "B1", "A3", "A4"]
    assert counts(batcher) == (7, 2, 0, 0)


# Keys that can't be had


@pytest.mark.parametrize("add", [Batcher.add, Batcher.put, lambda batcher, item: batcher.add_many([item])])
@pytest.mark.parametrize("key", [lambda item: 1 // 0, lambda item: [item]], ids=["raises", "unhashable"])
def test_key_that_can_not_be_had_refuses_the_item(
    make: Maker, add: Callable[[Batcher[Any, Any], object], object], key: Callable[[object], object]
) -> None:
    """What the key function, or the key's hash, raises comes out of the add; nothing was accepted."""
    batcher = make(dedup_key=key)

    with pytest.raises((ZeroDivisionError, TypeError)):
        add(batcher, "item")

    assert batcher.status().accepted == 0


def test_equality_that_raises_refuses_the_item(make: Maker, clock: FakeClock) -> None:
    """If the key's equality raises, the add does, and nothing of it was accepted; earlier items go on."""
    handler = RecordingHandler()
    batcher = make(handler, max_delay=None, dedup_key=True)
    key, twin = Moody("a"), Moody("a")
    future = batcher.add(key)
    key.error = ArithmeticError("no equality today")

    for call in (lambda: batcher.add(twin), lambda: batcher.put(twin), lambda: batcher.add_many(["fine", twin])):
        with pytest.raises(ArithmeticError):
            call()
    assert counts(batcher) == (1, 0, 1, 0)
    key.error = None
    batcher.flush()

    assert future.done()
    assert handler.batches == [[key]]


def test_equality_that_raises_among_new_items_refuses_them_all(make: Maker, clock: FakeClock) -> None:
    """`add_many` of two keys that can't be compared accepts neither, nor what stands before them."""
    batcher = make(RecordingHandler(), max_delay=None, dedup_key=True)
    key, twin = Moody("a"), Moody("a")
    key.error = twin.error = ArithmeticError("no equality today")

    with pytest.raises(ArithmeticError):
        batcher.add_many(["fine", key, twin])

    assert counts(batcher) == (0, 0, 0, 0)
    assert places(batcher) == 0


def test_batch_key_that_can_not_be_compared_refuses_them_all(make: Maker, clock: FakeClock) -> None:
    """The same holds where the batch key's equality raises: nothing has entered before it was asked."""
    batcher = make(RecordingHandler(), max_delay=None, dedup_key=lambda item: item[1], batch_key=lambda item: item[0])
    key, twin = Moody("a"), Moody("a")
    key.error = twin.error = ArithmeticError("no equality today")

    with pytest.raises(ArithmeticError):
        batcher.add_many([("fine", 1), (key, 2), (twin, 3)])

    assert counts(batcher) == (0, 0, 0, 0)


@pytest.mark.parametrize("error", [ArithmeticError("no equality today"), SystemExit("no equality today")])
def test_place_that_can_not_be_freed_is_not_shared(make: Maker, clock: FakeClock, error: BaseException) -> None:
    """A key that can't be compared as its batch ends harms nobody: the next item of the key has a place of its own."""
    handler = RecordingHandler()
    batcher = make(handler, max_delay=None, dedup_key=True)
    # Equal hashes: to find the second, the first is compared with it. It is settled before that one is gone.
    first, second = Moody("a"), Moody("b")
    futures = [batcher.add(first), batcher.add(second, priority=1)]
    first.error = second.error = error
    assert batcher.flush().succeeded == 2
    assert places(batcher) == 1
    first.error = second.error = None

    again = [batcher.add(Moody("b")), batcher.add(Moody("b"))]
    assert batcher.flush().succeeded == 2

    assert all(future.done() for future in futures + again)
    assert counts(batcher) == (4, 1, 0, 0)


def test_place_that_can_not_be_taken_is_not_shared() -> None:
    """An item that has entered stays, whatever its key does then; it is shared with nobody."""
    flights = Flights()
    key = Moody("a")
    ticket = Ticket(None)
    ticket.share(Ticket("item"), key)
    key.raises_hash = True

    flights.take(ticket)
    flights.free(ticket)

    assert flights._places == {}


# Row 35: each caller for itself


def test_row_35_cancel_of_the_leader_takes_no_one_along(make: Maker, clock: FakeClock) -> None:
    """The caller who came first cancels; the handler gets the next one's item, and the others their results."""
    handler = RecordingHandler(lambda items: [item.lower() for item in items])
    batcher = make(handler, max_delay=None, dedup_key=str.lower)
    leader, second, third = (batcher.add(item) for item in ("KEY", "Key", "kEY"))

    assert leader.cancel()
    assert counts(batcher) == (3, 2, 2, 0)
    batcher.flush()

    assert leader.cancelled()
    assert (second.result(0), third.result(0)) == ("key", "key")
    assert handler.batches == [["Key"]]
    assert endings(batcher.status()) == {"succeeded": 2, "cancelled": 1}


def test_row_35_expiry_of_the_leader_takes_no_one_along(make: Maker, clock: FakeClock) -> None:
    """The timeout of the caller who came first is its own: the others wait on."""
    batcher = make(negate, max_delay=5.0, adaptive=False, dedup_key=True)
    leader, follower = batcher.add(7, timeout=1.0), batcher.add(7)
    clock.wait_for_sleepers(1)

    clock.advance(1.0)
    with pytest.raises(ItemTimeoutError):
        leader.result(PATIENCE)
    assert counts(batcher) == (2, 1, 1, 0)
    clock.advance(4.0)

    assert follower.result(PATIENCE) == -7


@pytest.mark.parametrize("is_leader", [True, False], ids=["leader", "follower"])
def test_row_35_expiry_in_the_handler_takes_no_one_along(make: Maker, clock: FakeClock, *, is_leader: bool) -> None:
    """One of two who share a place gives up while the handler has it; the other gets the result."""
    handler = HeldHandler(negate)
    batcher = make(handler, max_batch_size=1, dedup_key=True)
    first = batcher.add(7, timeout=1.0 if is_leader else None)
    handler.wait_for_batches(1)
    second = batcher.add(7, timeout=None if is_leader else 1.0)
    hasty, patient = (first, second) if is_leader else (second, first)
    clock.wait_for_sleepers(1)

    clock.advance(1.0)
    with pytest.raises(ItemTimeoutError):
        hasty.result(PATIENCE)
    assert counts(batcher) == (2, 1, 0, 1)
    handler.let_go()

    assert patient.result(PATIENCE) == -7
    assert batcher.flush(PATIENCE).pending == 0
    assert endings(batcher.status()) == {"succeeded": 1, "expired": 1}


def test_row_35_error_reaches_all_and_is_forgotten(make: Maker, clock: FakeClock) -> None:
    """An item's error is everybody's who shared it, an own object each; the next one of the key is tried anew."""
    answers: list[Any] = [[ValueError("bad")], ["good"]]
    batcher = make(lambda items: answers.pop(0), max_delay=None, dedup_key=True)
    futures = [batcher.add("item") for _ in range(3)]
    batcher.flush()

    errors = [future.exception(0) for future in futures]
    assert [str(error) for error in errors] == ["bad"] * 3
    assert len({id(error) for error in errors}) == 3
    again = batcher.add("item")
    batcher.flush()
    assert again.result(0) == "good"


def test_row_35_failure_of_a_batch_reaches_all(make: Maker, clock: FakeClock) -> None:
    """A handler that raises fails all who shared a place, and `on_error` hears of each one's own item."""
    told: list[list[str]] = []

    def fail(items: list[str]) -> NoReturn:
        raise OSError("down")

    batcher = make(fail, max_delay=None, dedup_key=str.lower, on_error=lambda error, items: told.append(items))
    futures = [batcher.add(item) for item in ("a", "A", "b")]
    report = batcher.flush()

    errors = [future.exception(0) for future in futures]
    assert [type(error) for error in errors] == [OSError] * 3
    assert len({id(error) for error in errors}) == 3
    assert told == [["a", "A", "b"]]
    assert (report.failed, report.pending) == (3, 0)


def test_last_cancel_frees_the_place(make: Maker, clock: FakeClock) -> None:
    """When the last caller has cancelled, the handler gets nothing, and the next one of the key starts anew."""
    handler = RecordingHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=True)
    futures = [batcher.add(7) for _ in range(3)]

    assert all(future.cancel() for future in (futures[1], futures[0], futures[2]))
    assert counts(batcher) == (3, 2, 0, 0)
    assert places(batcher) == 0
    assert batcher.flush().cancelled == 0
    again = batcher.add(7)
    batcher.flush()

    assert again.result(0) == -7
    assert handler.batches == [[7]]
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(0)


def test_last_expiry_in_the_handler_frees_the_place(make: Maker, clock: FakeClock) -> None:
    """When all who share a running place have given up, the next one of the key has a call of its own."""
    handler = HeldHandler(negate)
    batcher = make(handler, max_batch_size=1, dedup_key=True, max_concurrent=2)
    futures = [batcher.add(7, timeout=1.0)]
    handler.wait_for_batches(1)
    futures.append(batcher.add(7, timeout=1.0))
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    for future in futures:
        with pytest.raises(ItemTimeoutError):
            future.result(PATIENCE)
    assert counts(batcher) == (2, 1, 0, 0)

    again = batcher.add(7)
    handler.wait_for_batches(2)
    handler.let_go()

    assert again.result(PATIENCE) == -7
    assert endings(batcher.status()) == {"succeeded": 1, "expired": 2}


def test_expiry_while_held_for_a_retry(make: Maker, clock: FakeClock) -> None:
    """Who gives up while the place waits for its next attempt leaves; when all have, there is no next attempt."""
    handler = RecordingHandler(lambda items: [OSError()] * len(items))
    batcher = make(handler, max_batch_size=2, dedup_key=True, retry=Retry(attempts=None, delay=9.0, jitter="none"))
    first, second, other = batcher.add(1, timeout=1.0), batcher.add(1, timeout=2.0), batcher.add(2, timeout=3.0)
    clock.wait_for_sleepers(1)

    for gone, future in enumerate((first, second, other), start=1):
        clock.advance(1.0)
        with pytest.raises(ItemTimeoutError):
            future.result(PATIENCE)
        assert counts(batcher) == (3, 1, 3 - gone, 0)
    clock.wait_for_sleepers(1)
    clock.advance(9.0)
    report = batcher.flush(PATIENCE)

    assert report.pending == 0
    assert handler.batches == [[1, 2]]
    assert endings(batcher.status()) == {"expired": 3}
    assert places(batcher) == 0


def test_handler_timeout_fails_all(make: Maker, clock: FakeClock) -> None:
    """A call that takes too long fails everybody who shares its places, and frees those."""
    handler = HeldHandler(negate)
    batcher = make(handler, max_batch_size=1, dedup_key=True, handler_timeout=1.0)
    futures = [batcher.add(7)]
    handler.wait_for_batches(1)
    futures.append(batcher.add(7))
    clock.wait_for_sleepers(1)
    clock.advance(1.0)

    for future in futures:
        with pytest.raises(HandlerTimeoutError):
            future.result(PATIENCE)
    assert places(batcher) == 0
    again = batcher.add(7)
    handler.wait_for_batches(2)
    handler.let_go()
    assert again.result(PATIENCE) == -7
    assert endings(batcher.status()) == {"succeeded": 1, "failed": 2}


def test_retry_of_a_given_up_call_keeps_them_together(make: Maker, clock: FakeClock) -> None:
    """A call that timed out is tried again for all who share a place, those who came meanwhile as well."""
    handler = HeldHandler(negate)
    batcher = make(handler, max_batch_size=1, dedup_key=True, handler_timeout=1.0, retry=STEADY)
    futures = [batcher.add(7)]
    handler.wait_for_batches(1)
    futures.append(batcher.add(7))
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    clock.wait_for_sleepers(1)
    futures.append(batcher.add(7))
    assert counts(batcher) == (3, 2, 3, 0)
    clock.advance(1.0)
    handler.wait_for_batches(2)
    handler.let_go()

    assert [future.result(PATIENCE) for future in futures] == [-7] * 3


def test_retries_end_for_all(make: Maker, clock: FakeClock) -> None:
    """After the last attempt everybody who shares the place fails, and only those."""

    def fail_odd(items: list[int]) -> list[Any]:
        return [OSError(item) if item % 2 else item for item in items]

    handler = RecordingHandler(fail_odd)
    batcher = make(handler, max_batch_size=2, dedup_key=True, retry=Retry(attempts=2, delay=1.0, jitter="none"))
    futures = batcher.add_many([1, 1, 2, 2])
    assert [future.result(PATIENCE) for future in futures[2:]] == [2, 2]
    clock.wait_for_sleepers(1)
    assert counts(batcher) == (4, 2, 2, 0)
    clock.advance(1.0)

    for future in futures[:2]:
        with pytest.raises(OSError, match="1"):
            future.result(PATIENCE)
    assert handler.batches == [[1, 2], [1]]


# Who waits for whom


def test_handler_that_would_wait_for_itself(make: Maker) -> None:
    """A handler that adds an item of a key that it has itself can't wait for the result: a named error, at once."""
    errors: list[BaseException] = []

    def recurse(items: list[int]) -> list[int]:
        try:
            batcher.add(items[0]).result(PATIENCE)
        except ReentrantCallError as error:
            errors.append(error)
        return items

    batcher = make(recurse, max_batch_size=1, dedup_key=True, max_concurrent=2)

    assert batcher.add(7).result(PATIENCE) == 7
    assert [type(error) for error in errors] == [ReentrantCallError]


def test_inline_handlers_share(make: Maker) -> None:
    """In the inline mode equal items of one call share a place."""
    handler = RecordingHandler(negate)
    with inline():
        batcher = make(handler, dedup_key=True)
        assert [future.result(0) for future in batcher.add_many([1, 1, 2])] == [-1, -1, -2]
    assert handler.batches == [[1, 2]]


@pytest.mark.parametrize("fork", FORKS)
def test_fork_leaves_the_places_behind(make: Maker, fork: Callable[[], int]) -> None:
    """In a forked child an item shares nothing with those of the parent, whose futures fail there."""
    batcher = make(negate, max_delay=None, dedup_key=True)
    inherited = [batcher.add(7), batcher.add(7)]

    def look() -> tuple[list[str], int, int]:
        own = batcher.add(7)
        failures = [type(future.exception(PATIENCE)).__name__ for future in inherited]
        batcher.flush(PATIENCE)
        status = batcher.status()
        batcher.close(PATIENCE)
        return failures, own.result(PATIENCE), status.accepted

    assert in_child(look, fork) == (["ForkedError", "ForkedError"], -7, 1)
    batcher.flush()
    assert [future.result(0) for future in inherited] == [-7, -7]


class Payload:
    """An item that equals all others, and tells when it is gone."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Payload)


@pytest.mark.parametrize("ending", ["settled", "cancelled", "dropped"])
def test_items_are_let_go_of(make: Maker, ending: str) -> None:
    """Once it has ended, nothing refers to an item that shared a place, though its future is kept; no gc is needed."""
    handler = None if ending == "dropped" else (lambda items: None)
    batcher = make(handler, max_delay=None, dedup_key=True, max_pending=2, overflow="raise")
    gc.collect()
    gc.disable()
    try:
        items = [Payload(), Payload(), Payload()]
        refs = [weakref.ref(item) for item in items]
        futures = [batcher.add(item) for item in items[:2]]
        with pytest.raises(QueueFullError) as refusal:
            batcher.add(items[2])
        with pytest.raises(QueueFullError) as other_refusal:
            batcher.add_many(items[2:])
        del items, refusal, other_refusal
        assert [ref() is None for ref in refs] == [False, False, True]
        if ending == "cancelled":
            assert all(future.cancel() for future in futures)
        else:
            batcher.close()  # the handler's own list is gone then for certain
        assert all(future.done() for future in futures)
        assert [ref() for ref in refs] == [None] * 3
    finally:
        gc.enable()
