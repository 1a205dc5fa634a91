"""Who runs the handler: the flusher, its own workers, a borrowed executor."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import pytest

from batcher import BatcherClosedError, HandlerTimeoutError
from batcher.testing import FakeClock
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, adds_up, elsewhere, endings, flusher_of

clock, make = stage.clock, stage.make


def echo(items: list[Any]) -> list[Any]:
    """Answer each item with itself."""
    return items


# Several at once


def test_max_concurrent_is_a_bound(make: Maker, clock: FakeClock) -> None:
    """As many calls as allowed run side by side, on threads named after the batcher, and never more."""
    handler = HeldHandler(echo)
    threads: set[str] = set()

    def handle(items: list[Any]) -> object:
        threads.add(threading.current_thread().name)
        return handler(items)

    batcher = make(handle, max_batch_size=1, max_delay=0, max_concurrent=3, name="bounded")
    futures = batcher.add_many(range(5))
    handler.wait_for_batches(3)
    clock.wait_for_sleepers(1)

    assert batcher.status().processing == 3
    assert len(handler.batches) == 3
    handler.let_go()
    assert [future.result(PATIENCE) for future in futures] == list(range(5))
    assert threads == {f"batcher-bounded-worker-{number}" for number in (1, 2, 3)}


def test_results_may_be_awaited_with_several_at_once(make: Maker) -> None:
    """With several calls at once a handler may wait for an item of its own batcher: another call serves it."""

    def handle(items: list[int]) -> list[int]:
        return [item or batcher.add(7).result(PATIENCE) for item in items]

    batcher = make(handle, max_delay=0, max_concurrent=2)

    assert batcher.add(0).result(PATIENCE) == 7


def test_no_worker_can_be_started(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no worker can be started, at exit for one, the flusher runs the batch itself."""
    threads: list[str] = []
    batcher = make(lambda _: threads.append(threading.current_thread().name), max_concurrent=2, max_delay=None)
    future = batcher.add(0)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        batcher.flush()

    assert future.result(0) is None
    assert threads == [flusher_of(batcher).name]


# Borrowed executors


def test_thread_pool_is_used_and_left_alone(make: Maker) -> None:
    """The handler runs in the borrowed pool, which works on after the batcher was closed."""
    threads: list[str] = []

    def handle(items: list[int]) -> list[int]:
        threads.append(threading.current_thread().name)
        return items

    with ThreadPoolExecutor(2, "borrowed") as pool:
        batcher = make(handle, executor=pool, max_delay=0)
        assert batcher.add(4).result(PATIENCE) == 4
        assert batcher.close().complete
        assert pool.submit(int, "7").result(PATIENCE) == 7

    assert threads == ["borrowed_0"]


@contextmanager
def marked() -> Iterator[None]:
    """Mark the process that a handler runs in."""
    os.environ["BATCHER_TEST_MARK"] = "entered"
    yield
    del os.environ["BATCHER_TEST_MARK"]


def describe(items: list[int]) -> list[tuple[int, str]]:
    """Answer with the process and its mark."""
    return [(os.getpid(), os.environ["BATCHER_TEST_MARK"]) for _ in items]


def die(_: list[int]) -> None:
    """End the worker process without a word."""
    os._exit(7)


def test_process_pool(make: Maker) -> None:
    """Handler, items and `around_batch` go to another process, the results come back; a dying one fails its batch."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        batcher = make(describe, executor=pool, around_batch=marked, max_delay=0)
        process, mark = batcher.add(1).result(30)
        unpicklable = batcher.add(lambda: None)
        with pytest.raises(Exception, match=r"pickle|local object"):
            unpicklable.result(30)
        batcher.register_handler(die)
        with pytest.raises(BrokenProcessPool):
            batcher.add(2).result(30)
        with pytest.raises(BrokenProcessPool):
            batcher.add(3).result(30)

    assert process != os.getpid()
    assert mark == "entered"
    assert endings(batcher.status()) == {"succeeded": 1, "failed": 3}


def test_shut_down_executor_fails_the_batch(make: Maker) -> None:
    """An executor that takes no more work fails each batch with its own error, and the flusher lives on."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    batcher = make(echo, executor=pool, max_delay=0)

    for item in range(2):
        with pytest.raises(RuntimeError, match="after shutdown"):
            batcher.add(item).result(PATIENCE)


def test_executor_that_refuses_at_exit(make: Maker) -> None:
    """While the interpreter exits executors refuse: then the flusher runs the batch itself."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    batcher = make(echo, executor=pool, max_delay=0)
    batcher._line.is_exiting = True

    assert batcher.add(4).result(PATIENCE) == 4


class Awkward(Executor):
    """An executor whose `submit` does what the test says."""

    def __init__(self, submit: Callable[[Callable[..., Any], Any], Future[Any]]) -> None:
        self._submit = submit

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Take one positional payload and nothing else."""
        assert len(args) == 1
        assert not kwargs
        return self._submit(fn, args[0])

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Fail: a borrowed executor is never shut down."""
        raise AssertionError("shut down")


@pytest.mark.parametrize("kind", [SystemExit, MemoryError, KeyboardInterrupt])
def test_submit_that_raises(make: Maker, kind: type[BaseException]) -> None:
    """Whatever `submit` raises fails that batch alone."""
    errors = [kind("no")]

    def submit(fn: Callable[..., Any], items: Any) -> Future[Any]:
        if errors:
            raise errors.pop()
        future: Future[Any] = Future()
        future.set_result(fn(items))
        return future

    batcher = make(echo, executor=Awkward(submit), max_delay=0)

    with pytest.raises(kind, match="no"):
        batcher.add(1).result(PATIENCE)
    assert batcher.add(2).result(PATIENCE) == 2


def test_cancelled_by_the_executor(make: Maker) -> None:
    """A call that the executor itself cancels fails its items, who weren't cancelled by their callers."""
    submitted: list[Future[Any]] = []
    ready = threading.Event()

    def submit(_: Callable[..., Any], __: Any) -> Future[Any]:
        submitted.append(Future())
        ready.set()
        return submitted[-1]

    batcher = make(echo, executor=Awkward(submit), max_delay=0)
    future = batcher.add(1)
    assert ready.wait(PATIENCE)

    submitted[0].cancel()
    submitted[0].set_running_or_notify_cancel()

    assert isinstance(future.exception(PATIENCE), BaseException)
    assert not future.cancelled()
    assert endings(batcher.status()) == {"failed": 1}


def test_handler_timeout_with_an_executor(make: Maker, clock: FakeClock) -> None:
    """A borrowed thread can't be given up, but its items are, and what it returns late is thrown away."""
    handler = HeldHandler(echo)
    with ThreadPoolExecutor(1) as pool:
        batcher = make(handler, executor=pool, max_delay=0, handler_timeout=1.0)
        future = batcher.add(1)
        handler.wait_for_batches(1)
        clock.wait_for_sleepers(1)

        clock.advance(1.0)

        with pytest.raises(HandlerTimeoutError):
            future.result(PATIENCE)
        assert batcher.status().stuck_handlers == 1
        handler.let_go()
        assert batcher.add(2).result(PATIENCE) == 2
        assert batcher.status().stuck_handlers == 0


# around_batch


def test_around_batch_is_entered_on_the_handler_s_thread(make: Maker) -> None:
    """`around_batch` is entered anew around each call, on the thread that runs the handler."""
    events: list[tuple[str, int]] = []

    @contextmanager
    def around() -> Iterator[None]:
        events.append(("enter", threading.get_ident()))
        yield
        events.append(("exit", threading.get_ident()))

    batcher = make(lambda _: events.append(("handle", threading.get_ident())), around_batch=around, max_delay=0)
    batcher.add(1).result(PATIENCE)
    batcher.add(2).result(PATIENCE)

    assert [name for name, _ in events] == ["enter", "handle", "exit"] * 2
    assert len({thread for _, thread in events}) == 1


@pytest.mark.parametrize("moment", ["make", "enter", "exit"])
def test_around_batch_that_raises(make: Maker, moment: str) -> None:
    """An error of `around_batch`, wherever it comes, fails the batch; the flusher lives on."""

    class Around:
        """Raises at one moment."""

        def __enter__(self) -> None:
            if moment == "enter":
                raise OSError(moment)

        def __exit__(self, *_: object) -> None:
            if moment == "exit":
                raise OSError(moment)

    def around() -> Around:
        if moment == "make":
            raise OSError(moment)
        return Around()

    batcher = make(echo, around_batch=around, max_delay=0)

    for item in range(2):
        with pytest.raises(OSError, match=moment):
            batcher.add(item).result(PATIENCE)


def test_around_batch_that_swallows(make: Maker) -> None:
    """A context manager that swallows the handler's error leaves every item None."""

    class Swallow:
        """Swallows everything."""

        def __enter__(self) -> None:
            """Do nothing."""

        def __exit__(self, *_: object) -> bool:
            return True

    def fail(_: list[int]) -> None:
        raise OSError

    batcher = make(fail, around_batch=Swallow, max_delay=0)

    assert batcher.add(1).result(PATIENCE) is None


@pytest.mark.parametrize("is_running", [False, True], ids=["waiting", "running"])
def test_flusher_that_cannot_go_on(
    make: Maker,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_running: bool,
) -> None:
    """Where the flusher itself fails, short of memory, nobody waits for ever: all items fail, and add refuses."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_batch_size=1, max_delay=0, max_concurrent=2)
    futures = []
    if is_running:
        futures.append(batcher.add(0))
        handler.wait_for_batches(1)
    batcher.pause()
    futures.append(batcher.add(1))
    clock.wait_for_sleepers(1)

    def fail(now: float) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(batcher._line.queue, "arrange", fail)
        batcher.resume()
        for future in futures:
            assert isinstance(future.exception(PATIENCE), (MemoryError, BatcherClosedError))

    with pytest.raises(BatcherClosedError):
        batcher.add(2)
    assert "the flusher failed" in caplog.text
    assert adds_up(batcher.status())


def test_counts_add_up_at_any_moment(make: Maker) -> None:
    """While many threads add, cancel and let expire, every snapshot adds up."""
    batcher = make(echo, max_batch_size=5, max_delay=0.001, max_concurrent=2, max_pending=20, overflow="drop_oldest")
    done = threading.Event()

    def add() -> None:
        for item in range(200):
            batcher.put(item)
            batcher.add(item, timeout=0.001 if item % 5 == 0 else None)
            batcher.add(item).cancel()

    def watch() -> bool:
        fine = True
        while not done.is_set():
            fine = fine and adds_up(batcher.status())
        return fine

    watching = elsewhere(watch)
    for adding in [elsewhere(add) for _ in range(4)]:
        adding.result(30)
    done.set()

    assert watching.result(PATIENCE)
    batcher.flush(PATIENCE)
    status = batcher.status()
    assert status.accepted == 2400 == sum(endings(status).values())
