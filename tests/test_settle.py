"""How a batch ends: outcomes of every shape at the caller, and the hooks."""

import array
from collections import UserDict, UserList, deque
from typing import Any

import pytest

from batcher import BatcherClosedError, BatchRecord, MissingResultError
from batcher.testing import FakeClock
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, endings

clock, make = stage.clock, stage.make


# Outcomes


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, [None, None]),
        ([1, None], [1, None]),
        ((1, 2), [1, 2]),
        (array.array("i", [3, 4]), [3, 4]),
        (UserList([5, 6]), [5, 6]),
        (deque([7, 8]), [7, 8]),
        (range(2), [0, 1]),
        ({"b": 2, "a": 1, "c": 3}, [1, 2]),
        (UserDict(a=1, b=2), [1, 2]),
    ],
    ids=["none", "list", "tuple", "array", "userlist", "deque", "range", "dict", "mapping"],
)
def test_answers(make: Maker, answer: Any, expected: list[Any]) -> None:
    """None, a sequence in order, or a mapping by item: each caller gets its own."""
    batcher = make(lambda _: answer, max_delay=None)

    futures = batcher.add_many(["a", "b"])
    batcher.flush()

    assert [future.result(0) for future in futures] == expected


def test_missing_key_fails_that_item_alone(make: Maker) -> None:
    """A mapping that lacks an item fails it with MissingResultError; the others get theirs."""
    batcher = make(lambda _: {"a": 1}, max_delay=None)
    there, missing = batcher.add_many(["a", "b"])

    report = batcher.flush()

    assert there.result(0) == 1
    with pytest.raises(MissingResultError):
        missing.result(0)
    assert (report.succeeded, report.failed, report.complete) == (1, 1, False)


@pytest.mark.parametrize("answer", [[1, ValueError("bad")], {"a": 1, "b": ValueError("bad")}], ids=["list", "dict"])
def test_exception_as_a_result_fails_that_item_alone(make: Maker, answer: Any) -> None:
    """An Exception instance among the results, of a sequence or a mapping, fails that item alone."""
    batcher = make(lambda _: answer, max_delay=None)
    there, bad = batcher.add_many(["a", "b"])
    batcher.flush()

    assert there.result(0) == 1
    with pytest.raises(ValueError, match="bad"):
        bad.result(0)


def test_handler_s_list_is_its_own(make: Maker) -> None:
    """What a handler does to its list changes nothing: results still go by position."""

    def handle(items: list[int]) -> list[int]:
        results = [10 * item for item in items]
        items.clear()
        return results

    batcher = make(handler=handle, max_delay=None)
    futures = batcher.add_many([1, 2])
    batcher.flush()

    assert [future.result(0) for future in futures] == [10, 20]


def test_failed_batch_gives_each_caller_its_own_error(make: Maker) -> None:
    """A handler that raises fails each item with an error object of its own, of the handler's own type."""

    def handle(_: list[int]) -> None:
        raise KeyError("table") from OSError("the disk")

    batcher = make(handle, max_delay=None)
    futures = batcher.add_many([1, 2])
    batcher.flush()

    errors = [future.exception(0) for future in futures]
    assert [type(error) for error in errors] == [KeyError, KeyError]
    assert errors[0] is not errors[1]
    assert [str(error.__cause__) for error in errors if error is not None] == ["the disk", "the disk"]
    assert futures[0].exception(0) is errors[0]


# Hooks


def test_on_error_hears_once_of_each_call(make: Maker) -> None:
    """`on_error` is called once for each failed call: with the error, and with the items that failed."""
    heard: list[tuple[BaseException, list[Any]]] = []

    def handle(items: list[int]) -> list[Any]:
        if 0 in items:
            raise OSError("all of them")
        return [ValueError(item) if item % 2 else item for item in items]

    batcher = make(handle, max_batch_size=3, max_delay=None, on_error=lambda error, items: heard.append((error, items)))
    batcher.add_many([0, 1, 2])
    batcher.flush()
    batcher.add_many([4, 5, 6])
    batcher.flush()
    batcher.add_many([7, 8, 9])
    batcher.add_many([10, 12])
    batcher.close()

    assert [items for _, items in heard] == [[0, 1, 2], [5], [7, 9]]
    whole, single, several = (error for error, _ in heard)
    assert isinstance(whole, OSError)
    assert isinstance(single, ValueError)
    assert isinstance(several, ExceptionGroup)
    assert [error.args for error in several.exceptions] == [(7,), (9,)]


def test_on_error_hears_of_a_call_that_was_given_up(make: Maker, clock: FakeClock) -> None:
    """A handler timeout is one error of one call; what the handler does later is not another."""
    heard: list[tuple[str, list[Any]]] = []
    handler = HeldHandler(lambda _: 1 / 0)
    batcher = make(
        handler,
        max_delay=0,
        handler_timeout=1.0,
        on_error=lambda error, items: heard.append((type(error).__name__, items)),
    )
    batcher.put(1)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)

    clock.advance(1.0)
    batcher.flush()
    handler.let_go()
    batcher.close()

    assert heard == [("HandlerTimeoutError", [1])]


def test_on_batch_gets_a_record(make: Maker, clock: FakeClock) -> None:
    """`on_batch` is called once for each call, with what can be said about it."""
    records: list[BatchRecord] = []
    batcher = make(
        lambda items: [ValueError() if item == 3 else item for item in items],
        batch_key=lambda item: item % 2,
        weigh=lambda item: item,
        max_delay=2.0,
        on_batch=records.append,
    )
    batcher.add_many([1, 3])
    clock.wait_for_sleepers(1)
    clock.advance(2.0)
    batcher.flush()
    batcher.put(4)
    batcher.close()

    first, second = records
    assert (first.size, first.weight, first.key, first.waited, first.seconds) == (2, 4.0, 1, 2.0, 0.0)
    assert (first.succeeded, first.failed, first.expired) == (1, 1, 0)
    assert (second.size, second.weight, second.key, second.waited) == (1, 4.0, 0, 0.0)
    assert first.id != second.id


def test_on_batch_weight_is_the_number_of_items(make: Maker, clock: FakeClock) -> None:
    """Where nothing weighs the items, their number is the weight; items that expired in the handler are told."""
    records: list[BatchRecord] = []
    handler = HeldHandler()
    batcher = make(handler, max_batch_size=2, max_delay=None, on_batch=records.append)
    batcher.put(1)
    expiring = batcher.add(2, timeout=1.5)
    handler.wait_for_batches(1)
    clock.advance(1.5)
    expiring.exception(PATIENCE)
    handler.let_go()
    batcher.close()

    (record,) = records
    assert (record.size, record.weight, record.key, record.seconds) == (2, 2.0, None, 1.5)
    assert (record.succeeded, record.failed, record.expired) == (1, 0, 1)


@pytest.mark.parametrize("drain", [True, False])
def test_on_drop_hears_of_what_close_leaves(make: Maker, *, drain: bool) -> None:
    """`on_drop` hears of each item that close could not send; without draining, of those without a future to cancel."""
    heard: list[tuple[Any, type[BaseException]]] = []
    batcher = make(max_delay=None, on_drop=lambda item, error: heard.append((item, type(error))))
    future = batcher.add(1)
    batcher.put(2)

    report = batcher.close(drain=drain)

    assert heard == [(1, BatcherClosedError), (2, BatcherClosedError)][0 if drain else 1 :]
    assert future.cancelled() is not drain
    assert (report.dropped, report.cancelled) == ((2, 0) if drain else (1, 1))
    assert not report.complete


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, MemoryError])
def test_hooks_that_raise(make: Maker, caplog: pytest.LogCaptureFixture, kind: type[BaseException]) -> None:
    """A hook that raises, whatever it is, is logged and stops nothing: neither other hooks nor the flusher."""

    def fail(*_: object) -> None:
        raise kind("secret")

    batcher = make(
        lambda items: [ValueError() for _ in items],
        max_pending=1,
        overflow="drop_newest",
        max_delay=None,
        **dict.fromkeys(("on_error", "on_batch", "on_drop"), fail),
    )
    batcher.pause()
    first = batcher.add(1)
    second = stage.elsewhere(batcher.add, 2).result(PATIENCE)
    batcher.resume()

    assert isinstance(first.exception(PATIENCE), ValueError)
    assert second.done()
    assert stage.elsewhere(batcher.close).result(PATIENCE).pending == 0
    assert endings(batcher.status()) == {"failed": 1, "dropped": 1}
    for hook in ("on_error", "on_batch", "on_drop"):
        assert f"{hook} raised" in caplog.text
    assert "secret" not in caplog.text


def test_interrupt_in_a_hook_reaches_the_main_thread(make: Maker) -> None:
    """Ctrl-C in a hook that the main thread runs reaches the program; the item that it was about has ended."""
    interrupts = [KeyboardInterrupt()]

    def on_drop(*_: object) -> None:
        if interrupts:
            raise interrupts.pop()

    batcher = make(max_pending=1, overflow="drop_newest", max_delay=None, on_drop=on_drop)
    batcher.put(1)

    with pytest.raises(KeyboardInterrupt):
        batcher.put(2)

    assert endings(batcher.status()) == {"dropped": 1}
