"""The short way of a plain batcher's turns and adds: the corners that only a race or a destructor reaches."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from batcher import Batcher, _flusher
from batcher._pending import PendingQueue
from tests import stage
from tests.stage import PATIENCE

if TYPE_CHECKING:
    import pytest

    from tests.stage import Maker

make = stage.make


def test_undated_item_is_dated_when_it_is_collected() -> None:
    """An add that was under way as the queue was emptied brings no date."""
    queue = PendingQueue(max_batch_size=10, max_delay=1.0)
    queue.inbox.append("item")

    assert queue.collect_plain(5.0).since == 5.0


def test_marks_stay_for_what_comes_meanwhile() -> None:
    """What comes in while the batch is taken keeps the mark that it relies on."""
    queue = PendingQueue(max_batch_size=10, max_delay=1.0)
    queue.enter(["first"], 1.0)
    queue.collect_plain(1.0)
    queue.inbox.append("late")
    batch = queue.cut_all()

    assert batch is not None
    assert batch.items == ["first"]
    assert queue.only.marks
    assert queue.collect_plain(2.0).live == 1


def unstarted(batcher: Batcher[Any, Any]) -> Any:
    """Give the batcher a flusher's post whose thread the test plays itself."""
    line = batcher._line
    post = line.post = _flusher._new_post(line)
    line.refresh_gate_locked()
    return post


def test_turn_with_nothing_but_a_husk(make: Maker) -> None:
    """An item that a destructor cancels in the middle of the turn leaves no batch."""
    batcher = make(max_delay=0.0)
    batcher.register_handler(list)
    post = unstarted(batcher)
    line, future = batcher._line, batcher.add(1)
    future._state = "CANCELLED_AND_NOTIFIED"  # what `cancel` does first; the account follows below
    batch = _flusher._cut_plainly(line, post)
    line.post = None
    line.counters.cancelled += 1
    line.queue.ended.append((future, "cancelled"))  # type: ignore[arg-type]

    assert batch is None
    assert batcher.status().pending == 0


def test_add_while_the_flusher_lies_down_is_seen(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that comes between the look at the queue and the lower mark rings the flusher."""
    batcher = make(list, max_delay=0.0)
    line, post = batcher._line, unstarted(batcher)
    monkeypatch.setattr(line, "listen_locked", lambda: line.inbox.append("late"))

    is_rest, _ = line.rest_locked(post)

    assert is_rest
    assert post.bell.is_rung
    assert post.held is line
    _flusher._turn(line, post)
    assert batcher.status().succeeded == 1
    line.post = None


def test_priority_that_comes_while_the_queue_is_collected(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first priority from a destructor on the flusher makes the queue another one; who is blocked is served still."""
    batcher = make(list, max_delay=None)
    assert batcher.add(0).result(PATIENCE) == 0
    queue = batcher._line.queue
    collect, priorities = queue.collect_plain, [1]

    def collect_later(now: float) -> Any:
        if queue.blocked and priorities:
            batcher.put("urgent", priority=priorities.pop())
        return collect(now)

    monkeypatch.setattr(queue, "collect_plain", collect_later)

    assert batcher.add(1).result(PATIENCE) == 1
    assert not priorities


def test_turns_are_short_again_after_a_flush(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush that is complete is forgotten: what comes after it costs what it did before."""
    batcher = make(list, max_delay=60.0)
    batcher.put(0)
    assert batcher.flush(PATIENCE).complete
    batcher.add(1).result(PATIENCE)
    assert batcher.add(2).result(PATIENCE) == 2
    long_turns = itertools.count()
    plan = _flusher._plan_locked
    monkeypatch.setattr(_flusher, "_plan_locked", lambda *args: (next(long_turns), plan(*args))[1])
    for item in range(20):
        batcher.add(item).result(PATIENCE)

    assert next(long_turns) < 20  # a few, where the flusher looks before the caller blocks
