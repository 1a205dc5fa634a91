"""An adaptive Batcher: batches leave early when waiting can gather nothing more."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, as_completed, wait
from typing import TYPE_CHECKING, Any

import pytest

from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from batcher import Batcher

clock, make = stage.clock, stage.make


def echo(items: list[Any]) -> list[Any]:
    """Answer each item with itself."""
    return items


WAYS: dict[str, Callable[[Future[Any]], object]] = {
    "result": lambda future: future.result(PATIENCE),
    "exception": lambda future: future.exception(PATIENCE),
    "wait": lambda future: wait([future], PATIENCE),
    "as_completed": lambda future: list(as_completed([future], PATIENCE)),
}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("options", [{}, {"batch_key": str}, {"max_delay": None}], ids=str)
def test_lone_caller_pays_no_delay(make: Maker, clock: FakeClock, way: str, options: dict[str, Any]) -> None:
    """Whoever blocks alone is served at once, whatever the delay: time stands still here."""
    batcher = make(echo, **{"max_delay": 60.0, **options})

    future = batcher.add(7)
    WAYS[way](future)

    assert future.result(0) == 7
    assert batcher.status().batches == 1


@pytest.mark.parametrize("way", list(WAYS))
def test_without_adaptive_the_delay_is_waited_for(make: Maker, clock: FakeClock, way: str) -> None:
    """`adaptive=False`: a blocked caller changes nothing."""
    batcher = make(echo, max_delay=60.0, adaptive=False)

    future = batcher.add(7)
    blocked = elsewhere(lambda: WAYS[way](future))
    clock.wait_for_sleepers(1)
    clock.advance(59.0)
    clock.wait_for_sleepers(1)
    assert not future.done()
    clock.advance(1.0)
    blocked.result(PATIENCE)

    assert batcher.status().delay_limit == 60.0


def test_items_that_nobody_waits_for_keep_the_delay(make: Maker, clock: FakeClock) -> None:
    """Futures kept for later, `put`, a look without waiting and callbacks let nothing leave early."""
    handler = RecordingHandler(echo)
    batcher = make(handler, max_delay=60.0)

    kept = batcher.add(1)
    batcher.put(2)
    kept.add_done_callback(lambda _: None)
    with pytest.raises(TimeoutError):
        kept.result(0)
    clock.wait_for_sleepers(1)
    clock.advance(59.0)
    clock.wait_for_sleepers(1)
    assert handler.batches == []
    clock.advance(1.0)

    assert kept.result(PATIENCE) == 1
    assert handler.batches == [[1, 2]]


def test_what_waits_anyway_comes_along(make: Maker, clock: FakeClock) -> None:
    """A batch that leaves for one caller takes what else waits."""
    handler = RecordingHandler(echo)
    batcher = make(handler, max_delay=60.0)

    batcher.put(1)
    batcher.put(2)

    assert batcher.add(3).result(PATIENCE) == 3
    assert handler.batches == [[1, 2, 3]]


def test_only_the_key_that_somebody_waits_for_leaves(make: Maker, clock: FakeClock) -> None:
    """Another key's items, on which nobody is blocked, wait for their delay."""
    handler = RecordingHandler(echo)
    batcher = make(handler, max_delay=60.0, batch_key=lambda item: item % 2)

    batcher.put(2)
    assert batcher.add(1).result(PATIENCE) == 1

    assert handler.batches == [[1]]
    assert batcher.status().pending == 1


def test_caller_that_gave_up_is_waited_for_no_more(make: Maker, clock: FakeClock) -> None:
    """When nobody is blocked any more the batch doesn't leave early: here the slot is free too late."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_delay=60.0)
    first = elsewhere(batcher.add(1).result)
    handler.wait_for_batches(1)

    impatient = batcher.add(2)
    with pytest.raises(TimeoutError):
        impatient.result(0.001)
    done, _ = wait([impatient], 0.001, FIRST_COMPLETED)
    handler.let_go()
    first.result(PATIENCE)
    clock.wait_for_sleepers(1)

    assert not done
    assert handler.batches == [[1]]
    assert batcher.status().pending == 1


@pytest.mark.parametrize("options", [{}, {"batch_key": lambda _: "key"}], ids=["plain", "keyed"])
def test_cancelled_item_has_no_caller(make: Maker, clock: FakeClock, options: dict[str, Any]) -> None:
    """The caller of a cancelled item makes nothing else leave early."""
    handler = HeldHandler(echo)
    batcher = make(handler, max_delay=60.0, **options)
    first = elsewhere(batcher.add(1).result)
    handler.wait_for_batches(1)

    cancelled, other = batcher.add(2), batcher.add(3)
    blocked = elsewhere(cancelled.result)
    while not batcher._line.queue.blocked:
        threading.Event().wait(0.001)
    assert cancelled.cancel()
    with pytest.raises(BaseException):  # noqa: B017 - CancelledError, of whatever module
        blocked.result(PATIENCE)
    handler.let_go()
    first.result(PATIENCE)
    clock.wait_for_sleepers(1)

    assert not other.done()
    assert handler.batches == [[1]]


def test_paused_batcher_sends_nothing_early(make: Maker, clock: FakeClock) -> None:
    """A pause holds for blocked callers too; with resume they are served at once."""
    handler = RecordingHandler(echo)
    batcher = make(handler, max_delay=60.0)
    batcher.pause()

    future = batcher.add(1)
    blocked = elsewhere(future.result)
    while not batcher._line.queue.blocked:
        threading.Event().wait(0.001)
    clock.wait_for_sleepers(1)
    assert handler.batches == []
    batcher.resume()

    assert blocked.result(PATIENCE) == 1


class Circle:
    """Callers that come back again and again, each on a thread of its own, when the test says so."""

    def __init__(self, batcher: Batcher[Any, Any], clock: FakeClock, callers: int) -> None:
        self.batcher = batcher
        self.clock = clock
        self.threads = [ThreadPoolExecutor(1) for _ in range(callers)]

    def call(self, caller: int) -> Future[Any]:
        """Have one caller add its number and block."""
        return self.threads[caller].submit(lambda: self.batcher.add(caller).result(PATIENCE))

    def wait_until_blocked(self, count: int) -> None:
        """Return when so many callers are blocked on items that wait, and the flusher sleeps."""
        while self.batcher._line.queue.blocked != count:
            threading.Event().wait(0.001)
        self.clock.wait_for_sleepers(1)

    def go_round(self) -> None:
        """Have all callers served by one batch."""
        self.batcher.pause()
        calls = [self.call(caller) for caller in range(len(self.threads))]
        self.wait_until_blocked(len(calls))
        self.batcher.resume()
        assert [call.result(PATIENCE) for call in calls] == list(range(len(calls)))
        self.clock.advance(0.5)  # what they take to come back


@pytest.fixture
def circle(make: Maker, clock: FakeClock) -> Iterator[Circle]:
    """Three callers of a handler that takes ten seconds."""

    def handle(items: list[Any]) -> list[Any]:
        clock.advance(10.0)
        return items

    circle = Circle(make(RecordingHandler(handle), max_delay=60.0), clock, 3)
    circle.go_round()
    circle.go_round()
    yield circle
    for thread in circle.threads:
        thread.shutdown()


def test_released_callers_are_waited_for(circle: Circle) -> None:
    """Callers that come back soon leave together, although each alone would be served at once."""
    first = circle.call(0)
    circle.wait_until_blocked(1)
    second = circle.call(1)
    circle.wait_until_blocked(2)
    assert circle.batcher.status().batches == 2
    third = circle.call(2)

    assert [call.result(PATIENCE) for call in (first, second, third)] == [0, 1, 2]
    status = circle.batcher.status()
    assert status.batches == 3
    assert status.delay_limit == pytest.approx(0.5, abs=0.2)


def test_caller_that_stays_away_is_overdue(circle: Circle) -> None:
    """Who is back leaves without the one that isn't, after what that one usually takes."""
    calls = [circle.call(0), circle.call(1)]
    circle.wait_until_blocked(2)
    circle.clock.advance(0.3)

    assert [call.result(PATIENCE) for call in calls] == [0, 1]
    assert circle.batcher.status().batches == 3


def test_stranger_makes_no_crowd_leave(circle: Circle) -> None:
    """A caller that nobody expects joins those who wait."""
    first = circle.call(0)
    circle.wait_until_blocked(1)
    stranger = elsewhere(lambda: circle.batcher.add("stranger").result(PATIENCE))
    circle.wait_until_blocked(2)
    calls = [circle.call(1), circle.call(2)]

    assert [call.result(PATIENCE) for call in (first, *calls)] == [0, 1, 2]
    assert stranger.result(PATIENCE) == "stranger"
    assert circle.batcher.status().batches == 3


def test_crowd_whose_delay_is_over_waits_for_the_expected(make: Maker, clock: FakeClock) -> None:
    """Callers for whom the handler was busy longer than `max_delay` wait for those it releases, `max_delay` at most."""
    handler = HeldHandler(echo)

    def handle(items: list[Any]) -> list[Any]:
        clock.advance(10.0)
        return handler(items) or items

    batcher = make(handle, max_delay=2.0)
    circle = Circle(batcher, clock, 3)
    handler.let_go()
    try:
        circle.go_round()
        circle.go_round()
        handler._go.clear()
        crowd = [circle.call(number) for number in range(3)]
        handler.wait_for_batches(3)
        late = elsewhere(lambda: batcher.add("late").result(PATIENCE))
        while batcher._line.queue.blocked != 1:
            threading.Event().wait(0.001)
        clock.advance(5.0)  # its delay is over now
        handler.let_go()
        for call in crowd:
            call.result(PATIENCE)
        circle.wait_until_blocked(1)
        assert batcher.status().batches == 3
        clock.advance(2.0)

        assert late.result(PATIENCE) == "late"
    finally:
        for thread in circle.threads:
            thread.shutdown()


def test_quadratic_handler_gets_smaller_batches(make: Maker, clock: FakeClock) -> None:
    """A handler whose time grows with the square of its batch gets batches of the size that pays."""

    def handle(items: list[int]) -> None:
        clock.advance(0.01 + 0.0001 * len(items) ** 2)  # most items a second: 10 at a time

    handler = RecordingHandler(handle)
    batcher = make(handler, max_batch_size=160, max_pending=100_000)
    batcher.pause()
    for item in range(40_000):
        batcher.put(item)
    batcher.resume()
    batcher.close()

    assert 5 <= batcher.status().batch_size_limit <= 20
    assert max(map(len, handler.batches)) == 160
    assert sum(map(len, handler.batches[-200:])) / 200 < 20


def test_without_adaptive_batches_keep_their_size(make: Maker, clock: FakeClock) -> None:
    """`adaptive=False`: full means `max_batch_size`, however long it takes."""
    handler = RecordingHandler(lambda items: clock.advance(float(len(items) ** 2)))
    batcher = make(handler, max_batch_size=4, adaptive=False)

    batcher.add_many(range(400))
    batcher.close()

    assert {len(batch) for batch in handler.batches} == {4}
    assert batcher.status().batch_size_limit == 4


@pytest.mark.parametrize("max_delay", [60.0, None])
def test_who_blocks_later_waits_for_others_no_longer_than_they_take(
    make: Maker, clock: FakeClock, max_delay: float | None
) -> None:
    """A caller that blocks a moment after its add, while others are expected back, waits until those are overdue."""
    batcher = make(echo, max_delay=max_delay)
    regroup = batcher._line.regroup
    assert regroup is not None
    regroup.expected, regroup.until = 2, 5.0  # as after a batch that has released a crowd

    future = batcher.add(1)
    clock.wait_for_sleepers(1)
    caller = elsewhere(future.result)
    while not batcher._line.queue.blocked:
        threading.Event().wait(0.001)
    clock.advance(5.0)

    assert caller.result(PATIENCE) == 1
