"""`process_batch`: every item is processed, fails alone, and stands at its place in the result."""

import contextvars
import functools
import gc
import inspect
import itertools
import re
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from batcher import BatchProcessor, BatchResult, FailedItem, MissingResultError, ResultShapeError, Retry, process_batch
from batcher._bulk import BulkOptions
from batcher.testing import FakeClock
from tests.bulk_tools import SECONDS, Elsewhere, Hold


def reciprocal(number: int) -> float:
    """Fail for 0."""
    return 1 / number


def test_results_in_order_of_input() -> None:
    """Results and items stand in the order of the input."""
    result = process_batch(range(1000), lambda n: n * n, batch_size=7, max_concurrent=3)

    assert result.successful == list(range(1000))
    assert result.results == [n * n for n in range(1000)]
    assert result.failed == []
    assert (result.total_processed, result.total_batches, result.skipped, result.stopped) == (1000, 143, 0, False)
    assert result.processing_time > 0


def test_order_survives_whatever_finishes_first() -> None:
    """A batch that ends last still comes first."""
    with Hold(0) as hold:
        run = Elsewhere(lambda: process_batch(range(9), hold, batch_size=1, max_concurrent=3))
        hold.wait_for(4)
        hold.may_go.set()
        assert run.result().results == list(range(9))


def test_no_items() -> None:
    """Nothing in, nothing out."""
    result = process_batch(list[int](), reciprocal)

    assert (result.successful, result.results, result.failed, result.total_batches) == ([], [], [], 0)


def test_failed_item_fails_alone() -> None:
    """An item that fails is reported with its error; its neighbours succeed."""
    result = process_batch([1, 0, 2, 0, 4], reciprocal, batch_size=2)

    assert result.successful == [1, 2, 4]
    assert result.results == [1.0, 0.5, 0.25]
    assert [(failed.item, type(failed.error), failed.attempts) for failed in result.failed] == [
        (0, ZeroDivisionError, 1),
        (0, ZeroDivisionError, 1),
    ]
    assert result.total_processed == 5


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
@pytest.mark.parametrize("options", [{}, {"timeout": 60.0}], ids=["bare", "careful"])
def test_any_exception_fails_its_item(kind: type[BaseException], options: Any) -> None:
    """Even what isn't an Exception fails one item and nothing else."""

    def process(item: int) -> int:
        if item == 2:
            raise kind("bad")
        return item

    result = process_batch(range(5), process, batch_size=2, max_concurrent=1, **options)

    assert result.results == [0, 1, 3, 4]
    assert [(failed.item, type(failed.error)) for failed in result.failed] == [(2, kind)]


def test_stop_iteration_becomes_runtime_error() -> None:
    """An error that would silently end the loop of whoever raises it again comes as RuntimeError."""
    result = process_batch([1], lambda _: next(iter(())))

    assert type(result.failed[0].error) is RuntimeError
    assert isinstance(result.failed[0].error.__cause__, StopIteration)


def test_returned_exception_is_a_result() -> None:
    """What the function of an item returns is its result, whatever it is."""
    error = ValueError("returned")

    assert process_batch([1], lambda _: error).results == [error]


@pytest.mark.parametrize("max_concurrent", [1, 3])
def test_batches_at_once(max_concurrent: int) -> None:
    """So many batches run at once, and never one more."""
    with Hold() as hold:
        run = Elsewhere(lambda: process_batch(range(20), hold, batch_size=2, max_concurrent=max_concurrent))
        hold.wait_for_inside(max_concurrent)
        hold.may_go.set()
        run.result()
        assert hold.most == max_concurrent
        assert len(hold.threads) <= max_concurrent
        assert all(thread.daemon for thread in hold.threads)


def test_reading_is_bounded() -> None:
    """Of an endless input no more is read than may be under way."""
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    with Hold() as hold:
        processor = BatchProcessor(hold, batch_size=3, max_concurrent=2)
        run = Elsewhere(lambda: processor.run(numbers()))
        hold.wait_for_inside(2)
        with hold._changed:
            assert hold._changed.wait_for(lambda: len(read) == 9, SECONDS)
        processor.stop()
        hold.may_go.set()
        result = run.result()

    assert (len(read), result.stopped, result.results) == (9, True, [0, 3])


def test_empty_context() -> None:
    """No caller's context variables reach the processor, and no batch's another batch."""
    user = contextvars.ContextVar("user", default="nobody")
    user.set("the caller")

    def process(item: int) -> str:
        before = user.get()
        user.set(str(item))
        return before

    assert process_batch(range(3), process, batch_size=1, max_concurrent=1).results == ["nobody"] * 3


# Whole batches


def test_batch_function() -> None:
    """A batch function gets lists of its own; its results are matched in order."""
    sizes: list[int] = []

    def double(items: list[int]) -> list[int]:
        sizes.append(len(items))
        results = [2 * item for item in items]
        items.clear()
        return results

    result = process_batch(range(10), batch_processor=double, batch_size=4, max_concurrent=1)

    assert result.results == list(range(0, 20, 2))
    assert result.successful == list(range(10))
    assert sizes == [4, 4, 2]


def ignore(items: list[int]) -> None:
    """Do nothing with a batch."""


def test_batch_function_that_returns_a_mapping_or_nothing() -> None:
    """A mapping is looked up by item, and a missing key fails its item alone; None is every item's result."""
    mapped = process_batch([1, 2, 3], batch_processor=lambda items: {item: str(item) for item in items if item != 2})
    nothing = process_batch([1, 2], batch_processor=ignore)

    assert mapped.results == ["1", "3"]
    assert [(failed.item, type(failed.error)) for failed in mapped.failed] == [(2, MissingResultError)]
    assert nothing.results == [None, None]


def test_batch_function_that_fails() -> None:
    """Raising, or an answer of another shape, fails the batch; each item has an error object of its own."""

    def process(items: list[int]) -> Any:
        if 0 in items:
            raise ValueError("bad")
        return items[1:] if 2 in items else [ValueError("alone"), *items[1:]]

    result = process_batch(range(6), batch_processor=process, batch_size=2)

    assert [type(failed.error) for failed in result.failed] == [
        ValueError,
        ValueError,
        ResultShapeError,
        ResultShapeError,
        ValueError,
    ]
    assert result.failed[0].error is not result.failed[1].error
    assert result.successful == [5]


# Retries


def flaky(times: int) -> tuple[Callable[[int], int], dict[int, int]]:
    """Return a function that fails so often for each odd item, and the count of its calls by item."""
    calls: dict[int, int] = {}
    lock = threading.Lock()

    def process(item: int) -> int:
        with lock:
            calls[item] = calls.get(item, 0) + 1
        if item % 2 and calls[item] <= times:
            raise ConnectionError(item)
        return item

    return process, calls


def test_only_failed_items_are_tried_again() -> None:
    """A number of retries is that of extra attempts; what succeeded isn't called again."""
    process, calls = flaky(2)
    result = process_batch(range(10), process, batch_size=5, retries=Retry(3, delay=0))

    assert result.results == list(range(10))
    assert result.total_batches == 2
    assert calls == {item: 1 + 2 * (item % 2) for item in range(10)}


def test_attempts_are_counted() -> None:
    """What fails for good says how often it was tried."""
    process, _ = flaky(99)
    result = process_batch(range(4), process, retries=Retry(3, delay=0))

    assert [(failed.item, failed.attempts) for failed in result.failed] == [(1, 3), (3, 3)]
    assert result.results == [0, 2]


def test_batch_function_gets_what_failed_again() -> None:
    """Of a batch that failed in part only those items are handed in again, together."""
    calls: list[list[int]] = []

    def process(items: list[int]) -> list[Any]:
        calls.append(list(items))
        return [ValueError(item) if item % 2 and len(calls) == 1 else item for item in items]

    result = process_batch(range(5), batch_processor=process, retries=Retry(2, delay=0.05))

    assert calls == [[0, 1, 2, 3, 4], [1, 3]]
    assert result.results == [0, 1, 2, 3, 4]


def test_waiting_for_a_retry_holds_no_slot() -> None:
    """While an item waits, its thread does other batches; it is tried again when it is due."""
    process, calls = flaky(1)
    with FakeClock() as clock:
        processor = BatchProcessor(process, batch_size=2, max_concurrent=1, retries=Retry(2, delay=20, jitter="none"))
        run = Elsewhere(lambda: processor.run(range(4)))
        # The first batch waits, and so does the second: both have been done by the one thread.
        processed = threading.Event()
        while processor.status().processed < 2:
            processed.wait(0.001)
        clock.wait_for_sleepers(1)
        assert calls == {0: 1, 1: 1, 2: 1, 3: 1}
        clock.advance(19)
        clock.wait_for_sleepers(1)
        assert calls[1] == 1
        clock.advance(1)
        result = run.result()

    assert result.results == [0, 1, 2, 3]
    assert calls == {0: 1, 1: 2, 2: 1, 3: 2}


def test_policy_that_raises_ends_the_item(caplog: pytest.LogCaptureFixture) -> None:
    """A retry policy that fails fails no more than its item, and is logged."""

    class Broken:
        def wait_after(self, error: BaseException, *, attempts: int, elapsed: float) -> float | None:
            raise RuntimeError("policy")

    result = process_batch([0, 1], reciprocal, retries=Broken())

    assert [(failed.item, failed.attempts) for failed in result.failed] == [(0, 1)]
    assert "the retry policy raised" in caplog.text


# Limits, preparation, folding, priority


@pytest.mark.parametrize("batch", [1, 100])
def test_max_failures_stops_at_once(batch: int) -> None:
    """One failure more than allowed ends the run at that very item."""
    result = process_batch([0] * 1000, reciprocal, max_failures=10, batch_size=batch, max_concurrent=1)

    assert len(result.failed) == 11
    assert result.stopped


def test_max_failures_that_are_not_passed() -> None:
    """As many failures as allowed stop nothing."""
    result = process_batch([0, 1] * 10, reciprocal, max_failures=10)

    assert (len(result.failed), result.stopped) == (10, False)


def test_max_failures_as_a_part() -> None:
    """A part is one of all items where they can be counted, else of those processed, from one batch on."""
    of_all = process_batch([0] * 100, reciprocal, max_failures=0.1, batch_size=5, max_concurrent=1)
    of_so_far = process_batch(
        (n % 2 for n in itertools.count()), reciprocal, max_failures=0.4, batch_size=10, max_concurrent=1
    )
    few = process_batch(iter([0, 1]), reciprocal, max_failures=0.1, batch_size=10)

    assert (len(of_all.failed), of_all.stopped) == (11, True)
    assert of_so_far.stopped
    assert of_so_far.total_processed >= 10
    assert not few.stopped


def test_prepare() -> None:
    """Each batch is prepared once, in the worker; the items are reported as they came."""
    threads: set[threading.Thread] = set()

    def prepare(items: list[int]) -> list[int]:
        threads.add(threading.current_thread())
        return [item - 2 for item in items]

    result = process_batch(range(4), reciprocal, batch_size=2, prepare=prepare, retries=Retry(3, delay=0))

    assert result.successful == [0, 1, 3]
    assert result.results == [-0.5, -1.0, 1.0]
    assert [(failed.item, failed.attempts) for failed in result.failed] == [(2, 3)]
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("answer", [None, [1], "ab", iter([1, 2])], ids=["none", "short", "str", "iterator"])
def test_prepare_of_another_shape(answer: Any) -> None:
    """What prepare returns must be a list of as many items; else the batch fails."""
    result = process_batch([1, 2], reciprocal, prepare=lambda _: answer)

    assert [type(failed.error) for failed in result.failed] == [ResultShapeError] * 2


def test_prepare_is_tried_again() -> None:
    """A batch whose preparation failed is prepared anew for the next attempt."""
    calls: list[list[int]] = []

    def prepare(items: list[int]) -> list[int]:
        calls.append(items)
        if len(calls) == 1:
            raise ConnectionError
        return items

    result = process_batch([1, 2], reciprocal, prepare=prepare, retries=Retry(2, delay=0.05))

    assert result.results == [1.0, 0.5]
    assert calls == [[1, 2]] * 2


def test_reduce() -> None:
    """Results are folded into one value, which stands in their place; failed items add nothing."""
    result = process_batch([1, 0, 2, 4], reciprocal, reduce=(lambda total, value: total + value, 10.0))

    assert result.results == 11.75
    assert result.successful == [1, 2, 4]


def test_reduce_with_a_priority() -> None:
    """Items stand in the order of the input, whatever the order in which they were folded."""
    result = process_batch([1, 3, 2], str, reduce=(lambda text, value: text + value, ""), priority=int)

    assert (result.results, result.successful) == ("321", [1, 3, 2])


def test_reduce_that_raises() -> None:
    """Without a result the value would be wrong: the run ends, and raises with what it has."""

    def fold(total: int, value: float) -> int:
        raise LookupError("fold")

    with pytest.raises(LookupError, match="fold") as caught:
        process_batch([1, 2], reciprocal, reduce=(fold, 0))

    assert isinstance(caught.value.batch_result, BatchResult)  # type: ignore[attr-defined]
    assert caught.value.batch_result.stopped  # type: ignore[attr-defined]


def test_priority_of_a_list() -> None:
    """Of a list the highest come first, equal ones in order; the result stands in the order of the input."""
    begun: list[int] = []

    def process(item: int) -> int:
        begun.append(item)
        return item

    items = [5, 1, 9, 12, 7, 3, 19, 8]
    result = process_batch(items, process, priority=lambda item: item // 10, batch_size=2, max_concurrent=1)

    assert begun == [12, 19, 5, 1, 9, 7, 3, 8]
    assert result.successful == result.results == items


def test_priority_of_a_lazy_input() -> None:
    """Of other input the highest come first among those that may be read ahead, which are never more."""
    begun: list[int] = []
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(12):
            read.append(number)
            yield number

    def process(item: int) -> int:
        begun.append(item)
        assert len(read) - (len(begun) - 1) // 2 * 2 <= 4
        return item

    result = process_batch(numbers(), process, priority=lambda item: item, batch_size=2, max_concurrent=1)

    assert not result.failed
    assert begun[:4] == [3, 2, 5, 4]
    assert result.results == list(range(12))


def test_priority_that_raises() -> None:
    """An item whose priority can't be had fails, the others don't; priorities without an order end the input."""
    result = process_batch([1, 2, 3], lambda item: item, priority=lambda item: 1 / (item - 2), batch_size=1)

    assert result.results == [1, 3]
    assert [(failed.item, failed.attempts) for failed in result.failed] == [(2, 0)]

    with pytest.raises(TypeError) as caught:
        process_batch([1, 2, 3], lambda item: item, priority=lambda item: "x" if item == 2 else item)
    assert caught.value.batch_result.results == [1, 2, 3]  # type: ignore[attr-defined]


# Memory


class Payload:
    """Something whose end can be seen."""


@pytest.mark.parametrize(
    "options", [{}, {"retries": Retry(2, delay=0)}, {"prepare": list}], ids=["bare", "careful", "p"]
)
@pytest.mark.parametrize("mode", ["processor", "batch_processor", "prepare"])
def test_kept_error_keeps_nothing_else(mode: str, options: dict[str, Any]) -> None:
    """Whoever keeps an error keeps neither the neighbours of its item nor what the function had, without gc."""

    def process(given: Any) -> None:
        local = Payload()
        seen.append(weakref.ref(local))
        raise ValueError("kept")

    seen: list[weakref.ref[Payload]] = []
    function: Any = process
    gc.disable()
    try:
        items = [Payload() for _ in range(3)]
        seen += map(weakref.ref, items)
        arguments: dict[str, Any] = {mode: function} | ({"processor": id} if mode == "prepare" else {})
        result = process_batch(items, **(options | arguments))
        errors = [failed.error for failed in result.failed]
        assert len(errors) == 3
        del items, result
        assert [ref() for ref in seen] == [None] * len(seen)
    finally:
        gc.enable()


def test_processor_keeps_nothing_of_a_run() -> None:
    """Between two runs a processor holds neither items nor results."""
    processor = BatchProcessor[Payload, Payload](lambda _: Payload())
    gc.disable()
    try:
        items = [Payload()]
        result = processor.run(items)
        seen = [weakref.ref(items[0]), weakref.ref(result.results[0])]
        del items, result
        assert [ref() for ref in seen] == [None, None]
    finally:
        gc.enable()
    assert processor.status().processed == 1


def test_several_runs_at_once() -> None:
    """Runs of one processor have nothing in common; the status is that of the latest."""
    with Hold(1, 2) as hold:
        processor = BatchProcessor(hold)
        first = Elsewhere(lambda: processor.run([1]))
        hold.wait_for(1)
        second = Elsewhere(lambda: processor.run([2, 3]))
        hold.wait_for(2)
        hold.may_go.set()
        assert (first.result().results, second.result().results) == ([1], [2, 3])
    assert processor.status().processed == 2


def test_status_stays_with_the_latest_run() -> None:
    """The end of an earlier run changes nothing of the status of a later one."""
    one, two = Hold(), Hold()
    with one, two:
        processor = BatchProcessor[int, int](lambda item: int((one, two)[item](item)))
        first = Elsewhere(lambda: processor.run([0]))
        one.wait_for(1)
        second = Elsewhere(lambda: processor.run([1]))
        two.wait_for(1)
        one.may_go.set()
        first.result()
        assert (processor.status().state, processor.status().processed) == ("running", 0)
        two.may_go.set()
        second.result()


# Options


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"batch_size": 0}, ValueError),
        ({"batch_size": 1.5}, TypeError),
        ({"max_concurrent": 0}, ValueError),
        ({"delay": -1}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"retries": -1}, ValueError),
        ({"retries": "1"}, TypeError),
        ({"on_progress": 1}, TypeError),
        ({"progress": 1}, TypeError),
        ({"total": -1}, ValueError),
        ({"total": 1.0}, TypeError),
        ({"executor": object()}, TypeError),
        ({"max_failures": -1}, ValueError),
        ({"max_failures": 1.5}, ValueError),
        ({"max_failures": float("nan")}, ValueError),
        ({"max_failures": True}, TypeError),
        ({"priority": 1}, TypeError),
        ({"prepare": 1}, TypeError),
        ({"reduce": sum}, TypeError),
        ({"reduce": (1, 2)}, TypeError),
        ({"item_key": str}, ValueError),
        ({"checkpoint": "x"}, ValueError),
        ({"name": 1}, TypeError),
        ({"batch_processor": list}, TypeError),
    ],
    ids=repr,
)
def test_bad_options(options: dict[str, Any], error: type[Exception]) -> None:
    """A bad option is refused when the processor is made, with what was received."""
    with pytest.raises(error, match=r"must|need"):
        BatchProcessor(reciprocal, **options)


def test_one_function_is_needed() -> None:
    """Without any function there is nothing to do."""
    with pytest.raises(TypeError, match="one of processor and batch_processor"):
        BatchProcessor()


def test_delay_is_for_single_items() -> None:
    """Between what a batch function does with its items nobody can wait: it is refused, and not ignored."""
    with pytest.raises(ValueError, match="delay is for a processor of single items, got"):
        BatchProcessor(batch_processor=list, delay=0.5)

    assert BatchProcessor(batch_processor=print, delay=0).run([]).total_processed == 0


def test_coroutine_functions_are_refused() -> None:
    """A function whose calls do nothing yet would let every item seem to succeed."""

    async def later(item: int) -> int:
        return item

    async def one_by_one(item: int) -> AsyncIterator[int]:
        yield item

    class Later:
        async def __call__(self, item: int) -> int:
            return item

    functions: list[Callable[[int], object]] = [later, one_by_one, functools.partial(later), Later()]
    for function in functions:
        with pytest.raises(TypeError, match="processor must be a function that does its work when it is called"):
            BatchProcessor(function)


def test_help_tells_of_each_option() -> None:
    """What `help(process_batch)` shows has all options, each with its default."""
    documentation = process_batch.__doc__ or ""
    defaults = inspect.signature(BatchProcessor).parameters
    told = re.findall(r"- `(\w+)=(\S+)`: ", documentation)

    assert told == [(name, repr(defaults[name].default)) for name in BulkOptions.__annotations__]


def test_items_must_be_iterable() -> None:
    """What isn't iterable is refused at once."""
    items: Any = 5
    with pytest.raises(TypeError):
        process_batch(items, reciprocal)


def test_failed_item_is_a_record() -> None:
    """Failed items are frozen."""
    failed: Any = FailedItem("x", ValueError(), 1)
    with pytest.raises(AttributeError):
        failed.item = "y"
