"""`priority` of a batcher: what leaves first, for the calls of a user, on every way in."""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Batcher, QueueFullError
from batcher._group import Ticket
from batcher._options import check_priority
from batcher.testing import FakeClock, RecordingHandler, inline

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 10.0


@pytest.fixture(name="handler")
def _handler() -> RecordingHandler:
    return RecordingHandler()


@pytest.fixture(name="batcher")
def _batcher(handler: RecordingHandler) -> Iterator[Batcher[Any, Any]]:
    """A batcher that waits until it is told to go on."""
    with Batcher(handler, max_batch_size=3, max_delay=None) as batcher:
        batcher.pause()
        yield batcher


def test_higher_number_leaves_first(batcher: Batcher[Any, Any], handler: RecordingHandler) -> None:
    """Whatever way items come in, a higher number leaves first, equal ones in order of arrival."""
    batcher.put("a")
    batcher.add("b")
    batcher.put("high 0", priority=10)
    batcher.add_many(["high 1", "high 2"], priority=10)
    batcher.add("low", priority=-1)
    batcher.put("c")
    batcher.add("d", priority=0)
    batcher.flush(PATIENCE)

    assert handler.batches == [["high 0", "high 1", "high 2"], ["a", "b", "c"], ["d", "low"]]


def test_each_gets_its_own_result() -> None:
    """An order of leaving that isn't that of coming mixes up no results."""

    def times_ten(items: list[int]) -> list[int]:
        return [item * 10 for item in items]

    with Batcher(times_ten, max_batch_size=2, max_delay=None) as batcher:
        batcher.pause()
        futures = [batcher.add(number, priority=number % 3) for number in range(9)]
        batcher.flush(PATIENCE)

        assert [future.result(0) for future in futures] == [number * 10 for number in range(9)]


class Level(enum.IntEnum):
    """Priorities by name."""

    NORMAL = 0
    HIGH = 5


def test_named_priorities(batcher: Batcher[Any, Any], handler: RecordingHandler) -> None:
    """An IntEnum's members are ints, zero among them, and so are numbers of any size."""
    batcher.add("normal", priority=Level.NORMAL)
    batcher.put("normal 2", priority=Level.NORMAL)
    batcher.add("high", priority=Level.HIGH)
    batcher.add("higher", priority=10**30)
    batcher.flush(PATIENCE)

    assert handler.batches == [["higher", "high", "normal"], ["normal 2"]]
    assert type(check_priority(Level.HIGH)) is int


@pytest.mark.parametrize("wrong", [True, False, 1.0, 0.0, "1", None, [1]], ids=repr)
def test_other_types_are_refused(batcher: Batcher[Any, Any], wrong: Any) -> None:
    """What is no int is refused, those equal to 0 too, and nothing was accepted; on the fast way neither."""
    batcher.put("first")
    assert batcher._line.gate > 0
    for call in (
        lambda: batcher.add("x", priority=wrong),
        lambda: batcher.put("x", priority=wrong),
        lambda: batcher.add_many(["x"], priority=wrong),
        lambda: batcher.add_many([], priority=wrong),
    ):
        with pytest.raises(TypeError, match=f"priority must be an int, got {wrong!r}".replace("[", r"\[")):
            call()

    assert batcher.status().accepted == 1


def test_refused_priority_leaves_the_fast_way_open(batcher: Batcher[Any, Any]) -> None:
    """A wrong priority, or one that finds no room, doesn't make a batcher one with priorities."""
    batcher.put("a")
    with pytest.raises(TypeError):
        batcher.put("b", priority="high")  # type: ignore[arg-type]
    batcher.add("c", priority=0)

    assert not batcher._line.queue.is_ranked
    assert batcher._line.gate > 0


def test_first_priority_shuts_the_fast_way(batcher: Batcher[Any, Any]) -> None:
    """From the first priority on each item comes in under the lock; those before it cost nothing more."""
    batcher.put("a")
    assert batcher._line.gate > 0
    batcher.put("b", priority=1)
    assert batcher._line.gate == 0
    batcher.put("c")

    assert batcher.status().pending == 3
    assert batcher._line.gate == 0


def test_first_priority_of_a_signal_handler_shuts_the_fast_way(
    batcher: Batcher[Any, Any], handler: RecordingHandler
) -> None:
    """An add on top of a call that holds the lock shuts it at once; the rest is done afterwards."""
    batcher.put("a")
    with batcher._line.lock:
        batcher.put("b", priority=1)
        assert batcher._line.gate == 0
        batcher.put("c")
    batcher.flush(PATIENCE)

    assert handler.batches == [["b", "a", "c"]]


def test_ticket_as_an_item(batcher: Batcher[Any, Any], handler: RecordingHandler) -> None:
    """What looks like an entry of the queue is an item like any other, before the first priority and after."""
    items = [Ticket("x"), Ticket("y")]
    batcher.put(items[0])
    batcher.put("high", priority=1)
    batcher.put(items[1])
    batcher.flush(PATIENCE)

    assert handler.batches == [["high", *items]]


@pytest.mark.parametrize("overflow", ["raise", "block"])
def test_full_queue_has_no_room_for_priorities_either(overflow: str) -> None:
    """A priority orders what leaves: it makes no room."""
    with Batcher(RecordingHandler(), max_pending=2, max_delay=None, overflow=overflow) as batcher:
        batcher.pause()
        batcher.add_many(["a", "b"])
        with pytest.raises(QueueFullError):
            batcher.add("high", priority=9, block_timeout=0.0)

        assert batcher.status().refused == 1


def test_oldest_is_dropped_whatever_its_priority() -> None:
    """The overflow policy goes by arrival: the item that waits longest makes room, a high one too."""
    handler = RecordingHandler()
    dropped: list[str] = []
    with Batcher(
        handler,
        max_pending=3,
        max_delay=None,
        overflow="drop_oldest",
        on_drop=lambda item, _: dropped.append(item),
    ) as batcher:
        batcher.pause()
        batcher.put("a")
        batcher.put("high", priority=9)
        for item in "bcd":
            batcher.put(item)

    assert dropped == ["a", "high"]
    assert handler.batches == [["b", "c", "d"]]


def test_starving_item_is_promoted() -> None:
    """After ten times the delay an item leaves before higher ones that came later."""
    handler = RecordingHandler()
    with FakeClock() as clock, Batcher(handler, max_batch_size=1, max_delay=1.0) as batcher:
        batcher.pause()
        batcher.put("low")
        clock.advance(9.5)
        batcher.put("high", priority=1)
        batcher.put("high 2", priority=1)
        batcher.resume()
        handler.wait_for_batches(3)
        batcher.pause()
        batcher.put("low")
        clock.advance(10.0)
        batcher.put("high", priority=1)
        batcher.resume()
        handler.wait_for_batches(5)

    assert handler.batches == [["high"], ["high 2"], ["low"], ["low"], ["high"]]


def test_keys_with_higher_items_leave_first() -> None:
    """With keys, the key whose item is highest sends its batch first."""
    handler = RecordingHandler()
    with Batcher(handler, batch_key=lambda item: item[0], max_delay=None) as batcher:
        batcher.pause()
        for key, priority in [("a", 0), ("b", 5), ("c", 1), ("b", 0)]:
            batcher.put((key, priority), priority=priority)

    assert handler.batches == [[("b", 5), ("b", 0)], [("c", 1)], [("a", 0)]]


def test_inline_handlers_see_the_order() -> None:
    """Where handlers run on the thread that adds, what waited meanwhile leaves by priority."""
    handler = RecordingHandler()
    with inline(), Batcher(handler, max_batch_size=2) as batcher:
        batcher.pause()
        batcher.put("low")
        batcher.put("high", priority=1)
        batcher.put("high 2", priority=1)
        batcher.resume()

    assert handler.batches == [["high", "high 2"], ["low"]]


def test_first_priority_among_many_threads() -> None:
    """While threads add on the fast way another one brings the first priority: nothing is lost, nor out of order."""
    seen: list[tuple[int, int, int]] = []
    crowd, each = 4, 400
    start = threading.Barrier(crowd + 1)
    batcher: Batcher[Any, None] = Batcher(seen.extend, max_batch_size=50, max_delay=0.001)
    with batcher:

        def produce(number: int) -> None:
            start.wait(PATIENCE)
            for turn in range(each):
                batcher.put((0, number, turn))

        threads = [threading.Thread(target=produce, args=(number,)) for number in range(crowd)]
        for thread in threads:
            thread.start()
        start.wait(PATIENCE)
        futures = [batcher.add((1, crowd, turn), priority=1) for turn in range(20)]
        for thread in threads:
            thread.join(PATIENCE)
        report = batcher.flush(PATIENCE)

        assert report.complete
        assert all(future.done() for future in futures)
    assert len(seen) == len(set(seen)) == crowd * each + 20
    for number in range(crowd + 1):
        turns = [turn for _, producer, turn in seen if producer == number]
        assert turns == sorted(turns)
