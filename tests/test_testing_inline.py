"""What users are promised of `batcher.testing.inline`: handlers run in the calling thread, whatever the batcher is."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Batcher, BatchRecord, FlushReport, QueueFullError, _flusher, batched
from batcher.testing import FakeClock, RecordingHandler, inline
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._line import Line

make = stage.make


class Witness(RecordingHandler):
    """A handler that also keeps on which threads it ran."""

    def __init__(self, answer: Callable[[list[Any]], object] | None = None) -> None:
        """Answer as a RecordingHandler."""
        super().__init__(answer)
        self.threads: set[threading.Thread] = set()

    def __call__(self, items: list[Any]) -> Any:
        """Note the thread."""
        self.threads.add(threading.current_thread())
        return super().__call__(items)

    def only_ran_here(self) -> bool:
        """Say whether all calls ran on the thread that asks."""
        return self.threads == {threading.current_thread()}


def negate(numbers: list[int]) -> list[int]:
    """Answer with something that depends on the item."""
    return [-number for number in numbers]


def test_handler_runs_in_the_calling_thread() -> None:
    """An add returns a settled future, and no thread was started for it."""
    handler = Witness(negate)
    before = threading.active_count()
    with inline(), Batcher(handler, max_delay=3600.0) as batcher:
        assert batcher.add(1).result(0) == -1
        assert batcher.add(2, timeout=1.0).done()
        batcher.put(3)

        assert handler.batches == [[1], [2], [3]]
        assert handler.only_ran_here()
        assert threading.active_count() == before


def test_errors_come_at_once() -> None:
    """What the handler raises is in the future when add returns; the hooks run in the calling thread too."""

    def fail(items: list[int]) -> list[int]:
        raise LookupError(len(items))

    heard: list[tuple[threading.Thread, str]] = []
    records: list[BatchRecord] = []
    with (
        inline(),
        Batcher(
            fail,
            on_error=lambda error, items: heard.append((threading.current_thread(), repr(error))),
            on_batch=records.append,
        ) as batcher,
    ):
        future = batcher.add(1)
        with pytest.raises(LookupError):
            future.result(0)

    assert heard == [(threading.current_thread(), "LookupError(1)")]
    assert [record.failed for record in records] == [1]


def test_add_many_keeps_the_cap() -> None:
    """Many items go in batches of the usual size, all before add_many returns."""
    handler = Witness(negate)
    with inline(), Batcher(handler, max_batch_size=2) as batcher:
        futures = batcher.add_many([1, 2, 3, 4, 5])

        assert [future.result(0) for future in futures] == [-1, -2, -3, -4, -5]
    assert handler.batches == [[1, 2], [3, 4], [5]]


def test_more_than_there_is_room_for() -> None:
    """Where a producer would wait for room, it makes room itself."""
    handler = Witness(negate)

    def produce() -> list[int]:
        with inline(), Batcher(handler, max_pending=2, max_batch_size=2) as batcher:
            return [future.result(0) for future in batcher.add_many([1, 2, 3, 4, 5])]

    # In a thread of its own, because a producer that waits here waits for ever.
    results: list[int] = []
    producer = threading.Thread(target=lambda: results.extend(produce()), daemon=True)
    producer.start()
    producer.join(5.0)

    assert results == [-1, -2, -3, -4, -5]
    assert handler.items == [1, 2, 3, 4, 5]
    assert max(map(len, handler.batches)) == 2


def test_map_is_lazy_and_inline() -> None:
    """A map reads ahead as always, and its handler calls run where it is iterated."""
    handler = Witness(negate)
    with inline(), Batcher(handler, max_batch_size=2) as batcher:
        numbers = iter(range(1, 100))

        assert next(batcher.map(numbers)) == -1
        assert next(numbers) < 10
        assert handler.only_ran_here()


def test_keys_never_share_a_batch() -> None:
    """Items of different keys go in calls of their own, in order within a key."""
    handler = Witness(negate)
    with inline(), Batcher(handler, batch_key=lambda number: number % 2) as batcher:
        futures = batcher.add_many([1, 2, 3, 4])

        assert [future.result(0) for future in futures] == [-1, -2, -3, -4]
    assert sorted(handler.batches) == [[1, 3], [2, 4]]


def test_weights_are_kept() -> None:
    """The cap of weight holds."""
    handler = Witness(negate)
    with inline(), Batcher(handler, weigh=float, max_batch_weight=5) as batcher:
        batcher.add_many([1, 3, 2, 5])

    assert handler.batches == [[1, 3], [2], [5]]


@pytest.mark.parametrize("options", [{"max_concurrent": 4}, {"handler_timeout": 0.001}], ids=["concurrent", "timeout"])
def test_options_that_would_need_threads(options: dict[str, Any]) -> None:
    """Several calls at once become calls one after another, and nobody watches a handler's time."""
    handler = Witness(negate)
    with inline(), Batcher(handler, max_batch_size=1, **options) as batcher:
        assert list(batcher.map([1, 2, 3])) == [-1, -2, -3]
        assert handler.only_ran_here()
        assert batcher.status().stuck_handlers == 0


def test_borrowed_executor_is_left_alone() -> None:
    """A handler that would go to an executor runs in the calling thread as well."""
    handler = Witness(negate)
    with ThreadPoolExecutor(1) as executor, inline(), Batcher(handler, executor=executor) as batcher:
        assert batcher.add(1).result(0) == -1
        assert handler.only_ran_here()


@pytest.mark.parametrize("max_concurrent", [1, 4])
def test_handler_that_adds(max_concurrent: int) -> None:
    """What a handler adds to its own batcher goes in a call of its own, before the outer add returns."""
    running: list[list[int]] = []

    def count_down(numbers: list[int]) -> list[int]:
        running.append(numbers)
        assert len(running) == 1
        for number in numbers:
            if number:
                batcher.put(number - 1)
                batcher.put(number - 1)
        running.pop()
        return numbers

    handler = Witness(count_down)
    with inline(), Batcher(handler, max_concurrent=max_concurrent) as batcher:
        assert batcher.add(2).result(0) == 2
        assert handler.batches == [[2], [1, 1], [0, 0, 0, 0]]


def test_callback_that_adds() -> None:
    """What a done-callback adds is sent before the call returns that made it run."""
    handler = Witness()
    gone: list[int] = []
    with inline(), Batcher(handler) as batcher:
        batcher.pause()
        future = batcher.add(1)
        future.add_done_callback(lambda future: batcher.put(2))
        batcher.resume()
        gone.extend(handler.items)

    assert gone == [1, 2]


def test_handler_that_calls_another_batcher() -> None:
    """A handler may wait for the results of another batcher."""
    inner_handler = Witness(negate)
    with inline(), Batcher(inner_handler) as inner:

        def ask(numbers: list[int]) -> list[int]:
            return [inner.add(number).result(0) for number in numbers]

        with Batcher(ask) as outer:
            assert outer.add(1).result(0) == -1

    assert inner_handler.only_ran_here()


def test_two_batchers_that_feed_each_other() -> None:
    """Batchers whose handlers add to one another come to an end, each item handled once."""
    handled: list[tuple[str, int]] = []

    def left(numbers: list[int]) -> None:
        handled.extend(("left", number) for number in numbers)
        for number in numbers:
            right_batcher.put(number - 1)

    def right(numbers: list[int]) -> None:
        handled.extend(("right", number) for number in numbers)
        for number in numbers:
            if number > 0:
                left_batcher.put(number - 1)

    with inline(), Batcher(left) as left_batcher, Batcher(right) as right_batcher:
        left_batcher.put(3)

    assert handled == [("left", 3), ("right", 2), ("left", 1), ("right", 0)]


def test_paused_batcher_keeps_its_items() -> None:
    """While paused nothing leaves; resume and flush send in the calling thread, and flush reports."""
    handler = Witness(negate)
    with inline(), Batcher(handler) as batcher:
        batcher.pause()
        first = batcher.add(1)
        assert not first.done()

        assert batcher.flush() == FlushReport(succeeded=1)
        second = batcher.add(2)
        assert not second.done()
        batcher.resume()

        assert (first.result(0), second.result(0)) == (-1, -2)
        assert handler.only_ran_here()


def test_close_sends_what_is_left() -> None:
    """Close sends what a paused batcher holds, in the calling thread, and reports it."""
    handler = Witness()
    with inline():
        batcher = Batcher(handler)
        batcher.pause()
        batcher.put(1)

        assert batcher.close() == FlushReport(succeeded=1)
    assert handler.only_ran_here()


def test_handler_that_comes_later() -> None:
    """Items wait for a handler, and are sent by the call that registers it."""
    handler = Witness(negate)
    with inline(), Batcher[int, int]() as batcher:
        future = batcher.add(1)
        assert not future.done()

        batcher.register_handler(handler)

        assert future.result(0) == -1
        assert handler.only_ran_here()


def test_overflow_policies_hold() -> None:
    """A full queue refuses as always; only a paused batcher's can be full."""
    with inline(), Batcher(negate, max_pending=1, overflow="raise") as batcher:
        batcher.pause()
        batcher.put(1)
        with pytest.raises(QueueFullError):
            batcher.put(2)
        batcher.resume()
        batcher.put(3)

        assert batcher.status().succeeded == 2


def test_batcher_made_before() -> None:
    """A batcher made and used before runs inline as well, what it held already included."""
    handler = Witness(negate)
    with Batcher(handler, max_delay=None) as batcher:
        waiting = batcher.add(1)
        with inline():
            assert batcher.add(2).result(0) == -2
            assert waiting.result(0) == -1
            assert handler.only_ran_here()


def test_thread_of_a_batcher_made_before_stays_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a full batch, which would wake the batcher's own thread, is left to the thread that adds."""
    handler = Witness(negate)
    with FakeClock() as clock, Batcher(handler, max_batch_size=1, max_delay=None) as batcher:
        batcher.add(1).result(PATIENCE)
        clock.wait_for_sleepers(1)
        handler.threads.clear()
        run_all_here = _flusher.run_all_here

        def run_when_the_other_had_its_turn(line: Line) -> None:
            clock.wait_for_sleepers(1)
            run_all_here(line)

        monkeypatch.setattr(_flusher, "run_all_here", run_when_the_other_had_its_turn)
        with inline():
            batcher.put(2)

    assert handler.only_ran_here()


def test_inline_blocks_nest() -> None:
    """Only the outermost block ends the mode."""
    handler = Witness(negate)
    with inline(), Batcher(handler, max_delay=None) as batcher:
        with inline():
            batcher.put(1)
        batcher.put(2)

        assert handler.batches == [[1], [2]]
        assert handler.only_ran_here()


def test_threads_come_back_after() -> None:
    """After the block the same batcher has a thread and a delay again, also where the block was left by an error."""
    handler = Witness(negate)
    with FakeClock() as clock, Batcher(handler, max_delay=60.0) as batcher:
        with inline():
            batcher.put(1)
        with pytest.raises(ZeroDivisionError), inline():
            raise ZeroDivisionError
        batcher.put(2)
        clock.wait_for_sleepers(1)
        assert handler.batches == [[1]]

        clock.advance(60.0)
        handler.wait_for_batches(2)
        assert not handler.only_ran_here()


@pytest.mark.parametrize("last", ["flush", "resume", "register_handler", "close"])
def test_what_is_left_at_the_end(last: str) -> None:
    """What a paused batcher holds when the block ends is sent by its thread, when it may."""
    handler = Witness(negate)
    batcher: Batcher[int, int] = Batcher(None if last == "register_handler" else handler, max_delay=0.0)
    with inline():
        if last != "register_handler":
            batcher.pause()
        future = batcher.add(1)
    ends: dict[str, Callable[[], object]] = {
        "flush": partial(batcher.flush, 5.0),
        "resume": batcher.resume,
        "register_handler": partial(batcher.register_handler, handler),
        "close": partial(batcher.close, 5.0),
    }

    ends[last]()

    assert future.result(5.0) == -1
    batcher.close()


def test_calls_of_several_threads() -> None:
    """At one at a time, two threads that add never have the handler at the same time."""
    at_once: list[int] = []
    running: list[int] = []
    others: list[threading.Thread] = []

    def handle(numbers: list[int]) -> list[int]:
        running.append(len(numbers))
        at_once.append(len(running))
        if not others:
            others.append(threading.Thread(target=batcher.put, args=(2,)))
            others[0].start()
            others[0].join(5.0)  # whether it waits for its turn, or leaves the item to this thread
        running.pop()
        return numbers

    with inline(), Batcher(handle) as batcher:
        assert batcher.add(1).result(PATIENCE) == 1
        others[0].join(PATIENCE)
        assert batcher.flush(PATIENCE).pending == 0

    assert at_once == [1, 1]


def test_call_that_outlasts_the_block(make: Maker) -> None:
    """What was left to a thread inside the handler is sent after all, when the block ends before the call does."""
    handler = HeldHandler()
    with FakeClock() as clock:
        batcher = make(handler, max_delay=0.0)
    with inline():
        other = elsewhere(batcher.add, 1)
        handler.wait_for_batches(1)
        batcher.put(2)
    clock.wait_for_sleepers(1)

    handler.let_go()

    handler.wait_for_batches(2)
    assert other.result(PATIENCE).done()
    assert handler.batches == [[1], [2]]


def test_batched_functions_run_inline() -> None:
    """A batched function's batcher is one as any other."""
    handler = Witness(negate)

    @batched(max_delay=3600.0)
    def opposite(numbers: list[int]) -> list[int]:
        return handler(numbers)  # type: ignore[no-any-return]

    with inline():
        assert opposite(1) == -1
        assert list(opposite.map([2, 3])) == [-2, -3]
    assert handler.only_ran_here()
    opposite.batcher.close()
