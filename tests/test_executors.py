"""Bulk runs and batchers on borrowed executors: threads, and processes of three kinds."""

import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from batcher import Batcher, BatchError, BatchProcessor, ItemTimeoutError, Retry, process_batch
from batcher._parcel import Parcel, deliver, portable, run_bulk_call, unpack
from batcher.testing import FakeClock
from tests.bulk_tools import SECONDS, Elsewhere, becomes


class Landmine:
    """A value that can be pickled, and not be unpickled."""

    def __reduce__(self) -> Any:
        """Raise when it is loaded."""
        return int, ("not a number",)


class AwkwardError(Exception):
    """An error that can be pickled, and not be unpickled, by whatever means."""

    def __init__(self, code: int, detail: str) -> None:
        """Ask for two arguments, and keep one."""
        super().__init__(detail)
        self.code = code
        self.mine = Landmine()


class Unpicklable:
    """A value that can't be pickled."""

    def __reduce__(self) -> str:
        """Refuse."""
        raise pickle.PicklingError("not me")


class Homebound:
    """A function that can't be pickled, whatever other libraries have taught pickle."""

    def __call__(self, number: int) -> int:
        """Return the number."""
        return number

    def __reduce__(self) -> str:
        """Refuse."""
        raise TypeError("not this one")


def square(number: int) -> int:
    """Return the square."""
    return number * number


def where(_: int) -> int:
    """Return the process."""
    return os.getpid()


def squares(numbers: list[int]) -> list[Any]:
    """Return the squares of a batch; fail for 3."""
    return [ValueError(number) if number == 3 else number * number for number in numbers]


def misbehave(number: int) -> Any:
    """Fail, answer or end in different ways."""
    if number == 1:
        raise AwkwardError(1, "awkward")
    if number == 2:
        return Unpicklable()
    if number == 3:
        raise KeyError("plain")
    if number == 4:
        raise SystemExit("exit")
    if number == 5:
        return next(iter(()))
    return number


class MaskedError(Exception):
    """An error that arrives as another one."""

    def __reduce__(self) -> Any:
        """Become a ValueError."""
        return ValueError, ("masked",)


def shift(numbers: list[int]) -> list[int]:
    """Prepare a batch."""
    return [number + 100 for number in numbers]


def die(number: int) -> int:
    """Kill the own process at item 5."""
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.fixture(name="processes", scope="module")
def _processes() -> Iterator[ProcessPoolExecutor]:
    """Two processes."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(square, 1).result(SECONDS)
        yield pool


class ManualExecutor(Executor):
    """An executor whose calls run, or fail, when the test says so."""

    def __init__(self) -> None:
        """Have no calls."""
        self.calls: list[tuple[Future[Any], Callable[[], Any]]] = []
        self.error: BaseException | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Keep the call for later; there is one positional payload."""
        assert len(args) == 1
        assert not kwargs
        if self.error is not None:
            raise self.error
        future: Future[Any] = Future()
        self.calls.append((future, lambda: fn(*args)))
        return future

    def wait_for(self, count: int) -> None:
        """Return when so many calls have come."""
        becomes(lambda: len(self.calls) >= count)

    def finish(self, number: int) -> None:
        """Make a call."""
        future, call = self.calls[number]
        future.set_result(call())


# Processes


def test_processes_do_the_work(processes: ProcessPoolExecutor) -> None:
    """The function runs in other processes; results keep the order, and equal batches all run."""
    assert process_batch(range(50), square, batch_size=4, executor=processes).results == [n * n for n in range(50)]
    pids = process_batch([0] * 20, where, batch_size=1, executor=processes, max_concurrent=2).results
    assert len(pids) == 20
    assert os.getpid() not in pids


def test_batch_function_in_processes(processes: ProcessPoolExecutor) -> None:
    """A batch function gets whole batches there, prepared ones where asked."""
    result = process_batch(range(6), batch_processor=squares, batch_size=2, executor=processes)
    assert result.results == [0, 1, 4, 16, 25]
    assert [(failed.item, type(failed.error)) for failed in result.failed] == [(3, ValueError)]
    failing = process_batch([1, 2], batch_processor=awkward_batch, executor=processes)
    assert [type(failed.error) for failed in failing.failed] == [BatchError, BatchError]
    prepared = process_batch([1, 2], batch_processor=squares, prepare=shift, executor=processes)
    assert prepared.results == [101**2, 102**2]
    assert prepared.successful == [1, 2]


def test_whatever_comes_back_breaks_no_pool(processes: ProcessPoolExecutor) -> None:
    """Errors and results that can't travel fail their items alone; the pool lives on."""
    result = process_batch(range(8), misbehave, executor=processes)

    assert result.results == [0, 6, 7]
    assert [type(failed.error) for failed in result.failed] == [
        BatchError,
        TypeError,
        KeyError,
        SystemExit,
        RuntimeError,
    ]
    assert "AwkwardError, which can't be sent back: awkward" in str(result.failed[0].error)
    assert "the result can't be sent back from the worker process: not me" in str(result.failed[1].error)
    assert "in misbehave" in result.failed[2].error.__notes__[0]
    assert process_batch([3], square, executor=processes).results == [9]


def test_retries_in_processes(processes: ProcessPoolExecutor) -> None:
    """Only what failed is sent again."""
    result = process_batch(range(8), misbehave, executor=processes, retries=Retry(3, delay=0))

    # SystemExit is none of the errors that are tried again by default.
    assert [failed.attempts for failed in result.failed] == [3, 3, 3, 1, 3]


def test_unpicklable_function_is_named(processes: ProcessPoolExecutor) -> None:
    """A function that can't be pickled ends the run with an error that says so."""
    with pytest.raises(TypeError, match="the processor can't be sent to the executor, because it can't be pickled"):
        process_batch(range(1000), Homebound(), executor=processes, batch_size=1)


def test_unpicklable_item_fails_alone(processes: ProcessPoolExecutor) -> None:
    """An item that can't be pickled fails with an error that says so; its neighbours are sent again."""
    items: list[Any] = [1, Unpicklable(), 3, threading.Lock(), 5]
    result = process_batch(items, square, executor=processes)

    assert result.results == [1, 9, 25]
    assert [str(failed.error)[:48] for failed in result.failed] == [
        "the item can't be sent to the executor, because "
    ] * 2
    alone = process_batch([Unpicklable()], print, executor=processes)
    assert len(alone.failed) == 1


def test_timeout_in_processes(processes: ProcessPoolExecutor) -> None:
    """An item that takes too long fails; it keeps its place until the process has done with it."""
    result = process_batch([0.0, 1.0, 0.0], time.sleep, executor=processes, timeout=0.3, batch_size=3, max_concurrent=2)

    assert [(failed.item, type(failed.error)) for failed in result.failed] == [(1.0, ItemTimeoutError)]
    assert result.successful == [0.0, 0.0]


@pytest.mark.parametrize("retries", [0, Retry(3, delay=0)], ids=["none", "some"])
def test_killed_process_is_reported(retries: Any) -> None:
    """When a pool's process is killed, all that was read is reported, and the run ends."""
    with ProcessPoolExecutor(2) as pool:
        result = process_batch(itertools.count(), die, batch_size=2, max_concurrent=2, executor=pool, retries=retries)

    assert result.stopped
    assert {type(failed.error) for failed in result.failed} == {BrokenProcessPool}
    seen = sorted(result.successful + [failed.item for failed in result.failed])
    assert seen == list(range(len(seen)))
    assert 5 in [failed.item for failed in result.failed]


def test_killed_process_of_loky() -> None:
    """The same on loky, whose functions needn't be importable."""
    loky = pytest.importorskip("loky")
    pool = loky.ProcessPoolExecutor(2)
    try:
        assert process_batch(range(5), lambda n: n + 1, executor=pool).results == [1, 2, 3, 4, 5]
        result = process_batch(range(40), die, batch_size=2, max_concurrent=2, executor=pool)
    finally:
        pool.shutdown(kill_workers=True)
    assert result.stopped
    assert all(isinstance(failed.error, BrokenExecutor) for failed in result.failed)
    assert 5 in [failed.item for failed in result.failed]


# Threads, and an executor by hand


def test_threads_need_no_pickling() -> None:
    """On a borrowed thread pool nothing is pickled; it isn't shut down."""
    results = [Unpicklable(), Unpicklable()]
    with ThreadPoolExecutor(2) as pool:
        assert process_batch([0, 1], lambda n: results[n], executor=pool).results == results
        assert pool.submit(int).result(SECONDS) == 0


def test_no_more_calls_than_allowed() -> None:
    """At most `max_concurrent` calls are with the executor at once, each with a batch."""
    executor = ManualExecutor()
    run = Elsewhere(lambda: process_batch(range(10), square, batch_size=3, max_concurrent=2, executor=executor))
    for number in range(4):
        executor.wait_for(min(number + 2, 4))
        assert len(executor.calls) == min(number + 2, 4)
        executor.finish(number)

    assert run.result().results == [n * n for n in range(10)]


def test_late_call_keeps_its_place() -> None:
    """A call that took too long has its items failed; the place is free when its future ends."""
    executor = ManualExecutor()
    with FakeClock() as clock:
        processor = BatchProcessor(
            batch_processor=squares, batch_size=1, max_concurrent=1, executor=executor, timeout=5
        )
        run = Elsewhere(lambda: processor.run([1, 2]))
        executor.wait_for(1)
        clock.wait_for_sleepers(1)
        clock.advance(5)
        becomes(lambda: processor.status().failed == 1)
        assert len(executor.calls) == 1
        executor.finish(0)
        executor.wait_for(2)
        executor.finish(1)
        result = run.result()

    assert [(failed.item, type(failed.error)) for failed in result.failed] == [(1, ItemTimeoutError)]
    assert result.results == [4]


def test_watched_items_are_calls_of_their_own() -> None:
    """With a timeout each item is a call, one after another, with the delay between them."""
    executor = ManualExecutor()
    with FakeClock() as clock:
        processor = BatchProcessor(square, executor=executor, timeout=50, delay=3)
        run = Elsewhere(lambda: processor.run([1, 2]))
        executor.wait_for(1)
        executor.finish(0)
        becomes(lambda: processor.status().processed == 1)
        clock.wait_for_sleepers(1)
        assert len(executor.calls) == 1
        clock.advance(3)
        executor.wait_for(2)
        executor.finish(1)
        assert run.result().results == [1, 4]


def test_delay_between_the_items_of_a_call() -> None:
    """Without a timeout the delay is kept on the executor's side."""
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        process_batch([1, 2, 3], square, executor=pool, delay=0.05)
    assert time.monotonic() - began >= 0.1


def test_cancelled_call_is_reported() -> None:
    """A call that the executor cancelled fails its items, or is made again."""
    executor = ManualExecutor()
    processor = BatchProcessor(square, executor=executor, retries=Retry(2, delay=0))
    run = Elsewhere(lambda: processor.run([3]))
    executor.wait_for(1)
    executor.calls[0][0].cancel()
    executor.wait_for(2)
    executor.calls[1][0].cancel()
    (failed,) = run.result().failed

    assert (type(failed.error), str(failed.error), failed.attempts) == (
        BatchError,
        "the executor cancelled the call",
        2,
    )


@pytest.mark.parametrize("error", [ValueError("bad"), TypeError("bad")])
def test_executor_that_fails_a_call(error: Exception) -> None:
    """An error of the executor's own is the items', where all of them can be pickled."""
    executor = ManualExecutor()
    run = Elsewhere(lambda: process_batch([1, 2], square, executor=executor))
    executor.wait_for(1)
    executor.calls[0][0].set_exception(error)

    assert [str(failed.error) for failed in run.result().failed] == ["bad", "bad"]


def test_executor_that_refuses() -> None:
    """One that was shut down ends the run; what was read is reported."""
    executor = ManualExecutor()
    executor.error = RuntimeError("cannot schedule new futures after shutdown")
    result = process_batch(itertools.count(), square, batch_size=2, max_concurrent=1, executor=executor)

    assert result.stopped
    assert {str(failed.error) for failed in result.failed} == {"cannot schedule new futures after shutdown"}
    assert len(result.failed) in (2, 4)
    executor.error = ValueError("one call")
    assert [str(failed.error) for failed in process_batch([1], square, executor=executor).failed] == ["one call"]


def test_broken_executor_loses_no_waiting_item() -> None:
    """What waits for a retry or for a place when the executor breaks is reported as well."""
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    executor = ManualExecutor()
    processor = BatchProcessor(square, batch_size=1, max_concurrent=2, executor=executor, retries=Retry(2, delay=1000))
    run = Elsewhere(lambda: processor.run(numbers()))
    executor.wait_for(2)
    executor.calls[0][0].set_exception(ValueError("first"))
    executor.wait_for(3)
    executor.calls[1][0].set_exception(BrokenExecutor("broken"))
    result = run.result()

    assert result.stopped
    items = sorted(failed.item for failed in result.failed)
    assert items == read
    assert str(result.failed[0].error) == "first"
    assert {str(failed.error) for failed in result.failed[1:]} == {"broken"}


def test_broken_executor_loses_no_item_without_a_place() -> None:
    """An item that was read, and had no place yet when the executor broke, is reported too."""
    executor = ManualExecutor()
    processor = BatchProcessor(square, batch_size=1, max_concurrent=2, executor=executor)
    run = Elsewhere(lambda: processor.run(itertools.count()))
    executor.wait_for(2)
    becomes(lambda: processor.status().current_batch == 3)
    executor.calls[1][0].set_exception(BrokenExecutor("broken"))

    assert [failed.item for failed in run.result().failed] == [0, 1, 2]


def test_executor_that_breaks_after_a_timeout() -> None:
    """A call that was given up before isn't reported twice."""
    executor = ManualExecutor()
    with FakeClock() as clock:
        processor = BatchProcessor(
            batch_processor=squares, batch_size=1, max_concurrent=2, executor=executor, timeout=5
        )
        run = Elsewhere(lambda: processor.run([1, 2, 3]))
        executor.wait_for(1)
        clock.wait_for_sleepers(1)
        executor.wait_for(2)
        clock.advance(5)
        becomes(lambda: processor.status().failed == 2)
        executor.calls[0][0].set_exception(ValueError("late"))
        executor.wait_for(3)
        executor.calls[2][0].set_exception(BrokenExecutor("broken"))
        result = run.result()

    assert [type(failed.error) for failed in result.failed] == [ItemTimeoutError, ItemTimeoutError, BrokenExecutor]


def test_pause_stop_and_ctrl_c() -> None:
    """A pause holds back calls; a stop waits for those under way; an interrupted caller doesn't."""
    executor = ManualExecutor()
    processor = BatchProcessor(square, batch_size=1, max_concurrent=2, executor=executor)
    processor.pause()
    run = Elsewhere(lambda: processor.run(itertools.count()))
    becomes(lambda: processor.status().current_batch == 3)
    assert executor.calls == []
    processor.resume()
    executor.wait_for(2)
    processor.stop()
    assert not run.is_done
    executor.finish(0)
    executor.finish(1)
    assert run.result().results == [0, 1]

    def interrupted() -> Iterator[int]:
        yield 7
        executor.wait_for(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process_batch(interrupted(), square, batch_size=1, executor=executor)
    assert executor.calls[2][0].cancelled()


def test_checkpoint_with_processes(processes: ProcessPoolExecutor, tmp_path: Path) -> None:
    """What other processes have done is recorded here."""
    path = tmp_path / "done"
    options: dict[str, Any] = {"executor": processes, "checkpoint": path, "item_key": str}
    process_batch(range(5), square, **options)

    assert process_batch(range(7), square, **options).skipped == 5


# Parcels


def test_no_two_parcels_are_equal() -> None:
    """Equal calls have payloads that differ, also as Dask tells calls apart."""
    tokens = {Parcel(len, []).__dask_tokenize__() for _ in range(100)}
    assert len(tokens) == 100


def test_error_of_a_travelled_call() -> None:
    """What a call raises elsewhere comes with its traceback as a note, or as a BatchError."""
    parcel = Parcel(lambda _: misbehave(3), [])
    with pytest.raises(KeyError) as caught:
        deliver(parcel)
    assert not hasattr(caught.value, "__notes__")
    parcel.origin = ("elsewhere", 1)
    with pytest.raises(KeyError) as caught:
        deliver(parcel)
    assert caught.value.__notes__[0].startswith("In the worker process:")
    parcel.call = lambda _: misbehave(1)
    with pytest.raises(BatchError, match="AwkwardError, which can't be sent back: awkward"):
        deliver(parcel)
    parcel.call = len
    assert deliver(parcel) == 0
    assert type(portable(AwkwardError(1, "x"))) is BatchError
    assert type(portable(MaskedError("x"))) is BatchError


def test_answer_that_cannot_be_read() -> None:
    """An answer whose parts can't be unpickled here fails the call, and no more."""
    with pytest.raises((TypeError, ValueError)):
        unpack(pickle.dumps(([], {0: AwkwardError(1, "x")})))
    assert run_bulk_call(Parcel(lambda _: ([1], {}), [1])) == ([1], {})


# Batchers


def test_batcher_on_processes(processes: ProcessPoolExecutor) -> None:
    """A batcher's handler runs in other processes; equal batches all run, errors of any kind come back."""
    with Batcher(squares, executor=processes, max_batch_size=2, max_delay=0.01) as batcher:
        assert [future.result(SECONDS) for future in batcher.add_many([1, 2, 1, 2])] == [1, 4, 1, 4]
        with pytest.raises(ValueError, match="3"):
            batcher.add(3).result(SECONDS)
    with Batcher(awkward_batch, executor=processes, max_delay=0) as batcher:
        with pytest.raises(BatchError, match="AwkwardError"):
            batcher.add(1).result(SECONDS)
        assert processes.submit(square, 3).result(SECONDS) == 9


def awkward_batch(_: list[int]) -> None:
    """Fail in a way that would break the pool."""
    raise AwkwardError(1, "awkward")


def test_batcher_reports_a_killed_process() -> None:
    """When the process is killed the items fail, and so do later ones; nothing hangs."""
    with ProcessPoolExecutor(1) as pool, Batcher(die_batch, executor=pool, max_delay=0) as batcher:
        for _ in range(2):
            assert isinstance(batcher.add(5).exception(SECONDS), BrokenProcessPool)


def die_batch(numbers: list[int]) -> list[int]:
    """Kill the own process."""
    return [die(number) for number in numbers]
