"""Bulk runs from the outside: timeouts, delays, pause, stop, progress, Ctrl-C, and inputs that fail."""

import gc
import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from batcher import BatchProcessor, BatchResult, ItemTimeoutError, Progress, Retry, Throttle, process_batch
from batcher._bar import Bar
from batcher._bulk_run import BulkRun
from batcher._conductor import Conductor
from batcher._control import Control
from batcher.testing import FakeClock
from tests.bulk_tools import SECONDS, Elsewhere, Hold, becomes
from tests.interruptions import at_each_place, interrupt, press_ctrl_c

# Timeouts


def test_item_that_hangs_is_given_up() -> None:
    """It fails with ItemTimeoutError, and another thread does the rest of its batch."""
    with FakeClock() as clock, Hold(2) as hold:
        processor = BatchProcessor(hold, batch_size=5, max_concurrent=1, timeout=10)
        run = Elsewhere(lambda: processor.run(range(10)))
        hold.wait_for(3)
        clock.wait_for_sleepers(1)
        clock.advance(9)
        clock.wait_for_sleepers(1)
        assert processor.status().failed == 0
        clock.advance(1)
        result = run.result()

        assert [(failed.item, type(failed.error), failed.attempts) for failed in result.failed] == [
            (2, ItemTimeoutError, 1)
        ]
        assert result.results == [0, 1, 3, 4, 5, 6, 7, 8, 9]
        assert sorted(hold.begun) == list(range(10))
        assert len(hold.threads) == 2
        assert hold.inside == 1


def test_rest_of_the_last_batch_is_done() -> None:
    """The items after one that hangs are processed, even where nothing else is left to do."""
    with FakeClock() as clock, Hold(0, 2) as hold:
        processor = BatchProcessor(hold, max_concurrent=1, timeout=1)
        run = Elsewhere(lambda: processor.run(range(4)))
        for count in (1, 3):
            hold.wait_for(count)
            clock.wait_for_sleepers(1)
            clock.advance(1)
        result = run.result()

    assert (result.results, [failed.item for failed in result.failed]) == ([1, 3], [0, 2])


def test_late_result_is_thrown_away() -> None:
    """What a call returns after its time is seen by nobody, and its thread does nothing more."""
    with FakeClock() as clock, Hold(0) as hold:
        processor = BatchProcessor(hold, batch_size=2, max_concurrent=1, timeout=1)
        items = Elsewhere(lambda: processor.run(iter([0, 1, 2])))
        hold.wait_for(1)
        clock.wait_for_sleepers(1)
        clock.advance(1)
        result = items.result()
        (stuck,) = [thread for thread in hold.threads if thread.is_alive()]
        hold.may_go.set()
        stuck.join(SECONDS)

        assert not stuck.is_alive()
        assert (result.results, [failed.item for failed in result.failed]) == ([1, 2], [0])
        assert sorted(hold.begun) == [0, 1, 2]


def test_hung_items_cost_no_concurrency() -> None:
    """However many hang, so many others run at once as before."""
    with FakeClock() as clock, Hold(*range(100)) as hold:
        processor = BatchProcessor(hold, batch_size=1, max_concurrent=3, timeout=1)
        run = Elsewhere(lambda: processor.run(range(12)))
        for count in (3, 6, 9, 12):
            hold.wait_for(count)
            clock.wait_for_sleepers(1)
            clock.advance(1)
        result = run.result()

        assert sorted(failed.item for failed in result.failed) == list(range(12))
        assert hold.inside == 12


@pytest.mark.parametrize(("retry_on", "attempts"), [((Exception,), 1), ((ItemTimeoutError,), 2)])
def test_timeouts_are_retried_only_where_named(retry_on: Any, attempts: int) -> None:
    """Retrying all exceptions doesn't mean those that cost a thread; naming ItemTimeoutError does."""
    with FakeClock() as clock, Hold(0) as hold:
        processor = BatchProcessor(hold, timeout=1, retries=Retry(2, delay=0, retry_on=retry_on))
        run = Elsewhere(lambda: processor.run([0]))
        for count in range(1, attempts + 1):
            hold.wait_for(count)
            clock.wait_for_sleepers(1)
            clock.advance(1)
        (failed,) = run.result().failed

        assert (failed.attempts, len(hold.begun)) == (attempts, attempts)


def test_call_for_a_batch_that_hangs() -> None:
    """With a batch function the timeout is one of the call; all of its items fail, or are tried again together."""
    calls: list[list[int]] = []
    may_go = threading.Event()

    def process(items: list[int]) -> list[int]:
        calls.append(list(items))
        if len(calls) in (1, 2):
            assert may_go.wait(SECONDS)
        return items

    with FakeClock() as clock:
        retries = Retry(2, delay=0, retry_on=ItemTimeoutError)
        processor = BatchProcessor[int, int](
            batch_processor=process, batch_size=2, max_concurrent=1, timeout=1, retries=retries
        )
        run = Elsewhere(lambda: processor.run([1, 2, 3]))
        for count in (1, 2):
            becomes(lambda count=count: len(calls) == count)  # type: ignore[misc]
            clock.wait_for_sleepers(1)
            clock.advance(1)
        result = run.result()
    may_go.set()

    # The batch that waits for its second attempt lets the other one go first.
    assert calls == [[1, 2], [3], [1, 2], [3]]
    assert result.results == [1, 2, 3]


def test_late_error_is_thrown_away() -> None:
    """A call that raises after its time adds no second failure."""
    may_go = threading.Event()

    def process(_: int) -> None:
        assert may_go.wait(SECONDS)
        raise ValueError("late")

    with FakeClock() as clock:
        processor = BatchProcessor[int, None](process, timeout=1)
        run = Elsewhere(lambda: processor.run([0]))
        becomes(lambda: processor.status().current_batch == 1)
        while not run.is_done:
            clock.advance(1)
            time.sleep(0.001)
    may_go.set()

    assert [type(failed.error) for failed in run.result().failed] == [ItemTimeoutError]


# Delay, pause, stop


def test_delay_between_the_items_of_a_batch() -> None:
    """Between two items of a batch so many seconds pass; none before the first or after the last."""
    begun: list[float] = []
    with FakeClock() as clock:
        processor = BatchProcessor[int, None](lambda _: begun.append(clock.monotonic()), delay=5, batch_size=3)
        run = Elsewhere(lambda: processor.run(range(3)))
        for _ in range(2):
            clock.wait_for_sleepers(2)
            clock.advance(2.5)
            clock.wait_for_sleepers(2)
            clock.advance(2.5)
        run.result()

    assert begun == [0.0, 5.0, 10.0]


@pytest.mark.parametrize("is_gated", [False, True], ids=["careful", "gated"])
def test_stop_ends_a_delay(*, is_gated: bool) -> None:
    """A worker that waits between two items needn't wait to the end."""
    with FakeClock() as clock:
        processor = BatchProcessor(int, delay=1000, throttle=Throttle(max_concurrent=9) if is_gated else None)
        run = Elsewhere(lambda: processor.run(range(3)))
        clock.wait_for_sleepers(2)
        processor.stop()
        result = run.result()

    assert (result.results, result.stopped, result.total_processed) == ([0], True, 1)


@pytest.mark.parametrize("options", [{}, {"timeout": 100.0}], ids=["bare", "careful"])
def test_pause_and_resume(options: Any) -> None:
    """While it is paused, what runs goes on and nothing else begins."""
    with Hold(0, 1) as hold:
        processor = BatchProcessor(hold, batch_size=1, max_concurrent=2, **options)
        run = Elsewhere(lambda: processor.run(range(10)))
        hold.wait_for_inside(2)
        processor.pause()
        hold.may_go.set()
        becomes(lambda: processor.status().processed == 2)
        assert processor.status().state == "paused"
        assert hold.begun == [0, 1] or sorted(hold.begun) == [0, 1]
        processor.resume()
        assert run.result().results == list(range(10))
        assert processor.status().state == "done"


@pytest.mark.parametrize(
    "options", [{}, {"timeout": 100.0}, {"throttle": Throttle(max_concurrent=9)}], ids=["bare", "careful", "gated"]
)
def test_pause_inside_a_batch(options: Any) -> None:
    """A pause holds between two items of a batch as well; a stop ends it."""

    def process(item: int) -> int:
        processor.pause()
        return item

    processor = BatchProcessor(process, max_concurrent=1, **options)
    run = Elsewhere(lambda: processor.run(range(10)))
    becomes(lambda: processor.status().processed == 1)
    assert processor.status().state == "paused"
    processor.stop()

    assert run.result().results == [0]


def test_run_that_begins_paused() -> None:
    """A pause holds for runs that begin later, and for retries."""
    calls: list[int] = []

    def process(item: int) -> int:
        calls.append(item)
        if len(calls) == 1:
            processor.pause()
            raise ConnectionError
        return item

    processor = BatchProcessor(process, retries=Retry(2, delay=0))
    processor.pause()
    run = Elsewhere(lambda: processor.run([7]))
    becomes(lambda: processor.status().current_batch == 1)
    assert calls == []
    processor.resume()
    becomes(lambda: len(calls) == 1 and processor.status().state == "paused")
    processor.resume()

    assert run.result().results == [7]


def test_stop_before_anything_begins() -> None:
    """What was never begun is neither successful nor failed."""
    processor = BatchProcessor(int)
    processor.pause()
    run = Elsewhere(lambda: processor.run(range(10)))
    becomes(lambda: processor.status().current_batch == 1)
    processor.stop()
    result = run.result()

    assert (result.total_processed, result.stopped) == (0, True)


@pytest.mark.parametrize("options", [{}, {"priority": int}], ids=["plain", "keyed"])
def test_stop_while_the_input_is_slow(options: Any) -> None:
    """A stop waits for the item that is being read, and not until a slow input has filled a batch."""
    read: list[int] = []

    def slowly() -> Iterator[int]:
        for number in itertools.count():
            if number == 20:
                processor.stop()
            clock.advance(1)
            read.append(number)
            yield number

    with FakeClock() as clock:
        processor = BatchProcessor(str, batch_size=1000, **options)
        result = processor.run(slowly())

    assert (result.total_processed, result.stopped) == (0, True)
    assert len(read) == 21


def test_quick_input_is_read_in_one_go() -> None:
    """What an input gives at once is taken at once; still no more than may be read ahead."""
    with FakeClock():
        result = process_batch(iter(range(10_000)), str, batch_size=64, max_concurrent=2)

    assert result.successful == list(range(10_000))
    assert result.total_batches == -(-10_000 // 64)


def test_stop_ends_waiting_retries() -> None:
    """An item that waits for another attempt fails with the error of its last one."""

    def fail(_: int) -> None:
        raise ConnectionError("last")

    with FakeClock() as clock:
        processor = BatchProcessor(fail, retries=Retry(None, delay=20, jitter="none"))
        run = Elsewhere(lambda: processor.run([1, 2]))
        clock.wait_for_sleepers(1)
        processor.stop()
        result = run.result()

    assert [(str(failed.error), failed.attempts) for failed in result.failed] == [("last", 1)] * len(result.failed)
    assert result.stopped


def test_pause_stop_and_status_without_a_run() -> None:
    """Where nothing runs they do no harm."""
    processor = BatchProcessor(int)
    assert processor.status() == Progress()
    processor.stop()
    processor.pause()
    processor.resume()

    assert processor.run(range(3)).results == [0, 1, 2]


def test_resume_while_a_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins just when another thread resumes doesn't stay paused, with nobody to resume it."""
    processor = BatchProcessor(str)
    processor.pause()
    in_between = [processor.resume]
    pause = Control.pause

    def pause_late(control: Control) -> None:
        while in_between:
            in_between.pop()()
        pause(control)

    monkeypatch.setattr(Control, "pause", pause_late)

    assert Elsewhere(lambda: processor.run(range(3))).result().results == ["0", "1", "2"]


# Progress


def test_progress_is_told_in_order_and_at_the_end() -> None:
    """Counts never go back, calls don't overlap, and the last one tells the end."""
    told: list[Progress] = []
    inside = threading.Lock()

    def note(progress: Progress) -> None:
        assert inside.acquire(blocking=False)
        told.append(progress)
        inside.release()

    with FakeClock() as clock, Hold(*range(0, 50, 10)) as hold:
        processor = BatchProcessor(hold, batch_size=10, max_concurrent=2, on_progress=note, max_failures=0)
        run = Elsewhere(lambda: processor.run(range(50)))
        hold.wait_for_inside(2)
        clock.wait_for_sleepers(1)
        clock.advance(1)
        becomes(lambda: len(told) == 1)
        hold.may_go.set()
        run.result()

    assert [progress.state for progress in told][-1] == "done"
    first, last = told[0], told[-1]
    assert (first.processed, first.pending, first.total_batches, first.eta) == (0, 50, 5, None)
    assert (last.processed, last.successful, last.failed, last.pending) == (50, 50, 0, 0)
    assert (last.current_batch, last.total_batches, last.elapsed, last.rate, last.eta) == (5, 5, 1.0, 50.0, 0.0)


def test_progress_inside_a_batch() -> None:
    """Items count as soon as they are processed, with their rate and the time that is left."""
    with FakeClock() as clock, Hold(6) as hold:

        def process(item: int) -> int:
            if item == 2:
                raise ValueError
            return int(hold(item))

        processor = BatchProcessor(process, total=20)
        run = Elsewhere(lambda: processor.run(iter(range(10))))
        hold.wait_for(6)
        clock.advance(2)
        status = processor.status()
        assert (status.processed, status.successful, status.failed, status.pending) == (6, 5, 1, 4)
        assert (status.rate, status.eta, status.total_batches, status.state) == (3.0, 4 / 3, 1, "running")
        hold.may_go.set()
        run.result()


def test_total_is_unknown() -> None:
    """Where nobody knows how many items come, there is no total and no ETA before the end."""
    with Hold() as hold:
        processor = BatchProcessor(hold, batch_size=2, max_concurrent=1)
        run = Elsewhere(lambda: processor.run(iter(range(100))))
        hold.wait_for(1)
        becomes(lambda: processor.status().current_batch == 2)
        status = processor.status()
        assert (status.total_batches, status.eta, status.pending) == (None, None, 4)
        hold.may_go.set()
        run.result()
        assert processor.status().total_batches == 50


def test_progress_is_told_ten_times_a_second_at_most() -> None:
    """However fast it goes, in any second there are no more calls than ten."""
    told: list[float] = []
    with FakeClock() as clock:

        def process(item: int) -> None:
            clock.advance(0.01)
            becomes(lambda: bool(clock._asleep()) or bool(told))

        process_batch(
            range(300), process, batch_size=1, max_concurrent=1, on_progress=lambda _: told.append(clock.monotonic())
        )

    assert len(told) > 1
    assert all(late - early > 1.0 for early, late in zip(told, told[10:], strict=False))


def test_hook_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """A hook that raises is logged and stops nothing."""

    def hook(_: Progress) -> None:
        raise SystemExit("hook")

    assert process_batch([1], int, on_progress=hook).results == [1]
    assert "on_progress raised" in caplog.text


def test_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """The bar shows how many are done and how many failed, and leaves no thread."""

    def process(item: int) -> float:
        return 1 / item

    process_batch(range(4), process, progress=True)

    assert "4/4" in capsys.readouterr().err


def test_bar_in_the_middle(capsys: pytest.CaptureFixture[str]) -> None:
    """A bar counts skipped items too, and is closed by the last call."""
    bar = Bar(10)
    bar(Progress(processed=3, successful=3, skipped=2, state="running"))
    bar(Progress(processed=5, successful=4, failed=1, skipped=2, state="done"))

    assert "7/10" in capsys.readouterr().err


def test_bar_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tqdm the error says what to install, before anything has begun."""
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)

    with pytest.raises(ModuleNotFoundError, match=r"thread-batcher\[progress\]"):
        process_batch([1], int, progress=True)


# The input


class DiskError(Exception):
    """What an input fails with."""


def failing_input(closed: list[str], count: int = 5) -> Iterator[int]:
    """Yield some numbers, then raise."""
    try:
        yield from range(count)
        raise DiskError("input")
    finally:
        closed.append("closed")


def test_input_that_raises() -> None:
    """What was read is processed, then the error is raised with the result so far."""
    closed: list[str] = []
    with pytest.raises(DiskError, match="input") as caught:
        process_batch(failing_input(closed), int, batch_size=3)

    result: BatchResult[int, list[int]] = caught.value.batch_result  # type: ignore[attr-defined]
    assert result.results == [0, 1, 2, 3, 4]
    assert closed == ["closed"]


def test_error_that_takes_no_result() -> None:
    """An error without room for an attribute is raised without one."""

    class SlotsError(Exception):
        def __setattr__(self, *_: object) -> None:
            raise AttributeError("frozen")

    def numbers() -> Iterator[int]:
        yield 1
        raise SlotsError

    with pytest.raises(SlotsError):
        process_batch(numbers(), int)


def test_generator_is_closed_on_stop() -> None:
    """A generator that isn't read to its end is closed, on the thread that read it."""
    closed: list[threading.Thread] = []

    def numbers() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(threading.current_thread())

    def process(item: int) -> None:
        if item == 10:
            processor.stop()

    processor = BatchProcessor(process, batch_size=1)
    source = numbers()
    assert processor.run(source).stopped
    assert closed == [threading.current_thread()]


def test_slow_input_holds_up_nothing_else() -> None:
    """While the input keeps the caller waiting, items time out, are tried again and are told."""
    more = threading.Event()
    tries: list[int] = []

    def numbers() -> Iterator[int]:
        yield from (0, 1)
        assert more.wait(SECONDS)
        yield 2

    def process(item: int) -> int:
        tries.append(item)
        if item == 1 and tries.count(1) == 1:
            raise ConnectionError
        return int(hold(item))

    with FakeClock() as clock, Hold(0) as hold:
        processor = BatchProcessor(process, batch_size=1, max_concurrent=3, timeout=5, retries=Retry(2, delay=0))
        run = Elsewhere(lambda: processor.run(numbers()))
        hold.wait_for(2)
        clock.wait_for_sleepers(1)
        clock.advance(5)
        becomes(lambda: processor.status().processed == 2)
        assert processor.status().failed == 1
        assert tries.count(1) == 2
        more.set()
        assert run.result().results == [1, 2]


# Ctrl-C


@pytest.mark.parametrize("hangs", [False, True], ids=["finishes", "hangs"])
def test_ctrl_c(*, hangs: bool) -> None:
    """Ctrl-C gets out within a second; what runs finishes or is given up, and nothing new begins."""
    with Hold() as hold:

        def interrupt_when_it_runs() -> None:
            hold.wait_for_inside(2)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            if not hangs:
                becomes(lambda: processor.status().state == "stopping")
                hold.may_go.set()

        processor = BatchProcessor(hold, batch_size=5, max_concurrent=2)
        Elsewhere(interrupt_when_it_runs)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt) as caught:
            processor.run(itertools.count())
        assert time.monotonic() - began < 1.5

        result: BatchResult[int, list[int]] = caught.value.batch_result  # type: ignore[attr-defined]
        assert result.stopped
        assert len(result.results) == (0 if hangs else 2)
        hold.may_go.set()
        hold.wait_for_inside(0)
        for thread in hold.threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        assert len(hold.begun) == 2


def test_ctrl_c_while_an_item_waits_for_its_retry() -> None:
    """An item that has failed and would be tried again is reported with its error."""
    with Hold(1) as hold:

        def process(item: int) -> Any:
            if item == 0:
                raise ConnectionError
            return hold(item)

        def numbers() -> Iterator[int]:
            yield from (0, 1)
            hold.wait_for(1)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as caught:
            process_batch(numbers(), process, batch_size=2, retries=Retry(5, delay=20))
    result: BatchResult[int, list[int]] = caught.value.batch_result  # type: ignore[attr-defined]
    assert [(failed.item, failed.attempts) for failed in result.failed] == [(0, 1)]


def test_ctrl_c_at_every_place() -> None:
    """Wherever Ctrl-C comes up in the caller, no thread is left, the input is closed, and nothing hangs."""
    before = threading.active_count() + 1
    closed: list[int] = []

    def numbers() -> Generator[int, None, None]:
        try:
            yield from range(3)
        finally:
            closed.append(1)

    def run(place: int) -> str | None:
        source = numbers()
        next(source)
        where = interrupt(lambda: process_batch(source, int, batch_size=1, max_concurrent=1), press_ctrl_c, place)
        becomes(lambda: threading.active_count() <= before)
        source.close()
        assert len(closed) == place + 1
        return where

    assert at_each_place(run, seconds=50) > 50


def test_ctrl_c_on_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before anybody was told to stop doesn't keep them from being told."""
    leave = Conductor.leave
    interrupted: list[Conductor] = []

    def leave_or_not(conductor: Conductor, *arguments: float) -> None:
        if conductor not in interrupted:
            interrupted.append(conductor)
            raise KeyboardInterrupt
        leave(conductor, *arguments)

    monkeypatch.setattr(Conductor, "leave", leave_or_not)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        process_batch(range(3), int)
    stream = BatchProcessor(int).stream(itertools.count())
    next(stream)
    with pytest.raises(KeyboardInterrupt):
        stream.close()
    assert threading.active_count() == before
    assert len(interrupted) == 2


# Minutes, where other programs keep the disk: each of hundreds of runs commits.
@pytest.mark.stress
# A connection that Ctrl-C keeps from being stored is closed as it is dropped; Python 3.13 warns of that.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_at_every_place_with_a_checkpoint(tmp_path: Path) -> None:
    """Wherever Ctrl-C comes up in the caller, the checkpoint can be taken up again, and has what it has."""
    before = threading.active_count() + 1

    def run(place: int) -> str | None:
        path = tmp_path / str(place)
        options: Any = {"batch_size": 1, "checkpoint": path, "item_key": str}
        stream = BatchProcessor(int, **options).stream(range(3))

        def take_two_of_three() -> None:
            next(stream)
            next(stream)
            stream.close()

        where = interrupt(take_two_of_three, press_ctrl_c, place)
        stream.close()
        gc.collect()  # the watcher keeps frames, one of them a connection's statements, and those the file
        becomes(lambda: threading.active_count() <= before)
        result = process_batch(range(3), int, **options)
        assert result.skipped + result.total_processed == 3
        assert result.results == [0, 1, 2][result.skipped :]
        return where

    assert at_each_place(run, seconds=600) > 50


def test_run_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the caller hears so, and nothing is left behind."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    closed: list[str] = []
    source = failing_input(closed)
    next(source)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            process_batch(source, int)
    assert closed == ["closed"]


def starts_at_most(count: int) -> Callable[[threading.Thread], None]:
    """Return a `Thread.start` that refuses from some thread on."""
    start = threading.Thread.start
    left = [count]

    def start_or_refuse(thread: threading.Thread) -> None:
        if not thread.name.startswith("batcher-"):
            start(thread)
            return
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    return start_or_refuse


def test_fewer_threads_than_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives one worker, that one does all; where it gives none, the run ends with the error."""
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", starts_at_most(2))
        assert process_batch(range(100), int, batch_size=1).results == list(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", starts_at_most(1))
        with pytest.raises(RuntimeError, match="can't start new thread") as caught:
            process_batch(range(100), int, batch_size=1)
    assert caught.value.batch_result.total_processed == 0  # type: ignore[attr-defined]


def test_hung_hook_holds_up_no_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conductor that hangs in a hook is left behind by a caller who is interrupted."""
    may_go, is_in = threading.Event(), threading.Event()

    def hook(_: Progress) -> None:
        is_in.set()
        assert may_go.wait(SECONDS)

    def numbers() -> Iterator[int]:
        yield 1
        assert is_in.wait(SECONDS)
        raise KeyboardInterrupt

    monkeypatch.setattr("batcher._progress._PERIOD", 0.0)
    with pytest.raises(KeyboardInterrupt):
        process_batch(numbers(), int, batch_size=1, on_progress=hook)
    may_go.set()


def test_nothing_survives_a_run() -> None:
    """When a run returns, its threads have ended."""
    before = threading.active_count()
    process_batch(range(100), int, batch_size=1, max_concurrent=8)

    assert threading.active_count() == before


def test_leave_before_the_start() -> None:
    """A run that was never started has nothing to leave."""
    run = BulkRun([1], BatchProcessor(int)._settings, streams=False)
    run._leave()

    assert run.progress().processed == 0
