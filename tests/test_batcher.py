"""`Batcher` as its users see it: items in, results out, the handler, pausing, leaving the `with` block."""

import math
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from batcher import Batcher, BatcherClosedError, ItemTooHeavyError, QueueFullError, ReentrantCallError
from batcher.testing import FakeClock, RecordingHandler, inline
from tests import stage
from tests.stage import PATIENCE, Maker, elsewhere

clock, make = stage.clock, stage.make


def double(items: list[int]) -> list[int]:
    """Answer each number with its double."""
    return [2 * item for item in items]


# Items in, results out


def test_add_returns_each_its_own_result(make: Maker) -> None:
    """Many threads add at once; each gets the result of its own item."""
    batcher = make(double, max_delay=0.001)

    def ask(number: int) -> int:
        answer: int = batcher.add(number).result(PATIENCE)
        return answer

    calls = [elsewhere(ask, number) for number in range(40)]

    assert [call.result(PATIENCE) for call in calls] == [2 * number for number in range(40)]
    assert batcher.status().accepted == 40


def test_put_makes_no_future(make: Maker) -> None:
    """Put returns None, and the item reaches the handler."""
    handler = RecordingHandler()
    batcher = make(handler, max_delay=None)

    assert batcher.put("a reading") is None  # type: ignore[func-returns-value]
    batcher.flush()

    assert handler.batches == [["a reading"]]


def test_add_many_keeps_the_order(make: Maker) -> None:
    """The futures come in the order of the items, and so do the items to the handler."""
    handler = RecordingHandler(double)
    batcher = make(handler, max_batch_size=4, max_delay=None)

    futures = batcher.add_many(range(10))
    batcher.flush()

    assert [future.result(0) for future in futures] == [2 * number for number in range(10)]
    assert handler.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_add_many_of_nothing(make: Maker) -> None:
    """No items, no futures, no thread; wrong arguments are refused all the same."""
    batcher = make(double)

    assert batcher.add_many([]) == []
    assert batcher._line.post is None
    with pytest.raises(ValueError, match="block_timeout"):
        batcher.add_many([], block_timeout=-1)


@pytest.mark.parametrize("argument", ["timeout", "block_timeout"])
@pytest.mark.parametrize("value", [math.nan, -1, "1", True], ids=["nan", "negative", "str", "bool"])
def test_wrong_seconds_are_refused_by_add(make: Maker, clock: FakeClock, argument: str, value: Any) -> None:
    """Add, put and add_many refuse seconds that are none, on their quick way too, and accept nothing."""
    batcher = make(double, max_delay=None)
    batcher.put(0)  # from here on an add is quick
    clock.wait_for_sleepers(1)

    with pytest.raises((TypeError, ValueError), match=argument):
        batcher.add(1, **{argument: value})
    with pytest.raises((TypeError, ValueError), match=argument):
        batcher.add_many([1, 2], **{argument: value})
    if argument == "block_timeout":
        with pytest.raises((TypeError, ValueError), match=argument):
            batcher.put(1, **{argument: value})

    assert batcher.status().accepted == 1


def test_error_of_a_key_refuses_the_item(make: Maker) -> None:
    """What `batch_key` raises, and a key that can't be hashed, reach the caller of add; nothing is accepted."""
    batcher = make(double, batch_key=lambda item: item["key"])

    with pytest.raises(KeyError):
        batcher.add({})
    with pytest.raises(TypeError, match="unhashable"):
        batcher.put({"key": []})
    with pytest.raises(KeyError):
        batcher.add_many([{"key": 1}, {}])

    assert batcher.status().accepted == 0


@pytest.mark.parametrize("weight", [math.nan, math.inf, -1, "3", True], ids=["nan", "inf", "negative", "str", "bool"])
def test_a_weight_that_is_none_refuses_the_item(make: Maker, weight: Any) -> None:
    """What `weigh` returns must be a finite number of 0 or more; else add raises, and nothing is accepted."""
    batcher = make(double, weigh=lambda _: weight)

    with pytest.raises((TypeError, ValueError), match="weigh"):
        batcher.add(1)

    assert batcher.status().accepted == 0


@pytest.mark.parametrize("limit", ["max_batch_weight", "max_pending_weight"])
def test_too_heavy_item_is_refused(make: Maker, limit: str) -> None:
    """An item that alone is above a weight limit is refused; one that just reaches it is not."""
    batcher = make(double, weigh=lambda item: item, max_delay=0, **{limit: 10})

    with pytest.raises(ItemTooHeavyError, match=f"11.*{limit} is 10"):
        batcher.add(11)

    assert batcher.add(10).result(PATIENCE) == 20


# The handler


def test_items_wait_for_a_handler(make: Maker, clock: FakeClock) -> None:
    """Items that were added before there is a handler wait for it."""
    batcher = make(max_batch_size=1, max_delay=0)
    future = batcher.add(4)
    clock.wait_for_sleepers(1)

    assert not future.done()
    assert batcher.register_handler(double) is double
    assert future.result(PATIENCE) == 8


def test_register_handler_is_a_decorator_and_replaces(make: Maker) -> None:
    """`register_handler` decorates a function and leaves it as it is; a later one serves the batches to come."""
    batcher = make(double, max_delay=0)
    assert batcher.add(4).result(PATIENCE) == 8

    @batcher.register_handler
    def triple(items: list[int]) -> list[int]:
        return [3 * item for item in items]

    assert triple([1]) == [3]
    assert batcher.add(4).result(PATIENCE) == 12


@pytest.mark.parametrize("handler", [None, 3, "name"])
def test_register_handler_refuses_what_is_none(make: Maker, handler: Any) -> None:
    """Only a callable can be registered, and what came is shown."""
    with pytest.raises(TypeError, match=f"handler must be callable, got {handler!r}"):
        make().register_handler(handler)


def test_inline_register_handler_sends_what_waits(make: Maker) -> None:
    """In the inline mode, where no thread would see to it, registering sends what waits."""
    with inline():
        batcher = make()
        future = batcher.add(4)
        batcher.register_handler(double)

        assert future.result(0) == 8


# Pause and resume


def test_pause_stops_all_triggers(make: Maker, clock: FakeClock) -> None:
    """While paused neither size nor delay nor a full queue sends; resuming does at once."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=2, max_delay=1.0, max_pending=4, overflow="raise")
    batcher.pause()

    batcher.add_many(range(4))
    clock.advance(10.0)
    clock.wait_for_sleepers(1)

    assert batcher.status().state == "paused"
    assert handler.batches == []
    with pytest.raises(QueueFullError):
        batcher.put(4)
    batcher.resume()
    handler.wait_for_batches(2)
    assert handler.batches == [[0, 1], [2, 3]]
    assert batcher.status().state == "open"


def test_flush_sends_while_paused(make: Maker, clock: FakeClock) -> None:
    """A flush sends what came before it, although paused; what comes after waits on."""
    handler = RecordingHandler()
    batcher = make(handler, max_batch_size=2, max_delay=0)
    batcher.pause()
    batcher.add_many(range(3))

    assert batcher.flush().succeeded == 3
    batcher.put(3)
    clock.wait_for_sleepers(1)

    assert handler.batches == [[0, 1], [2]]
    assert batcher.status().pending == 1


def test_deadlines_run_on_while_paused(make: Maker, clock: FakeClock) -> None:
    """An item's own deadline passes although the batcher is paused."""
    batcher = make(double)
    batcher.pause()
    future = batcher.add(1, timeout=2.0)

    clock.advance(2.0)

    with pytest.raises(TimeoutError, match="timeout passed"):
        future.result(PATIENCE)


# Context manager and re-entry


def test_context_manager_drains() -> None:
    """Leaving the `with` block sends what waits, also when an exception leaves it."""
    handler: Any = RecordingHandler(double)

    def leave() -> None:
        with batcher:
            futures.append(batcher.add(4))
            raise KeyError

    batcher: Batcher[int, int] = Batcher(handler, max_delay=None)
    futures: list[Future[int]] = []
    with pytest.raises(KeyError):
        leave()

    (future,) = futures
    assert future.result(0) == 8
    with pytest.raises(BatcherClosedError):
        batcher.add(5)


@pytest.mark.parametrize("call", ["flush", "close"])
def test_waiting_calls_in_a_handler_are_refused(make: Maker, call: str) -> None:
    """A handler that flushes or closes its own batcher gets a named error at once."""
    batcher = make(max_delay=0)
    batcher.register_handler(lambda items: [getattr(batcher, call)() for _ in items])

    with pytest.raises(ReentrantCallError, match=rf"{call}\(\)"):
        batcher.add(1).result(PATIENCE)


def test_cancelled_item_raises_at_its_caller(make: Maker) -> None:
    """A cancelled item never reaches the handler; its caller gets CancelledError, its neighbours their results."""
    handler = RecordingHandler(double)
    batcher = make(handler, max_delay=None)
    futures = batcher.add_many(range(4))

    assert futures[1].cancel()
    batcher.flush()

    assert handler.batches == [[0, 2, 3]]
    with pytest.raises(CancelledError):
        futures[1].result(0)
    assert [futures[n].result(0) for n in (0, 2, 3)] == [0, 4, 6]
