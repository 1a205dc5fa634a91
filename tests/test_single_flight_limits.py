"""Single-flight where there is no room, and where a batcher ends: every item counts, and ends once, on its own."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

import pytest

from batcher import (
    Batcher,
    BatcherClosedError,
    FlushReport,
    ItemDroppedError,
    ItemTimeoutError,
    ItemTooHeavyError,
    QueueFullError,
    Retry,
    _drop,
)
from batcher._drop import drop_unsent
from batcher._flights import Flights
from batcher._future import is_watched
from batcher._group import Ticket
from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.interruptions import press_ctrl_c
from tests.stage import PATIENCE, HeldHandler, Maker, ScriptedLock, adds_up, elsewhere, endings
from tests.test_single_flight import STEADY, counts, negate, places

if TYPE_CHECKING:
    from collections.abc import Callable

clock, make = stage.clock, stage.make

FOREVER = Retry(attempts=None, delay=9.0, jitter="none")


class Drops:
    """An `on_drop` hook, and what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, str]] = []

    def __call__(self, item: object, error: BaseException) -> None:
        """Note the item and the error's type."""
        self.told.append((item, type(error).__name__))


def told(report: FlushReport) -> dict[str, int]:
    """Return what a report says, without what is zero."""
    names = ("succeeded", "failed", "cancelled", "expired", "dropped", "pending")
    return {name: count for name in names if (count := getattr(report, name))}


# No room


def test_followers_count_towards_the_bound(make: Maker, clock: FakeClock) -> None:
    """Items that share a place take room each: the third of the key is refused under "raise"."""
    batcher = make(negate, max_delay=None, dedup_key=True, max_pending=2, overflow="raise")
    futures = batcher.add_many([7, 7])

    with pytest.raises(QueueFullError):
        batcher.add(7)
    clock.wait_for_sleepers(1)

    assert [future.result(PATIENCE) for future in futures] == [-7, -7]  # a full queue forces a batch
    assert endings(batcher.status()) == {"succeeded": 2, "refused": 1}


def test_add_many_is_all_or_nothing_with_followers(make: Maker, clock: FakeClock) -> None:
    """Under "raise" none of the items enters where not all have room, whatever they would share."""
    batcher = make(RecordingHandler(), max_delay=None, dedup_key=True, max_pending=4, overflow="raise")
    batcher.pause()
    batcher.add(1)

    with pytest.raises(QueueFullError):
        batcher.add_many([1, 2, 2, 1])

    assert counts(batcher) == (1, 0, 1, 0)
    assert batcher.status().refused == 4


def test_follower_waits_for_room(make: Maker) -> None:
    """Under "block" an item waits for room, and then shares with who is under way."""
    handler = HeldHandler(negate)
    batcher = make(handler, max_batch_size=1, dedup_key=True, max_pending=2)
    futures = [batcher.add(item) for item in (1, 2, 2)]
    handler.wait_for_batches(1)

    with pytest.raises(QueueFullError):
        batcher.add(2, block_timeout=0.01)
    blocked = elsewhere(batcher.add, 2)
    while not batcher._line.waiters:
        pass
    assert futures[2].cancel()
    follower = blocked.result(PATIENCE)
    assert counts(batcher) == (4, 2, 2, 1)
    handler.let_go()

    assert follower.result(PATIENCE) == futures[1].result(PATIENCE) == -2
    assert handler.batches == [[1], [2]]


def test_equality_that_raises_ends_the_wait_for_room(make: Maker) -> None:
    """A waiting producer whose key can't be compared gets the error."""

    class Key:
        is_broken = False

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if self.is_broken:
                raise ArithmeticError("no equality today")
            return False

    handler = HeldHandler()
    batcher = make(handler, max_batch_size=1, dedup_key=True, max_pending=2)
    futures = [batcher.add(item) for item in (Key(), Key(), Key())]
    handler.wait_for_batches(1)
    blocked = elsewhere(batcher.add, Key())
    while not batcher._line.waiters:
        pass
    Key.is_broken = True
    assert futures[2].cancel()

    with pytest.raises(ArithmeticError):
        blocked.result(PATIENCE)
    assert counts(batcher) == (3, 0, 1, 1)


def test_drop_newest_drops_what_arrives(make: Maker, clock: FakeClock) -> None:
    """Under "drop_newest" an item without room is dropped alone, whoever it would have shared with."""
    drops = Drops()
    batcher = make(
        RecordingHandler(negate), max_delay=None, dedup_key=str, max_pending=2, overflow="drop_newest", on_drop=drops
    )
    batcher.pause()
    futures = batcher.add_many([1, 1, 1])
    batcher.put(1)

    with pytest.raises(ItemDroppedError):
        futures[2].result(0)
    assert drops.told == [(1, "ItemDroppedError")] * 2
    assert told(batcher.flush()) == {"succeeded": 2}
    assert counts(batcher) == (4, 1, 0, 0)


def test_drop_oldest_drops_one_after_another(make: Maker, clock: FakeClock) -> None:
    """Under "drop_oldest" one item makes room for one: who shared its place goes on, until it is the oldest."""
    drops = Drops()
    handler = RecordingHandler(lambda items: [item.lower() for item in items])
    batcher = make(handler, max_delay=None, dedup_key=str.lower, max_pending=4, overflow="drop_oldest", on_drop=drops)
    batcher.pause()
    batcher.put("a")
    second = batcher.add("A")
    other, third = batcher.add("b"), batcher.add("a")

    last = batcher.add("c")
    assert drops.told == [("a", "ItemDroppedError")]
    assert counts(batcher) == (5, 2, 4, 0)
    batcher.add_many(["d", "e", "f"])
    assert [item for item, _ in drops.told] == ["a", "A", "b", "a"]
    assert places(batcher) == 4

    for future in (second, other, third):
        with pytest.raises(ItemDroppedError):
            future.result(0)
    assert told(batcher.flush()) == {"succeeded": 4}
    assert last.result(0) == "c"
    assert handler.batches == [["c", "d", "e", "f"]]
    assert endings(batcher.status()) == {"succeeded": 4, "dropped": 4}


def test_drop_oldest_takes_a_key_for_gone_with_its_last_item(make: Maker, clock: FakeClock) -> None:
    """An item whose key is dropped to make room for it has a place of its own."""
    batcher = make(RecordingHandler(negate), max_delay=None, dedup_key=True, max_pending=1, overflow="drop_oldest")
    batcher.pause()
    first, second = batcher.add(7), batcher.add(7)

    assert isinstance(first.exception(0), ItemDroppedError)
    batcher.flush()
    assert second.result(0) == -7
    assert counts(batcher) == (2, 0, 0, 0)


def test_drop_oldest_remembers_few_that_are_gone(make: Maker) -> None:
    """The order of arrival is forgotten with the items, those that shared a place included."""
    batcher = make(negate, dedup_key=True, max_delay=0.0, max_pending=100, overflow="drop_oldest")
    for item in range(500):
        batcher.add_many([item, item])
        batcher.flush()
    batcher.pause()
    batcher.add(7)
    for _ in range(500):
        batcher.add(7).cancel()

    assert len(batcher._line.queue.order or ()) <= 2 * 100 + 64


@pytest.mark.parametrize("options", [{}, {"batch_key": str}, {"dedup_key": True}], ids=["plain", "keyed", "shared"])
def test_drop_oldest_when_all_waits_for_another_attempt(make: Maker, clock: FakeClock, options: dict[str, Any]) -> None:
    """What is to be tried again keeps its room; where nothing else waits, what arrives is dropped, and add returns."""
    drops = Drops()
    handler = RecordingHandler(lambda items: [OSError()] if len(handler.batches) < 3 else negate(items))
    batcher = make(
        handler, max_batch_size=1, max_pending=2, overflow="drop_oldest", retry=FOREVER, on_drop=drops, **options
    )
    held = [batcher.add(1)]
    clock.wait_for_sleepers(1)
    if "dedup_key" in options:
        held.append(batcher.add(1))
    elif "batch_key" in options:
        held.append(batcher.add(2))
        clock.wait_for_sleepers(1)
    else:
        held.append(batcher.add(2))

    arriving = elsewhere(batcher.add, 3).result(PATIENCE)

    if options:
        assert isinstance(arriving.exception(PATIENCE), ItemDroppedError)
        assert drops.told == [(3, "ItemDroppedError")]
    for _ in range(3):
        clock.wait_for_sleepers(1)
        clock.advance(9.0)
    assert held[0].result(PATIENCE) == -1


def test_item_that_is_too_heavy_is_refused(make: Maker) -> None:
    """A weight above the cap refuses the item, even where it would share another one's place."""
    batcher = make(negate, max_delay=None, dedup_key=abs, weigh=abs, max_batch_weight=5.0)
    batcher.add(1)
    with pytest.raises(ItemTooHeavyError):
        batcher.add(9)
    assert counts(batcher) == (1, 0, 1, 0)


# The end


def test_flush_tells_of_each_item(make: Maker, clock: FakeClock) -> None:
    """A flush that runs out of time counts every item that is left; the next one counts every end."""
    handler = HeldHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=True, max_batch_size=2)
    batcher.pause()
    futures = [batcher.add(item) for item in (1, 1, 1, 2, 3, 3)]
    futures[0].cancel()

    assert told(batcher.flush(0)) == {"pending": 5}
    handler.wait_for_batches(1)
    futures.append(batcher.add(1))
    futures[5].cancel()
    assert told(batcher.flush(0)) == {"pending": 5}
    flushing = elsewhere(batcher.flush)
    clock.wait_for_sleepers(1)
    handler.let_go()

    assert told(flushing.result(PATIENCE)) == {"succeeded": 5}
    assert endings(batcher.status()) == {"succeeded": 5, "cancelled": 2}


def test_flush_counts_an_item_that_joins_what_it_sends(make: Maker) -> None:
    """An item that comes to share a place which a flush waits for is part of it, in the queue and in the handler."""
    handler = HeldHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=True, max_batch_size=1)
    batcher.add_many([1, 2])
    assert told(batcher.flush(0)) == {"pending": 2}
    handler.wait_for_batches(1)
    batcher.add_many([1, 2])

    assert told(batcher.flush(0)) == {"pending": 4}
    handler.let_go()
    assert told(batcher.flush()) == {"succeeded": 4}


def test_flush_hears_of_ends_in_the_queue(make: Maker, clock: FakeClock) -> None:
    """Items that share a place and end there, by cancel, by timeout or dropped, are told of one by one."""
    batcher = make(None, max_delay=None, dedup_key=True, max_pending=6, overflow="drop_oldest")
    futures = [batcher.add(7) for _ in range(3)] + [batcher.add(7, timeout=1.0) for _ in range(2)]
    flushing = elsewhere(batcher.flush)
    clock.wait_for_sleepers(2)
    futures[1].cancel()
    clock.advance(1.0)
    assert isinstance(futures[3].exception(PATIENCE), ItemTimeoutError)
    batcher.add_many([8, 9, 10, 11])
    batcher.add_many([12])
    futures[2].cancel()
    batcher.add_many([13])

    assert told(flushing.result(PATIENCE)) == {"dropped": 1, "cancelled": 2, "expired": 2}


def test_close_without_draining_cancels_each(make: Maker) -> None:
    """`close(drain=False)` cancels every future that shares a place; a `put` among them is dropped."""
    drops = Drops()
    batcher = make(RecordingHandler(), max_delay=None, dedup_key=str, on_drop=drops)
    futures = [batcher.add(1), batcher.add(1), batcher.add(2)]
    batcher.put(1)
    batcher.put(3)

    assert told(batcher.close(drain=False)) == {"cancelled": 3, "dropped": 2}
    assert all(future.cancelled() for future in futures)
    assert drops.told == [(1, "BatcherClosedError"), (3, "BatcherClosedError")]
    assert places(batcher) == 0


def test_close_that_runs_out_of_time_drops_each(make: Maker) -> None:
    """`close(0)` fails what is unsent, each item once; what is in the handler keeps its futures, all of them."""
    drops = Drops()
    handler = HeldHandler(negate)
    batcher = make(handler, max_batch_size=1, dedup_key=True, on_drop=drops)
    running = [batcher.add(1)]
    handler.wait_for_batches(1)
    running.append(batcher.add(1))
    unsent = [batcher.add(2), batcher.add(2), batcher.add(2, timeout=60)]
    unsent[0].cancel()

    assert told(batcher.close(0)) == {"dropped": 2, "pending": 2}
    for future in unsent[1:]:
        with pytest.raises(BatcherClosedError):
            future.result(0)
    assert drops.told == [(2, "BatcherClosedError")] * 2
    handler.let_go()
    assert [future.result(PATIENCE) for future in running] == [-1, -1]


def test_close_drops_what_waits_for_another_attempt(make: Maker, clock: FakeClock) -> None:
    """Items that share a place which is held for a retry fail as the close runs out of time, with the last error."""
    drops = Drops()
    handler = RecordingHandler(lambda items: [OSError("down")] * len(items))
    batcher = make(handler, max_batch_size=1, dedup_key=True, retry=STEADY, on_drop=drops)
    futures = [batcher.add(7, timeout=30.0)]
    clock.wait_for_sleepers(1)
    futures.append(batcher.add(7))

    assert told(batcher.close(0)) == {"dropped": 2}
    for future in futures:
        error = future.exception(0)
        assert isinstance(error, BatcherClosedError)
        assert isinstance(error.__cause__, OSError)
    assert drops.told == [(7, "BatcherClosedError")] * 2
    assert counts(batcher) == (2, 1, 0, 0)


def test_expired_item_is_not_dropped_as_well(make: Maker, clock: FakeClock) -> None:
    """An item that had ended by its own timeout isn't told of again when its place is dropped."""
    drops = Drops()
    batcher = make(None, max_delay=None, dedup_key=True, on_drop=drops)
    hasty, patient = batcher.add(7, timeout=1.0), batcher.add(7)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    assert isinstance(hasty.exception(PATIENCE), ItemTimeoutError)
    batcher.close()

    assert isinstance(patient.exception(0), BatcherClosedError)
    assert drops.told == [(7, "BatcherClosedError")]
    assert endings(batcher.status()) == {"expired": 1, "dropped": 1}


def test_drop_without_a_listener_is_logged(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """A `put` that is dropped with the place that it shares is logged where nobody listens."""
    batcher = make(None, max_delay=None, dedup_key=True)
    batcher.put(7)
    batcher.put(7)
    batcher.close()

    assert "an item was dropped and nobody listens" in caplog.text
    assert batcher.status().dropped == 2


# Who comes between two steps


def test_cancel_between_drop_and_settling(make: Maker) -> None:
    """A place that was dropped takes its items with it: a cancel that comes before they are told is too late."""
    batcher = make(None, max_delay=None, dedup_key=True)
    futures = [batcher.add(7), batcher.add(7)]
    answers: list[bool] = []
    # Its first release comes right after the drop.
    ScriptedLock(batcher, lambda: answers.extend(elsewhere(future.cancel).result(PATIENCE) for future in futures))

    drop_unsent(batcher._line, "a reason")

    assert answers == [False, False]
    assert all(isinstance(future.exception(0), BatcherClosedError) for future in futures)
    assert endings(batcher.status()) == {"dropped": 2}


@pytest.mark.parametrize("options", [{}, {"dedup_key": True}], ids=["plain", "shared"])
def test_deadline_between_drop_and_settling(
    make: Maker, monkeypatch: pytest.MonkeyPatch, clock: FakeClock, options: dict[str, Any]
) -> None:
    """What was dropped while it was held for a retry doesn't expire as well, before its future is settled."""
    handler = RecordingHandler(lambda items: [OSError()] * len(items))
    batcher = make(handler, max_batch_size=2, retry=FOREVER, **options)
    futures = [batcher.add(1, timeout=5.0), batcher.add(2, timeout=5.0)]
    clock.wait_for_sleepers(1)
    line = batcher._line
    drop_held = line.queue.drop_held

    def drop_and_expire(*args: Any) -> None:
        drop_held(*args)
        monkeypatch.undo()

        def expire() -> None:
            clock.advance(9.0)
            with line.lock:
                assert line.expire_locked(clock.monotonic()) == []

        ScriptedLock(batcher, expire)

    monkeypatch.setattr(line.queue, "drop_held", drop_and_expire)
    batcher.close(0)

    assert all(isinstance(future.exception(0), BatcherClosedError) for future in futures)
    assert endings(batcher.status()) == {"dropped": 2}


def on_top(batcher: Batcher[Any, Any], script: Callable[[], object]) -> None:
    """Run a script, as a signal handler would, on top of a step that holds the lock."""
    with batcher._line.lock:
        script()


@pytest.mark.parametrize("is_settled_first", [True, False], ids=["settled-first", "accounted-first"])
def test_cancel_on_top_of_a_cut(make: Maker, monkeypatch: pytest.MonkeyPatch, *, is_settled_first: bool) -> None:
    """A destructor that cancels one of two, right before their place is claimed, takes only its own out."""
    handler = HeldHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=True)
    first, second, third = batcher.add(7), batcher.add(7), batcher.add(8)
    cut = batcher._line.queue.cut

    def cancel_and_cut(*args: Any) -> Any:
        assert first.cancel()
        assert third.cancel()
        return cut(*args)

    monkeypatch.setattr(batcher._line.queue, "cut", cancel_and_cut)
    flushing = elsewhere(batcher.flush)
    handler.wait_for_batches(1)
    if not is_settled_first:
        assert counts(batcher) == (3, 1, 0, 1)  # which accounts for the cancels
        assert not second.cancel()
    handler.let_go()

    assert told(flushing.result(PATIENCE)) == {"succeeded": 1, "cancelled": 2}
    assert second.result(0) == -7
    assert handler.batches == [[7]]
    assert endings(batcher.status()) == {"succeeded": 1, "cancelled": 2}


def test_cancel_on_top_of_a_join(make: Maker, monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    """A signal handler that cancels the only item of a key, just as another one joins it, leaves that one a place."""
    handler = RecordingHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=True)
    first = batcher.add(7)
    enter = batcher._line.queue.enter

    def cancel_and_enter(entries: Any, now: float) -> None:
        first.cancel()
        enter(entries, now)

    monkeypatch.setattr(batcher._line.queue, "enter", cancel_and_enter)
    second = batcher.add(7)
    batcher.flush()

    assert second.result(0) == -7
    assert handler.batches == [[7]]
    assert counts(batcher) == (2, 0, 0, 0)
    assert first.cancelled()


def test_add_on_top_of_another_shares_nothing(make: Maker, clock: FakeClock) -> None:
    """A signal handler's add has a place of its own, whatever step it interrupts."""
    handler = RecordingHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=True)
    futures = [batcher.add(7)]
    on_top(batcher, lambda: futures.append(batcher.add(7)))
    batcher.flush()

    assert [future.result(0) for future in futures] == [-7, -7]
    assert handler.batches == [[7, 7]]


def test_ctrl_c_as_places_are_dropped(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Ctrl-C ends a close that is dropping, every item that shared a place is told all the same, once."""
    drops = Drops()
    batcher = make(None, max_delay=None, dedup_key=True, on_drop=drops)
    futures = [batcher.add(7), batcher.add(7), batcher.add(8)]

    def interrupt(ticket: Ticket) -> None:
        monkeypatch.undo()
        press_ctrl_c()

    monkeypatch.setattr(_drop, "end_ticket", interrupt)
    with pytest.raises(KeyboardInterrupt):
        batcher.close()

    assert all(isinstance(future.exception(0), BatcherClosedError) for future in futures)
    assert sorted(item for item, _ in drops.told) == [7, 7, 8]
    assert adds_up(batcher.status())


def test_ctrl_c_while_a_place_is_freed_goes_through() -> None:
    """A key whose equality Ctrl-C ends keeps its place; the interrupt is the user's, and isn't swallowed."""

    class Interrupted:
        """A key whose equality ends in Ctrl-C."""

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise KeyboardInterrupt

    flights, first, second = Flights(), Ticket("item"), Ticket("item")
    first.shared_key, second.shared_key = Interrupted(), Interrupted()
    flights.take(first)
    with pytest.raises(KeyboardInterrupt):
        flights.free(second)

    assert len(flights._places) == 1


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "block"])
def test_room_is_looked_for_after_each_item(make: Maker, overflow: str) -> None:
    """Items that share a place in a handler take no room from those behind them: nothing is dropped without need."""
    handler = HeldHandler(negate)
    batcher = make(handler, max_batch_size=1, dedup_key=True, max_pending=2, overflow=overflow)
    running = batcher.add(1)
    handler.wait_for_batches(1)
    waiting = batcher.add(2)
    futures = batcher.add_many([1, 1, 1, 3])
    assert counts(batcher) == (6, 3, 2, 4)
    handler.let_go()

    assert [future.result(PATIENCE) for future in (running, waiting, *futures)] == [-1, -2, -1, -1, -1, -3]


@pytest.mark.parametrize("options", [{}, {"dedup_key": True}], ids=["plain", "shared"])
def test_on_drop_gets_the_item_though_ctrl_c_came(
    make: Maker, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """If Ctrl-C comes when the futures are settled, who waits is woken, and `on_drop` gets the items all the same."""
    drops = Drops()
    batcher = make(None, max_delay=None, on_drop=drops, **options)
    futures = [batcher.add(7), batcher.add(8)]
    waiting = elsewhere(wait, futures)
    while not is_watched(futures[1]):  # type: ignore[arg-type]
        pass

    def interrupt(line: object, announced: object) -> None:
        monkeypatch.undo()
        press_ctrl_c()

    monkeypatch.setattr(_drop, "tell_futures", interrupt)
    with pytest.raises(KeyboardInterrupt):
        batcher.close()

    assert drops.told == [(7, "BatcherClosedError"), (8, "BatcherClosedError")]
    assert waiting.result(PATIENCE).not_done == set()


def test_close_drops_every_part_of_a_split_batch(make: Maker) -> None:
    """A close that runs out of time while a part runs drops all the parts that were to follow."""
    drops = Drops()
    go = threading.Event()

    def fail_or_hang(items: list[int]) -> list[int]:
        if len(items) > 1:
            raise OSError
        assert go.wait(PATIENCE)
        return items

    handler = RecordingHandler(fail_or_hang)
    batcher = make(handler, max_batch_size=4, split_failed=True, on_drop=drops, adaptive=False)
    futures = batcher.add_many([1, 2, 3, 4])
    handler.wait_for_batches(3)

    report = batcher.close(0)
    go.set()

    assert told(report) == {"dropped": 3, "pending": 1}
    assert [item for item, _ in drops.told] == [2, 3, 4]
    assert futures[0].result(PATIENCE) == 1


def test_weight_of_what_was_tried_again_is_let_go(make: Maker, clock: FakeClock) -> None:
    """A batch that comes back and leaves again takes its weight along: there is room for as much as before."""
    handler = RecordingHandler(lambda items: [OSError()] if len(handler.batches) == 1 else items)
    batcher = make(
        handler, max_batch_size=1, weigh=float, max_pending_weight=5.0, overflow="raise", retry=STEADY, adaptive=False
    )
    first = batcher.add(5)
    clock.wait_for_sleepers(1)
    with pytest.raises(QueueFullError):
        batcher.add(1)
    clock.advance(1.0)
    assert first.result(PATIENCE) == 5
    batcher.flush()

    batcher.pause()
    assert all(batcher.add(item) for item in (2, 3))
