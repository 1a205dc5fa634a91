"""Retries of a Batcher: only what failed, in order, without a thread that waits."""

from __future__ import annotations

import random
import threading
from typing import Any, ClassVar

import pytest

from batcher import Batcher, BatcherClosedError, BatchRecord, ItemTimeoutError, Retry, current_batch
from batcher.testing import FakeClock, RecordingHandler, inline
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, elsewhere, endings

clock, make = stage.clock, stage.make

STEADY = Retry(attempts=3, delay=1.0, jitter="none")
FOREVER = Retry(attempts=None, delay=1.0, jitter="none")


class Script(RecordingHandler):
    """A handler that fails as often as it is told to, each item with its own number of failures, or as a whole."""

    def __init__(self, *, whole: int = 0, **failures: int) -> None:
        super().__init__(self._answer)
        self.whole = whole
        self.failures = {int(name.removeprefix("_")): count for name, count in failures.items()}
        self.seen: list[Any] = []

    def _answer(self, items: list[int]) -> list[Any]:
        self.seen.append(current_batch())
        if self.whole:
            self.whole -= 1
            raise OSError(self.whole)
        answers: list[Any] = []
        for item in items:
            left = self.failures.get(item, 0)
            self.failures[item] = left - 1
            answers.append(OSError(item) if left > 0 else -item)
        return answers


def test_only_what_failed_is_tried_again(make: Maker, clock: FakeClock) -> None:
    """Items that succeeded are settled at once; the others come again, and count as pending until then."""
    handler = Script(_2=1, _3=2)
    batcher = make(handler, max_batch_size=4, retry=STEADY)

    futures = batcher.add_many([1, 2, 3, 4])
    assert [futures[position].result(PATIENCE) for position in (0, 3)] == [-1, -4]
    clock.wait_for_sleepers(1)
    status = batcher.status()
    assert (status.pending, status.processing, status.succeeded, status.failed) == (2, 0, 2, 0)
    assert futures[1].running()
    assert not futures[1].cancel()
    clock.advance(1.0)
    assert futures[1].result(PATIENCE) == -2
    clock.wait_for_sleepers(1)
    clock.advance(2.0)

    assert futures[2].result(PATIENCE) == -3
    assert handler.batches == [[1, 2, 3, 4], [2, 3], [3]]
    status = batcher.status()
    assert (status.batches, status.retried, status.average_batch_size) == (3, 3, 7 / 3)


def test_retries_end(make: Maker, clock: FakeClock) -> None:
    """After the last attempt the items fail with the handler's error; `on_error` hears of that alone."""
    told: list[tuple[BaseException, list[int]]] = []
    batcher = make(
        Script(whole=5), max_batch_size=2, retry=STEADY, on_error=lambda error, items: told.append((error, items))
    )

    first, second = batcher.add_many([1, 2])
    for wait in (1.0, 2.0):
        clock.wait_for_sleepers(1)
        assert not told
        clock.advance(wait)

    with pytest.raises(OSError, match="2"):
        first.result(PATIENCE)
    with pytest.raises(OSError, match="2"):
        second.result(PATIENCE)
    batcher.close()
    assert [(str(error), items) for error, items in told] == [("2", [1, 2])]


def test_number_is_extra_attempts(make: Maker) -> None:
    """`retry=2` is three attempts."""
    handler = Script(whole=2)
    batcher = make(handler, max_batch_size=1, retry=2)

    assert batcher.add(7).result(PATIENCE) == -7
    assert len(handler.batches) == 3


def test_errors_that_are_not_retried_fail_at_once(make: Maker) -> None:
    """What `retry_on` doesn't name is final, beside an item that is tried again."""

    def mixed(items: list[int]) -> list[Any]:
        return [KeyError(item) if item == 1 else item if handler.batches[1:] else OSError(item) for item in items]

    handler = RecordingHandler(mixed)
    batcher = make(handler, max_batch_size=2, retry=Retry(delay=0.0, retry_on=OSError))

    wrong, late = batcher.add_many([1, 2])

    with pytest.raises(KeyError):
        wrong.result(PATIENCE)
    assert late.result(PATIENCE) == 2
    assert handler.batches == [[1, 2], [2]]


def test_nothing_overtakes_a_retry(make: Maker, clock: FakeClock) -> None:
    """At one call at a time, what came later waits until the batch before has ended."""
    handler = Script(whole=2)
    batcher = make(handler, max_batch_size=2, retry=STEADY)

    batcher.add_many([1, 2])
    clock.wait_for_sleepers(1)
    later = batcher.add_many([3, 4])
    clock.wait_for_sleepers(1)
    assert handler.batches == [[1, 2]]
    clock.advance(1.0)
    handler.wait_for_batches(2)
    clock.wait_for_sleepers(1)
    clock.advance(2.0)

    assert [future.result(PATIENCE) for future in later] == [-3, -4]
    assert handler.batches == [[1, 2], [1, 2], [1, 2], [3, 4]]


def test_keys_wait_for_their_own_retries(make: Maker, clock: FakeClock) -> None:
    """A key's later items wait for its retry; other keys go on, in the slot that a waiting batch doesn't hold."""
    handler = Script(_1=1)
    batcher = make(
        handler, max_batch_size=1, max_concurrent=1, retry=STEADY, batch_key=lambda item: item % 2, max_delay=0.0
    )

    first = batcher.add(1)
    clock.wait_for_sleepers(1)
    same, other = batcher.add(3), batcher.add(2)
    assert other.result(PATIENCE) == -2
    clock.wait_for_sleepers(1)
    assert handler.batches == [[1], [2]]
    clock.advance(1.0)

    assert (first.result(PATIENCE), same.result(PATIENCE)) == (-1, -3)
    assert handler.batches == [[1], [2], [1], [3]]


def test_retries_without_end_or_wait_starve_nobody(make: Maker, clock: FakeClock) -> None:
    """What fails again and again at once takes turns with the items of other keys."""
    handler = Script(_1=10**9)
    batcher = make(handler, max_batch_size=1, retry=Retry(attempts=None, delay=0.0), batch_key=lambda item: item)

    batcher.add(1)
    handler.wait_for_batches(3)

    assert batcher.add(2).result(PATIENCE) == -2
    assert not batcher.close(0).complete


def test_without_order_others_go_on(make: Maker, clock: FakeClock) -> None:
    """With several calls at a time and no key there is no order to keep: a retry holds up nobody."""
    handler = Script(_1=1)
    batcher = make(handler, max_batch_size=1, max_concurrent=2, retry=STEADY)

    first = batcher.add(1)
    clock.wait_for_sleepers(1)
    assert batcher.add(2).result(PATIENCE) == -2
    clock.wait_for_sleepers(1)
    clock.advance(1.0)

    assert first.result(PATIENCE) == -1


def test_telemetry_survives_an_outage(make: Maker, clock: FakeClock) -> None:
    """With `attempts=None` nothing is lost, and all arrives in order when the backend is back."""
    handler = Script(whole=50)
    batcher = make(handler, max_batch_size=10, retry=Retry(attempts=None, delay=1.0, max_delay=60.0))

    for number in range(100):
        batcher.put(number)
    while handler.whole:
        clock.wait_for_sleepers(1)
        clock.advance(60.0)
    report = batcher.flush(PATIENCE)

    assert report.complete
    assert handler.batches[:50] == [list(range(10))] * 50
    assert [item for batch in handler.batches[50:] for item in batch] == list(range(100))
    assert endings(batcher.status()) == {"succeeded": 100}


def test_waiting_items_count_towards_the_bound(make: Maker, clock: FakeClock) -> None:
    """While retries hold items, the queue is as full as with them: memory stays bounded."""
    calls = threading.Semaphore(0)
    batcher = make(
        Script(whole=10),
        max_batch_size=2,
        max_concurrent=4,
        max_pending=4,
        overflow="drop_newest",
        retry=FOREVER,
        on_batch=lambda _: calls.release(),
    )

    for first in (0, 2):
        batcher.add_many([first, first + 1])
        assert calls.acquire(timeout=PATIENCE)
    batcher.put(4)

    status = batcher.status()
    assert (status.pending, status.dropped) == (4, 1)


def test_weight_of_what_is_held_counts(make: Maker, clock: FakeClock) -> None:
    """The weight bound includes what waits for its retry."""
    calls = threading.Semaphore(0)
    batcher = make(
        Script(whole=10),
        max_batch_size=1,
        max_concurrent=2,
        weigh=float,
        max_pending_weight=5.0,
        overflow="drop_newest",
        retry=FOREVER,
        on_batch=lambda _: calls.release(),
    )

    batcher.put(4)
    assert calls.acquire(timeout=PATIENCE)
    batcher.put(2)

    assert batcher.status().dropped == 1


def test_deadline_ends_an_item_between_attempts(make: Maker, clock: FakeClock) -> None:
    """An item's own timeout runs through all retries; then the handler doesn't get it any more."""
    handler = Script(whole=1)
    batcher = make(handler, max_batch_size=2, max_delay=None, retry=FOREVER)

    hasty, patient = batcher.add(1, timeout=0.5), batcher.add(2)
    clock.wait_for_sleepers(1)
    clock.advance(0.5)
    with pytest.raises(ItemTimeoutError):
        hasty.result(PATIENCE)
    clock.wait_for_sleepers(1)
    assert batcher.status().pending == 1
    clock.advance(0.5)

    assert patient.result(PATIENCE) == -2
    assert handler.batches == [[1, 2], [2]]


def test_batch_whose_items_all_ended_is_passed_over(make: Maker, clock: FakeClock) -> None:
    """A retry of which nothing is left frees the way for what came later, long before its time."""
    handler = Script(whole=1)
    batcher = make(handler, max_batch_size=1, retry=FOREVER)

    gone = batcher.add(1, timeout=0.5)
    clock.wait_for_sleepers(1)
    later = batcher.add(2)
    clock.advance(0.5)
    with pytest.raises(ItemTimeoutError):
        gone.result(PATIENCE)

    assert later.result(PATIENCE) == -2
    assert handler.batches == [[1], [2]]


def test_handler_timeout_is_retried(make: Maker, clock: FakeClock) -> None:
    """A call that hangs is given up and its items tried again; the late result is thrown away."""
    handler = HeldHandler(lambda items: [-item for item in items])
    batcher = make(handler, max_batch_size=1, handler_timeout=5.0, retry=Retry(delay=1.0, jitter="none"))

    future = batcher.add(1)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    clock.advance(5.0)
    clock.wait_for_sleepers(1)
    assert not future.done()
    clock.advance(1.0)
    handler.wait_for_batches(2)
    handler.let_go()

    assert future.result(PATIENCE) == -1
    batcher.close()
    assert handler.batches == [[1], [1]]
    assert endings(batcher.status()) == {"succeeded": 1}


def test_retry_after_is_honoured(make: Maker, clock: FakeClock) -> None:
    """The items of a batch keep together: they wait for as long as the most patient of them was told."""

    class BusyError(OSError):
        """Says when to come back."""

        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.retry_after = seconds

    answers: list[list[Any]] = [[BusyError(2.0), BusyError(5.0)], [1, 2]]
    handler = RecordingHandler(lambda _: answers.pop(0))
    batcher = make(handler, max_batch_size=2, retry=3)

    futures = batcher.add_many([1, 2])
    clock.wait_for_sleepers(1)
    clock.advance(4.9)
    clock.wait_for_sleepers(1)
    assert handler.batches == [[1, 2]]
    clock.advance(0.1)

    assert [future.result(PATIENCE) for future in futures] == [1, 2]


def test_deadline_of_the_policy_counts_from_the_first_attempt(make: Maker, clock: FakeClock) -> None:
    """No attempt begins after the policy's deadline."""
    handler = Script(whole=9)
    policy = Retry(attempts=None, delay=2.0, multiplier=1, jitter="none", deadline=5.0)
    batcher = make(handler, max_batch_size=1, retry=policy)

    future = batcher.add(1)
    for _ in range(2):
        clock.wait_for_sleepers(1)
        clock.advance(2.0)

    with pytest.raises(OSError, match="6"):
        future.result(PATIENCE)


def test_batch_keeps_its_id(make: Maker) -> None:
    """A receiver knows by the id that it saw these items before; other contents have another id."""
    records: list[BatchRecord] = []
    handler = Script(whole=1, _2=1)
    batcher = make(handler, max_batch_size=2, retry=Retry(delay=0.0), on_batch=records.append)

    batcher.add_many([1, 2])
    batcher.close()

    assert handler.batches == [[1, 2], [1, 2], [2]]
    ids = [seen.id for seen in handler.seen]
    assert ids[0] == ids[1] != ids[2]
    assert [seen.attempt for seen in handler.seen] == [1, 2, 3]
    assert [(record.id, record.attempt) for record in records] == [(seen.id, seen.attempt) for seen in handler.seen]
    assert [(record.succeeded, record.failed, record.retried) for record in records] == [
        (0, 0, 2),
        (1, 0, 1),
        (1, 0, 0),
    ]
    assert current_batch() is None


def test_ids_of_two_batchers_differ(make: Maker) -> None:
    """An id is nobody else's."""
    seen: list[Any] = []
    for _ in range(2):
        batcher = make(lambda items: seen.append(current_batch()), max_batch_size=1)
        batcher.add(1).result(PATIENCE)

    assert seen[0].id != seen[1].id


# Ends


def test_close_tries_at_once(make: Maker, clock: FakeClock) -> None:
    """Close doesn't wait for a retry's time."""
    handler = Script(whole=1)
    batcher = make(handler, max_batch_size=1, retry=Retry(delay=30.0, jitter="none"))

    future = batcher.add(1)
    clock.wait_for_sleepers(1)
    report = batcher.close()

    assert report.complete
    assert future.result(0) == -1


def test_close_waits_as_long_as_the_policy(make: Maker, clock: FakeClock) -> None:
    """Without a timeout close waits for the retries to come."""
    handler = Script(whole=2)
    batcher = make(handler, max_batch_size=1, retry=STEADY)

    future = batcher.add(1)
    clock.wait_for_sleepers(1)
    closing = elsewhere(batcher.close)
    handler.wait_for_batches(2)
    clock.wait_for_sleepers(2)
    clock.advance(2.0)

    assert closing.result(PATIENCE).complete
    assert future.result(0) == -1


def test_close_waits_for_nothing_in_vain(make: Maker, clock: FakeClock) -> None:
    """A wait that would outlast the timeout ends at once, with the last error as the cause."""
    dropped: list[int] = []
    batcher = make(
        Script(whole=9),
        max_batch_size=1,
        retry=Retry(delay=30.0, jitter="none"),
        on_drop=lambda item, _: dropped.append(item),
    )

    future = batcher.add(1)
    clock.wait_for_sleepers(1)
    report = batcher.close(10.0)

    assert (report.dropped, report.pending, report.complete) == (1, 0, False)
    with pytest.raises(BatcherClosedError) as caught:
        future.result(0)
    assert isinstance(caught.value.__cause__, OSError)
    assert dropped == [1]


@pytest.mark.parametrize("drain", [True, False])
def test_what_is_held_when_close_ends_is_dropped(make: Maker, clock: FakeClock, *, drain: bool) -> None:
    """Close without draining, or at its end, fails what waits for a retry."""
    batcher = make(Script(whole=9), max_batch_size=2, retry=FOREVER)

    futures = batcher.add_many([1, 2])
    clock.wait_for_sleepers(1)
    report = batcher.close(0, drain=drain)

    assert report.dropped == 2
    for future in futures:
        with pytest.raises(BatcherClosedError) as caught:
            future.result(0)
        assert isinstance(caught.value.__cause__, OSError)


def test_abandoned_batcher_tries_at_once(make: Maker, clock: FakeClock) -> None:
    """A batcher that was dropped drains as a close does: what is held is tried again."""
    handler = Script(whole=1)
    batcher: Batcher[int, int] = Batcher(handler, max_batch_size=1, retry=Retry(delay=30.0, jitter="none"))
    batcher.belong_to()
    future = batcher.add(1)
    clock.wait_for_sleepers(1)
    del batcher

    assert future.result(PATIENCE) == -1


def test_pause_holds_retries_too(make: Maker, clock: FakeClock) -> None:
    """While paused nothing is tried again, but for what a flush waits for."""
    handler = Script(whole=1)
    batcher = make(handler, max_batch_size=1, retry=STEADY)

    future = batcher.add(1)
    clock.wait_for_sleepers(1)
    batcher.pause()
    clock.advance(10.0)
    clock.wait_for_sleepers(1)
    assert handler.batches == [[1]]

    assert batcher.flush(PATIENCE).complete
    assert future.result(0) == -1


def test_resume_goes_on_with_retries(make: Maker, clock: FakeClock) -> None:
    """After a pause what is due is tried again."""
    handler = Script(whole=1)
    batcher = make(handler, max_batch_size=1, retry=STEADY)

    future = batcher.add(1)
    clock.wait_for_sleepers(1)
    batcher.pause()
    clock.advance(10.0)
    batcher.resume()

    assert future.result(PATIENCE) == -1


def test_inline_tries_again_on_the_calling_thread() -> None:
    """In the inline mode a retry without a wait needs no thread."""
    handler = Script(whole=2)
    with inline(), Batcher(handler, retry=Retry(delay=0.0)) as batcher:
        assert batcher.add(1).result(0) == -1
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("batcher")]


def test_policy_that_raises_gives_up(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """A policy of the user's own that raises, or says nonsense, is logged; the item fails with its own error."""

    class Broken:
        """Raises, then answers what no one can wait."""

        answers: ClassVar[list[Any]] = [SystemExit, -1.0, "soon"]

        def wait_after(self, error: BaseException, *, attempts: int, elapsed: float) -> float | None:
            """Be of no use."""
            answer: Any = self.answers.pop(0)
            if answer is SystemExit:
                raise SystemExit
            return answer  # type: ignore[no-any-return]

    batcher = make(Script(whole=3), max_batch_size=1, retry=Broken())
    for item in range(3):
        with pytest.raises(OSError):
            batcher.add(item).result(PATIENCE)

    assert "the retry policy raised" in caplog.text


def test_jitter_spreads_the_attempts(make: Maker, clock: FakeClock) -> None:
    """With full jitter the wait lies between zero and the computed time."""
    random.seed(3)
    handler = Script(whole=1)
    batcher = make(handler, max_batch_size=1, retry=Retry(delay=8.0))

    future = batcher.add(1)
    clock.wait_for_sleepers(1)
    clock.advance(8.0)

    assert future.result(PATIENCE) == -1
