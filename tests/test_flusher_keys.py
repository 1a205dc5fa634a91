"""Items of different keys: apart in every call, in order within a key."""

import gc
import weakref

from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker

clock, make = stage.clock, stage.make


def test_keys_never_share_a_call(make: Maker) -> None:
    """Each handler call gets items of one key, in their order; a flush sends all keys."""
    handler = RecordingHandler()
    batcher = make(handler, batch_key=lambda item: item % 3, max_delay=None)

    batcher.add_many(range(9))

    assert batcher.flush().succeeded == 9
    assert sorted(handler.batches) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


def test_keys_have_their_own_triggers(make: Maker, clock: FakeClock) -> None:
    """Size and delay count for each key by itself."""
    handler = RecordingHandler()
    batcher = make(handler, batch_key=lambda item: item[0], max_batch_size=2, max_delay=1.0)
    batcher.put("a1")
    clock.wait_for_sleepers(1)
    clock.advance(0.5)
    batcher.put("b1")
    batcher.put("c1")
    batcher.put("c2")
    handler.wait_for_batches(1)
    assert handler.batches == [["c1", "c2"]]

    clock.wait_for_sleepers(1)
    clock.advance(0.5)
    handler.wait_for_batches(2)
    clock.wait_for_sleepers(1)
    assert handler.batches == [["c1", "c2"], ["a1"]]
    clock.advance(0.5)

    handler.wait_for_batches(3)
    assert handler.batches[2] == ["b1"]


def test_one_call_of_a_key_at_a_time(make: Maker, clock: FakeClock) -> None:
    """Calls of different keys run side by side; of one key one call at a time, in order."""
    handler = HeldHandler()
    batcher = make(handler, batch_key=lambda item: item[0], max_batch_size=1, max_delay=0, max_concurrent=4)

    for item in ("a1", "a2", "b1", "a3", "b2"):
        batcher.put(item)
    handler.wait_for_batches(2)
    clock.wait_for_sleepers(1)

    assert sorted(handler.items) == ["a1", "b1"]
    handler.let_go()
    assert batcher.flush(PATIENCE).succeeded == 5
    assert [item for item in handler.items if item[0] == "a"] == ["a1", "a2", "a3"]
    assert [item for item in handler.items if item[0] == "b"] == ["b1", "b2"]


def test_keys_are_freed(make: Maker) -> None:
    """A key whose items have all left, by whatever way, takes no memory."""

    class Key:
        """A key that can be watched."""

    handler = RecordingHandler()
    batcher = make(handler, batch_key=lambda item: item[0], max_delay=None)
    keys = [Key() for _ in range(3)]
    watches = [weakref.ref(key) for key in keys]
    batcher.add((keys[0], 1))
    batcher.add((keys[1], 1)).cancel()
    batcher.put((keys[2], 1))

    batcher.flush()
    handler.batches.clear()
    keys.clear()
    gc.collect()

    assert [watch() for watch in watches] == [None, None, None]
