"""`BatchProcessor.stream`: outcomes as they come, in bounded memory."""

import itertools
import threading
import tracemalloc
from collections.abc import Iterator

import pytest

from batcher import BatchProcessor, Outcome, Retry
from tests.bulk_tools import Elsewhere, Hold, becomes


def reciprocal(number: int) -> float:
    """Fail for 0."""
    return 1 / number


def test_outcomes() -> None:
    """Each item yields one outcome, with its place in the input, its result or error, and its attempts."""
    processor = BatchProcessor(reciprocal, batch_size=2, max_concurrent=1, retries=Retry(2, delay=0))
    good, bad, last = sorted(processor.stream(iter([1, 0, 4])), key=lambda outcome: outcome.index)

    assert good == Outcome(index=0, item=1, ok=True, result=1.0, error=None, attempts=1)
    assert (bad.index, bad.item, bad.ok, bad.result, type(bad.error), bad.attempts) == (
        1,
        0,
        False,
        None,
        ZeroDivisionError,
        2,
    )
    assert last == Outcome(index=2, item=4, ok=True, result=0.25, error=None, attempts=1)
    assert processor.status().processed == 3


def test_attempts_of_a_success() -> None:
    """A success after failures says how many attempts it took."""
    calls: list[int] = []

    def process(item: int) -> int:
        calls.append(item)
        if len(calls) < 3:
            raise ConnectionError
        return item

    (outcome,) = BatchProcessor(process, retries=Retry(5, delay=0)).stream([7])
    assert (outcome.result, outcome.attempts) == (7, 3)


def test_outcomes_come_as_they_are_ready() -> None:
    """A batch that takes longer holds up no other."""
    with Hold(0) as hold:
        stream = BatchProcessor(hold, batch_size=2, max_concurrent=2).stream(range(6))
        assert [next(stream).item for _ in range(4)] == [2, 3, 4, 5]
        hold.may_go.set()
        assert [outcome.item for outcome in stream] == [0, 1]


def test_ordered() -> None:
    """In an ordered stream it does, and the items come in the order of the input."""
    with Hold(0) as hold:
        stream = BatchProcessor(hold, batch_size=2, max_concurrent=2).stream(range(20), ordered=True)
        first = Elsewhere(lambda: next(stream))
        hold.wait_for(5)
        assert not first.is_done
        hold.may_go.set()
        assert first.result().item == 0
        assert [outcome.item for outcome in stream] == list(range(1, 20))


def test_ordered_with_retries() -> None:
    """An item that is tried again keeps its place."""
    tried: set[int] = set()

    def process(item: int) -> int:
        if item % 3 == 0 and item not in tried:
            tried.add(item)
            raise ConnectionError
        return item

    processor = BatchProcessor(process, batch_size=4, retries=Retry(2, delay=0.001))
    assert [outcome.item for outcome in processor.stream(range(50), ordered=True)] == list(range(50))


@pytest.mark.parametrize("ordered", [False, True])
def test_reading_waits_for_the_caller(*, ordered: bool) -> None:
    """No more is read than may be under way, however long the caller takes with an outcome."""
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    processor = BatchProcessor(int, batch_size=3, max_concurrent=2)
    stream = processor.stream(numbers(), ordered=ordered)
    for taken in range(1, 100):
        assert next(stream).ok
        assert len(read) <= taken + 3 * 3 + 2
    processor.stop()
    rest = list(stream)
    assert len(rest) + 99 <= len(read)


def test_closing_ends_the_run() -> None:
    """Closing the generator stops the workers, closes the input, and leaves no thread."""
    before = threading.active_count()
    closed: list[bool] = []

    def numbers() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    stream = BatchProcessor(int, batch_size=2).stream(numbers())
    next(stream)
    stream.close()

    assert closed == [True]
    assert threading.active_count() == before


def test_dropped_stream_ends_the_run() -> None:
    """A stream that is dropped ends as one that is closed."""
    before = threading.active_count()
    for outcome in BatchProcessor(int, batch_size=2).stream(itertools.count()):
        assert outcome.ok
        break

    assert threading.active_count() == before


def test_closing_gives_up_what_hangs() -> None:
    """A call that hangs holds up the closing for half a second at most."""
    with Hold(3) as hold:
        stream = BatchProcessor(hold, batch_size=1).stream(range(10))
        next(stream)
        hold.wait_for(4)
        closing = Elsewhere(stream.close)
        closing.result()
        assert hold.inside == 1


def test_stop_yields_what_is_done() -> None:
    """After a stop the stream yields what has ended, and ends itself."""
    with Hold(5) as hold:
        processor = BatchProcessor(hold, batch_size=4, max_concurrent=2)
        stream = processor.stream(itertools.count(), ordered=True)
        first = [next(stream).item for _ in range(4)]
        hold.wait_for(6)
        rest = Elsewhere(lambda: [outcome.item for outcome in stream])
        becomes(lambda: processor.status().processed >= 9)
        processor.stop()
        hold.may_go.set()
        taken = rest.result()

    assert first == [0, 1, 2, 3]
    assert taken == sorted(taken)
    assert taken[:2] == [4, 5]


def test_input_that_raises() -> None:
    """What was read is yielded, then the input's error is raised."""

    def numbers() -> Iterator[int]:
        yield from range(5)
        raise LookupError("input")

    stream = BatchProcessor(int, batch_size=2).stream(numbers())
    assert sorted(next(stream).index for _ in range(5)) == list(range(5))
    with pytest.raises(LookupError, match="input"):
        next(stream)


def test_nothing_runs_before_the_first_outcome_is_asked_for() -> None:
    """A stream that nobody reads starts no thread."""
    before = threading.active_count()
    stream = BatchProcessor(int).stream([1])

    assert threading.active_count() == before
    del stream


def test_reduce_is_refused() -> None:
    """A stream has no place for a folded value."""
    with pytest.raises(ValueError, match="no results to reduce"):
        BatchProcessor(int, reduce=(max, 0)).stream([1])


def test_memory_stays_flat() -> None:
    """A hundred thousand streamed items take no more memory than ten thousand."""
    stream = BatchProcessor(int).stream(itertools.count(10**9))
    tracemalloc.start()
    try:
        for _ in itertools.islice(stream, 10_000):
            pass
        early = tracemalloc.get_traced_memory()[0]
        for _ in itertools.islice(stream, 100_000):
            pass
        late = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        stream.close()
    assert late - early < 100_000


def test_slow_caller_holds_up_no_timeout() -> None:
    """While the caller is busy elsewhere, an item that hangs is given up all the same."""
    with Hold(1) as hold:
        processor = BatchProcessor(hold, batch_size=1, max_concurrent=2, timeout=0.05)
        stream = processor.stream(range(3))
        assert next(stream).item == 0
        hold.wait_for(2)
        becomes(lambda: processor.status().failed == 1)
        assert sorted((outcome.item, outcome.ok) for outcome in stream) == [(1, False), (2, True)]
