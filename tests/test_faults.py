"""Faults that trusted systems had: user code that raises, cancels or waits; numbered by the project's list."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from batcher import Batcher, ReentrantCallError
from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, adds_up, elsewhere, endings, flusher_of, put_all

clock, make = stage.clock, stage.make


def echo(items: list[Any]) -> list[Any]:
    """Answer each item with itself."""
    return items


class OwnError(BaseException):
    """Outside all that `except Exception` catches."""


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, OwnError])
@pytest.mark.parametrize("options", [{}, {"max_concurrent": 2}], ids=["flusher", "worker"])
def test_row_05_handler_raises_anything(make: Maker, kind: type[BaseException], options: dict[str, Any]) -> None:
    """Whatever a handler raises fails its batch alone; the thread that ran it goes on."""

    def handle(items: list[int]) -> list[int]:
        if 0 in items:
            raise kind
        return items

    batcher = make(handle, max_batch_size=2, max_delay=0, **options)

    failed = batcher.add_many([0, 1])
    fine = batcher.add_many([2, 3])

    assert [type(future.exception(PATIENCE)) for future in failed] == [kind, kind]
    assert [future.result(PATIENCE) for future in fine] == [2, 3]
    assert flusher_of(batcher).is_alive()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, OwnError, ValueError])
def test_row_06_callback_raises_anything(
    make: Maker, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    """A done-callback that raises, whatever it is, strands nobody: the rest of the batch is settled and told."""
    told: list[int] = []

    def fail(_: object) -> None:
        raise kind("secret")

    batcher = make(echo, max_delay=None)
    futures = batcher.add_many(range(3))
    futures[0].add_done_callback(fail)
    for future in futures:
        future.add_done_callback(lambda done: told.append(done.result()))
    batcher.close()

    assert told == [0, 1, 2]
    assert "a done-callback raised" in caplog.text
    assert "secret" not in caplog.text


def test_row_07_cancel_while_the_handler_runs(make: Maker) -> None:
    """An item that a handler has can't be cancelled: the future says so, and everybody gets a result."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=2, max_delay=None)
    futures = batcher.add_many([0, 1])
    handler.wait_for_batches(1)

    assert not futures[0].cancel()
    assert futures[0].running()
    handler.let_go()

    assert [future.result(PATIENCE) for future in futures] == [0, 1]
    assert not futures[0].cancel()
    assert endings(batcher.status()) == {"succeeded": 2}


def test_row_07_cancel_as_the_batch_is_cut(make: Maker, clock: FakeClock) -> None:
    """A cancel that comes right before the batch is cut wins: the handler never sees the item."""
    handler = RecordingHandler(echo)
    batcher = make(handler, max_batch_size=3, max_delay=None)
    batcher.pause()
    futures = batcher.add_many(range(3))
    clock.wait_for_sleepers(1)
    queue = batcher._line.queue
    real = queue.cut

    def cancel_first(group: Any, now: float) -> Any:
        queue.cut = real  # type: ignore[method-assign]
        cancelling = elsewhere(futures[1].cancel)  # has to wait for the lock that is held here
        batch = real(group, now)
        cancellings.append(cancelling)
        return batch

    cancellings: list[Any] = []
    queue.cut = cancel_first  # type: ignore[method-assign]
    batcher.resume()
    batcher.flush()

    assert cancellings[0].result(PATIENCE) is False
    assert [future.result(0) for future in futures] == [0, 1, 2]


@pytest.mark.parametrize("mapping", [False, True], ids=["sequence", "mapping"])
def test_row_08_cancelled_items_shift_nobody(make: Maker, *, mapping: bool) -> None:
    """However many of its neighbours were cancelled or expired, each caller gets the result of its own item."""
    batcher = make(
        lambda items: {item: -item for item in items} if mapping else [-item for item in items],
        max_batch_size=7,
        max_delay=None,
    )
    batcher.pause()
    futures = batcher.add_many(range(50))

    cancelled = [number for number in range(50) if number % 3 == 0]
    assert all(futures[number].cancel() for number in cancelled)
    batcher.flush()

    for number, future in enumerate(futures):
        if number in cancelled:
            with pytest.raises(CancelledError):
                future.result(0)
        else:
            assert future.result(0) == -number


def test_row_08_expired_in_the_handler_shifts_nobody(make: Maker, clock: FakeClock) -> None:
    """An item that expires while its handler runs takes nobody's result along."""
    handler = HeldHandler(lambda items: [-item for item in items])
    batcher = make(handler, max_batch_size=4, max_delay=None)
    futures = [batcher.add(number, timeout=1.0 if number % 2 else None) for number in range(4)]
    handler.wait_for_batches(1)
    clock.advance(1.0)
    assert isinstance(futures[1].exception(PATIENCE), TimeoutError)
    assert isinstance(futures[3].exception(PATIENCE), TimeoutError)

    handler.let_go()

    assert [futures[0].result(PATIENCE), futures[2].result(PATIENCE)] == [0, -2]


def test_row_16_no_user_code_under_the_lock(make: Maker) -> None:
    """Handlers, keys, weights, hooks, callbacks, context managers, log handlers, destructors run outside the lock."""
    seen: list[tuple[str, bool]] = []

    def look(place: str, answer: Any = None) -> Any:
        seen.append((place, batcher._line.is_nested))
        assert adds_up(batcher.status())
        return answer

    class Item:
        """An item whose end is user code too."""

        def __del__(self) -> None:
            look("destructor")

    class Answer(list[Any]):
        """An answer whose taking apart is user code too."""

        def __iter__(self) -> Iterator[Any]:
            look("answer")
            return super().__iter__()

    @contextmanager
    def around() -> Iterator[None]:
        look("around_batch")
        yield

    def handle(items: list[Any]) -> Any:
        return look("handler", Answer([ValueError() for _ in items]))

    class LogHandler(logging.Handler):
        """A log handler that looks as well."""

        def emit(self, record: logging.LogRecord) -> None:
            look("log")

    def on_batch(_: object) -> None:
        look("on_batch")
        raise OSError

    batcher = make(
        handle,
        max_batch_size=2,
        max_pending=2,
        max_delay=None,
        overflow="drop_oldest",
        batch_key=lambda _: look("batch_key", "key"),
        weigh=lambda _: look("weigh", 1),
        around_batch=around,
        on_error=lambda *_: look("on_error"),
        on_drop=lambda *_: look("on_drop"),
        on_batch=on_batch,
    )
    logger, log_handler = logging.getLogger("batcher"), LogHandler()
    logger.addHandler(log_handler)
    try:
        batcher.pause()
        for _ in range(4):
            batcher.add(Item()).add_done_callback(lambda _: look("callback"))
        batcher.add(Item()).cancel()
        batcher.put(Item())
        batcher.close()
    finally:
        logger.removeHandler(log_handler)

    places = {"handler", "answer", "batch_key", "weigh", "around_batch", "destructor", "log", "callback"}
    assert {place for place, _ in seen} == places | {"on_error", "on_batch", "on_drop"}
    assert not [place for place, is_nested in seen if is_nested]


WAITS: dict[str, Callable[[Batcher[Any, Any], Any], object]] = {
    "flush": lambda batcher, _: batcher.flush(),
    "close": lambda batcher, _: batcher.close(),
    "result": lambda _, unsettled: unsettled.result(),
    "exception": lambda _, unsettled: unsettled.exception(),
    "new result": lambda batcher, _: batcher.add("new").result(),
}


@pytest.mark.parametrize("place", ["handler", "around_batch", "on_batch", "callback", "borrowed"])
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_row_17_waiting_for_oneself(make: Maker, place: str, wait: Callable[[Any, Any], object]) -> None:
    """User code that waits for what only its own thread can do gets a named error at once."""
    errors: list[BaseException] = []
    unsettled: list[Any] = []

    def try_it(*_: object) -> None:
        if not errors:
            try:
                wait(batcher, unsettled[0])
            except BaseException as error:
                errors.append(error)

    @contextmanager
    def around() -> Iterator[None]:
        try_it()
        yield

    def handle(items: list[Any]) -> None:
        if place in ("handler", "borrowed"):
            try_it()

    with ThreadPoolExecutor(1) as pool:
        batcher = make(
            handle,
            max_batch_size=1,
            max_delay=0,
            around_batch=around if place == "around_batch" else None,
            on_batch=try_it if place == "on_batch" else None,
            executor=pool if place == "borrowed" else None,
        )
        batcher.pause()
        first = batcher.add(0)
        unsettled.append(batcher.add(1))
        if place == "callback":
            first.add_done_callback(try_it)
        batcher.resume()
        assert batcher.flush(PATIENCE).pending == 0

    assert [type(error) for error in errors] == [ReentrantCallError]


def test_row_17_a_settled_result_is_no_wait(make: Maker) -> None:
    """A callback may ask its own future, and any other that is settled."""
    got: list[object] = []
    batcher = make(echo, max_delay=None)
    batcher.add(4).add_done_callback(lambda future: got.append(future.result()))

    batcher.flush()
    batcher.close()

    assert got == [4]


def test_row_19_log_that_feeds_the_batcher(make: Maker, clock: FakeClock) -> None:
    """A log handler that ships records through the batcher that fails, and so logs: no flood, no deadlock."""
    shipped: list[str] = []

    class Shipping(logging.Handler):
        """Ships each record through the batcher."""

        def emit(self, record: logging.LogRecord) -> None:
            shipped.append(record.getMessage())
            batcher.put(record.getMessage())

    def fail(_: list[str]) -> None:
        raise ConnectionError

    batcher = make(fail, max_batch_size=1, max_delay=0, max_pending=1)
    logger, shipping = logging.getLogger("batcher"), Shipping()
    logger.addHandler(shipping)
    try:
        elsewhere(put_all, batcher, map(str, range(20))).result(PATIENCE)
        elsewhere(batcher.close).result(PATIENCE)
    finally:
        logger.removeHandler(shipping)

    assert len(shipped) == 1
    assert batcher.status().failed == 21
