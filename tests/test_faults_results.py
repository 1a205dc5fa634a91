"""Faults that trusted systems had: results, errors, what they keep alive and show; numbered by the project's list."""

import gc
import itertools
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from batcher import BatchError, ResultShapeError
from batcher.testing import FakeClock
from tests import stage
from tests.stage import PATIENCE, Maker, elsewhere, endings

clock, make = stage.clock, stage.make


async def answer_later() -> list[int]:
    """Be a handler that somebody made asynchronous."""
    return [1, 2]


SHAPES: dict[str, tuple[Callable[[], Any], str]] = {
    "shorter": (lambda: [1], "a list of length 1"),
    "longer": (lambda: (1, 2, 3), "a tuple of length 3"),
    "empty": (list, "a list of length 0"),
    "str": (lambda: "ab", "a str"),
    "bytes": (lambda: b"ab", "a bytes"),
    "bytearray": (lambda: bytearray(b"ab"), "a bytearray"),
    "set": (lambda: {1, 2}, "a set"),
    "generator": (lambda: (item for item in (1, 2)), "a generator"),
    "iterator": (lambda: iter([1, 2]), "a list_iterator"),
    "coroutine": (answer_later, "a coroutine"),
    "int": (lambda: 2, "a int"),
    "no-indexing": ({1: 1, 2: 2}.keys, "a dict_keys"),
}


@pytest.mark.parametrize(("answer", "received"), SHAPES.values(), ids=SHAPES)
def test_row_23_answers_of_another_shape(make: Maker, answer: Callable[[], Any], received: str) -> None:
    """An answer that can't be matched fails every item with a named error: what was expected, and what came."""
    batcher = make(lambda _: answer(), max_delay=None)

    futures = batcher.add_many(["a", "b"])
    batcher.flush()

    for future in futures:
        with pytest.raises(ResultShapeError, match=f"expected 2 results, got {received}"):
            future.result(0)
    assert endings(batcher.status()) == {"failed": 2}


def test_row_29_tracebacks_stay_short(make: Maker) -> None:
    """However many callers raise a batch's error, however often, each one's traceback stays as long as the first."""

    def handle(_: list[int]) -> None:
        raise ValueError("one for all")

    batcher = make(handle, max_batch_size=1000, max_delay=None)
    futures = batcher.add_many(range(1000))
    batcher.flush()

    depths = set()
    for future in itertools.chain(futures, futures, futures[:1] * 50):
        try:
            future.result(0)
        except ValueError as error:
            depths.add(len(traceback.extract_tb(error.__traceback__)))

    assert len(depths) == 1
    assert max(depths) <= 4


class Payload:
    """An item, or a result, that can be watched."""


def fail_with(items: list[Payload]) -> None:
    """Fail, with the items in a local variable of a deeper frame."""
    held = list(items)
    raise ValueError(len(held))


WAYS: dict[str, dict[str, Any]] = {
    "flusher": {},
    "worker": {"max_concurrent": 2},
    "keyed": {"batch_key": lambda _: "key"},
    "weighed": {"weigh": lambda _: 1},
    "timed": {"handler_timeout": 60.0},
}


@pytest.mark.parametrize("handler", [lambda _: None, fail_with], ids=["succeeds", "fails"])
@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_row_30_payloads_are_freed(
    make: Maker, clock: FakeClock, handler: Callable[[list[Any]], None], options: dict[str, Any]
) -> None:
    """Once a batch is settled nothing keeps its items, with the collector off: no future, error, or idle thread."""
    batcher = make(handler, max_delay=None, **options)
    items = [Payload() for _ in range(3)]
    watches = [weakref.ref(item) for item in items]
    gc.disable()
    try:
        futures = batcher.add_many(items[:2])
        batcher.put(items.pop())
        items.clear()
        batcher.flush()
        errors = [future.exception(0) for future in futures]
        clock.wait_for_sleepers(1)
        idle = elsewhere(lambda: None)  # a thread switch: a worker has let go when it is idle
        idle.result(PATIENCE)

        assert [type(error) for error in errors] == [ValueError if handler is fail_with else type(None)] * 2
        assert eventually_none(watches)
    finally:
        gc.enable()


def eventually_none(watches: list[weakref.ref[Payload]]) -> bool:
    """Say whether all watched objects are gone, or go as the threads that settled them become idle."""
    gone = threading.Event()
    for _ in range(200):
        if all(watch() is None for watch in watches):
            return True
        gone.wait(0.005)
    return False


def test_row_30_ended_items_are_freed(make: Maker, clock: FakeClock) -> None:
    """A cancelled, expired or dropped item is freed although its future is kept and its place not yet swept."""
    batcher = make(max_pending=4, overflow="drop_oldest", max_delay=None)
    items = [Payload() for _ in range(5)]
    watches = [weakref.ref(item) for item in items]
    gc.disable()
    try:
        futures = [batcher.add(item, timeout=1.0 if number == 3 else None) for number, item in enumerate(items[:4])]
        batcher.put(items[4])  # drops the oldest
        futures[1].cancel()
        clock.advance(1.0)
        futures[3].exception(PATIENCE)
        batcher.put("last")
        items.clear()

        assert eventually_none([watches[0], watches[1], watches[3]])
        assert watches[2]() is not None
        assert watches[4]() is not None
    finally:
        gc.enable()


def test_row_39_stop_iteration(make: Maker) -> None:
    """A handler's StopIteration, raised or returned, becomes a RuntimeError caused by it: no loop ends silently."""

    def handle(items: list[int]) -> list[Any]:
        if 0 in items:
            raise StopIteration("raised")
        return [StopIteration("returned") for _ in items]

    batcher = make(handle, max_batch_size=2, max_delay=0)

    for future in batcher.add_many([0, 1, 2, 3]):
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            _ = {*(future.result(PATIENCE) for _ in range(2))}
        assert isinstance(caught.value.__cause__ or caught.value.__context__, (StopIteration, RuntimeError))
        assert isinstance(future.exception(0), RuntimeError)
        assert isinstance(future.exception(0).__cause__, StopIteration)  # type: ignore[union-attr]


def test_row_39_errors_that_cannot_be_copied(make: Maker) -> None:
    """An exception that can't be copied for each caller comes wrapped, with itself as the cause."""

    class Uncopyable(Exception):  # noqa: N818 - the name says what it is
        """Needs more than its message to be made."""

        def __init__(self, code: int, *, reason: str) -> None:
            super().__init__(f"{code}: {reason}")

    def handle(_: list[int]) -> None:
        raise Uncopyable(7, reason="why")

    batcher = make(handle, max_delay=None)
    futures = batcher.add_many([1, 2])
    alone = make(handle, max_delay=0).add(1)
    batcher.flush()

    errors = [future.exception(0) for future in futures]
    assert [type(error) for error in errors] == [BatchError, BatchError]
    assert errors[0] is not errors[1]
    assert all(isinstance(error and error.__cause__, Uncopyable) for error in errors)
    assert isinstance(alone.exception(PATIENCE), Uncopyable)


def test_row_41_no_item_in_logs_and_reprs(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """Items, results and an error's text are in no log line and in no repr; control characters are escaped."""
    item = "s3cr3t\r\n\x1b[31m"

    class SecretError(Exception):
        """Carries the item in its text."""

    def handle(items: list[str]) -> list[Any]:
        if len(items) == 1:
            raise SecretError(*items)
        return [item, SecretError(item)]

    def hook(*_: object) -> None:
        raise SecretError(item)

    batcher = make(handle, max_batch_size=2, max_delay=None, on_batch=hook, name="evil\r\n\x1b[31mname")
    futures = batcher.add_many([item, item])
    batcher.flush()
    futures += [batcher.add(item)]
    futures[-1].add_done_callback(hook)
    shown = [repr(future) for future in futures] + [repr(batcher), repr(batcher.status())]
    batcher.put(item)
    shown.append(repr(batcher.flush()))
    with pytest.raises(ValueError, match="must be") as caught:
        make(weigh=lambda _: float("nan")).add(item)
    shown.append(str(caught.value))
    batcher.close()
    lines = [record.getMessage() for record in caplog.records]

    assert len(lines) >= 3
    for line in (*lines, *shown):
        assert "s3cr3t" not in line
        assert not any(character in line for character in "\r\n\x1b")
