"""`cache`: results by dedup key, in a mapping of the user's that is asked before an item enters."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any, NoReturn

import cachetools
import pytest

from batcher import Batcher, BatcherClosedError, HandlerTimeoutError, QueueFullError, ReentrantCallError, Retry
from batcher._cache import MISS, ResultCache
from batcher._clock import current_clock
from batcher._report import Reporter
from batcher.testing import FakeClock, RecordingHandler
from tests import stage
from tests.stage import PATIENCE, HeldHandler, Maker, elsewhere, endings
from tests.test_single_flight import counts, negate

if TYPE_CHECKING:
    from collections.abc import Callable

clock, make = stage.clock, stage.make


class Scripted(dict[Any, Any]):
    """A mapping that runs scripts as it is read and written."""

    def __init__(
        self, on_read: Callable[[Any], object] = lambda key: None, on_write: Callable[[Any], object] = lambda key: None
    ) -> None:
        super().__init__()
        self.on_read = on_read
        self.on_write = on_write

    def get(self, key: Any, default: Any = None) -> Any:
        """Run the script, and read."""
        self.on_read(key)
        return super().get(key, default)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.on_write(key)
        super().__setitem__(key, value)


def fail(*args: object) -> NoReturn:
    """Be a mapping that can't."""
    raise ConnectionError("the cache is away")


# What is kept


def test_result_is_kept_by_its_key(make: Maker) -> None:
    """A second item of the key gets the first one's result without a handler call, at once."""
    handler = RecordingHandler(negate)
    cache: dict[Any, Any] = {}
    batcher = make(handler, max_delay=None, dedup_key=abs, cache=cache)
    first = batcher.add(7)
    batcher.flush()

    second = batcher.add(-7)

    assert (first.result(0), second.result(0)) == (-7, -7)
    assert handler.batches == [[7]]
    assert cache == {7: -7}
    status = batcher.status()
    assert (status.accepted, status.succeeded, status.deduplicated) == (2, 2, 1)
    assert (status.batches, status.pending) == (1, 0)


def test_none_is_a_result(make: Maker) -> None:
    """A result of None is kept like any other."""
    handler = RecordingHandler()
    batcher = make(handler, max_delay=None, dedup_key=True, cache={})
    batcher.add(7)
    batcher.flush()

    assert batcher.add(7).result(0) is None
    assert handler.batches == [[7]]


def test_key_of_none_is_not_kept(make: Maker) -> None:
    """Items whose key is None are neither looked up nor kept."""
    handler = RecordingHandler(negate)
    cache = {None: "never"}
    batcher = make(handler, max_delay=None, dedup_key=lambda item: None, cache=cache)
    futures = [batcher.add(7), batcher.add(7)]
    batcher.flush()

    assert [future.result(0) for future in futures] == [-7, -7]
    assert cache == {None: "never"}


def test_errors_are_not_kept(make: Maker) -> None:
    """An item that failed is tried anew by the next one of its key; its neighbour's result is kept."""
    answers: list[Any] = [[OSError("down"), "fine"], ["good"]]
    handler = RecordingHandler(lambda items: answers.pop(0))
    cache: dict[str, str] = {}
    batcher = make(handler, max_delay=None, dedup_key=True, cache=cache)
    bad, fine = batcher.add_many(["a", "b"])
    batcher.flush()
    assert cache == {"b": "fine"}

    again = batcher.add_many(["a", "b"])
    batcher.flush()

    assert isinstance(bad.exception(0), OSError)
    assert [future.result(0) for future in (fine, *again)] == ["fine", "good", "fine"]
    assert handler.batches == [["a", "b"], ["a"]]


def test_result_is_kept_before_it_is_seen(make: Maker) -> None:
    """Whoever has a result finds it in the cache, and the counters that include it."""
    seen: list[Any] = []
    cache: dict[int, int] = {}
    handler = HeldHandler(negate)
    batcher = make(handler, max_batch_size=1, dedup_key=True, cache=cache)
    future = batcher.add(7)
    handler.wait_for_batches(1)
    future.add_done_callback(lambda done: seen.append((dict(cache), batcher.status().succeeded)))
    handler.let_go()
    batcher.flush()
    batcher.close()

    assert seen == [({7: -7}, 1)]


def test_retried_items_are_kept_when_they_succeed(make: Maker, clock: FakeClock) -> None:
    """Of a batch that partly failed, what succeeded is kept at once, the rest when it does."""
    cache: dict[int, int] = {}

    def fail_odd_once(items: list[int]) -> list[Any]:
        return [OSError() if item % 2 and len(handler.batches) == 1 else -item for item in items]

    handler = RecordingHandler(fail_odd_once)
    batcher = make(handler, max_batch_size=2, dedup_key=True, cache=cache, retry=Retry(delay=1.0, jitter="none"))
    odd, even = batcher.add_many([1, 2])
    assert even.result(PATIENCE) == -2
    assert cache == {2: -2}
    clock.wait_for_sleepers(1)
    clock.advance(1.0)

    assert odd.result(PATIENCE) == -1
    assert cache == {1: -1, 2: -2}


def test_late_result_of_what_is_tried_again_is_not_kept(make: Maker, clock: FakeClock) -> None:
    """What a call brings that had been given up is thrown away, though its items are still under way."""
    cache: dict[int, int] = {}
    handler = HeldHandler(negate)
    batcher = make(
        handler,
        max_batch_size=1,
        dedup_key=True,
        cache=cache,
        handler_timeout=1.0,
        retry=Retry(delay=9.0, jitter="none"),
    )
    future = batcher.add(7)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    clock.wait_for_sleepers(1)
    handler.let_go()
    while batcher.status().stuck_handlers:
        pass
    assert cache == {}
    clock.advance(9.0)

    assert future.result(PATIENCE) == -7
    assert cache == {7: -7}


def test_late_result_is_not_kept(make: Maker, clock: FakeClock) -> None:
    """What a call brings that had been given up is thrown away."""
    cache: dict[int, int] = {}
    handler = HeldHandler(negate)
    batcher = make(handler, max_batch_size=1, dedup_key=True, cache=cache, handler_timeout=1.0)
    future = batcher.add(7)
    handler.wait_for_batches(1)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    with pytest.raises(HandlerTimeoutError):
        future.result(PATIENCE)
    handler.let_go()
    batcher.close()

    assert cache == {}


def test_result_that_comes_as_its_batch_is_taken_apart(make: Maker, clock: FakeClock) -> None:
    """A call that ends while the flusher gives it up and retries part of it disturbs nobody."""
    cache = Scripted()
    handler = HeldHandler(lambda items: {item: -item for item in items})
    batcher = make(
        handler,
        max_batch_size=2,
        dedup_key=True,
        cache=cache,
        handler_timeout=1.0,
        retry=Retry(delay=1.0, jitter="none"),
    )

    def time_out(key: int) -> None:
        cache.on_write = lambda key: None
        clock.wait_for_sleepers(1)
        clock.advance(1.0)
        clock.wait_for_sleepers(1)  # the flusher has given the call up

    cache.on_write = time_out
    futures = batcher.add_many([1, 2])
    handler.wait_for_batches(1)
    handler.let_go()
    while not cache:
        pass
    clock.wait_for_sleepers(1)
    clock.advance(1.0)

    assert [future.result(PATIENCE) for future in futures] == [-1, -2]
    assert batcher.flush(PATIENCE).pending == 0
    assert batcher.status().stuck_handlers == 0


# Hits


def test_hits_among_others(make: Maker) -> None:
    """`add_many` sends only what isn't known; the futures are in the order of the items."""
    handler = RecordingHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=True, cache={2: "two", 4: "four"})
    futures = batcher.add_many([1, 2, 3, 4, 1])
    assert [future.done() for future in futures] == [False, True, False, True, False]
    batcher.flush()

    assert [future.result(0) for future in futures] == [-1, "two", -3, "four", -1]
    assert handler.batches == [[1, 3]]
    status = batcher.status()
    assert (status.accepted, status.succeeded, status.deduplicated) == (5, 5, 3)


def test_put_of_what_is_known(make: Maker) -> None:
    """A `put` whose result is known is done."""
    handler = RecordingHandler()
    batcher = make(handler, max_delay=None, dedup_key=True, cache={7: "seven"})
    batcher.put(7)

    assert endings(batcher.status()) == {"succeeded": 1}
    assert handler.batches == []


def test_hit_needs_no_room_and_no_thread(make: Maker) -> None:
    """A known item enters a full queue, and alone starts nothing; its own timeout doesn't matter."""
    batcher = make(None, max_delay=None, dedup_key=True, cache={7: "seven"}, max_pending=1, overflow="raise")
    assert batcher.add(7, timeout=5.0).result(0) == "seven"
    assert batcher._line.post is None
    batcher.add(1)

    assert batcher.add(7).result(0) == "seven"
    assert batcher.add_many([7, 7], timeout=5.0)[1].result(0) == "seven"
    assert counts(batcher) == (5, 4, 1, 0)


@pytest.mark.parametrize("add", [Batcher.add, Batcher.put, lambda batcher, item: batcher.add_many([item])])
def test_hit_after_close_is_refused(make: Maker, add: Callable[[Batcher[Any, Any], object], object]) -> None:
    """A closed batcher gives no results out, known or not."""
    batcher = make(negate, dedup_key=True, cache={7: "seven"})
    batcher.close()

    with pytest.raises(BatcherClosedError):
        add(batcher, 7)

    assert endings(batcher.status()) == {"refused": 1}


@pytest.mark.parametrize("overflow", ["block", "raise", "drop_oldest", "drop_newest"])
def test_hits_among_others_after_close(make: Maker, overflow: str) -> None:
    """A closed batcher refuses the whole `add_many`, and counts each item."""
    batcher = make(negate, dedup_key=True, cache={7: "seven"}, overflow=overflow)
    batcher.close()

    with pytest.raises(BatcherClosedError):
        batcher.add_many([1, 7, 2])

    assert endings(batcher.status()) == {"refused": 3}


def test_hits_are_refused_with_the_others(make: Maker) -> None:
    """All or nothing under "raise": without room for the others, the known ones are refused as well."""
    batcher = make(
        RecordingHandler(negate), max_delay=None, dedup_key=True, cache={7: "seven"}, max_pending=1, overflow="raise"
    )

    with pytest.raises(QueueFullError):
        batcher.add_many([7, 1, 2])

    assert endings(batcher.status()) == {"refused": 3}


def test_hits_are_settled_when_others_find_no_room(make: Maker) -> None:
    """Under "block" the known items have their results, though the wait for room has ended for others."""
    batcher = make(None, max_delay=None, dedup_key=True, cache={7: "seven"}, max_pending=1)
    futures = batcher.add_many([1, 7, 2, 3], block_timeout=0.01)

    assert futures[1].result(0) == "seven"
    assert [isinstance(future.exception(0), QueueFullError) for future in futures[2:]] == [True, True]
    assert not futures[0].done()
    assert endings(batcher.status()) == {"succeeded": 1, "refused": 2}


def test_hits_when_the_batcher_closes_meanwhile(make: Maker) -> None:
    """If the batcher closes while `add_many` waits for room, no known item is left without an end."""
    handler = HeldHandler(negate)
    batcher = make(handler, max_batch_size=1, dedup_key=True, cache={7: "seven"}, max_pending=1)
    running = batcher.add(1)
    handler.wait_for_batches(1)
    adding = elsewhere(batcher.add_many, [2, 7, 3])
    while not batcher._line.waiters:
        pass
    batcher.close(0)
    handler.let_go()
    futures = adding.result(PATIENCE)

    assert all(isinstance(future.exception(PATIENCE), BatcherClosedError) for future in futures)
    assert running.result(PATIENCE) == -1
    assert endings(batcher.status()) == {"succeeded": 1, "dropped": 1, "refused": 2}


# A cache that can't


@pytest.mark.parametrize(
    ("options", "reads"),
    [({"on_read": fail}, 2), ({"on_write": fail}, 2)],
    ids=["read", "write"],
)
def test_cache_that_raises_is_a_miss(
    make: Maker, caplog: pytest.LogCaptureFixture, options: dict[str, Any], reads: int
) -> None:
    """A cache that raises costs a handler call and a line in the log, and fails nobody."""
    handler = RecordingHandler(negate)
    batcher = make(handler, max_delay=None, dedup_key=True, cache=Scripted(**options))
    for _ in range(reads):
        future = batcher.add(7)
        batcher.flush()
        assert future.result(0) == -7

    assert handler.batches == [[7]] * reads
    assert caplog.text.count("the cache raised") == 1


def test_cache_that_exits_ends_no_thread(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """SystemExit out of a cache disturbs neither the batch nor the flusher."""

    def leave(key: object) -> NoReturn:
        raise SystemExit(key)

    batcher = make(negate, max_delay=None, dedup_key=True, cache=Scripted(on_write=leave))
    futures = batcher.add_many([1, 2])
    batcher.flush()

    assert [future.result(0) for future in futures] == [-1, -2]
    assert "the cache raised" in caplog.text


def test_key_that_is_lost_between_two_steps_is_a_miss(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """A mapping by time may find a key, and not find it any more: that is no error."""

    def lose(key: object) -> NoReturn:
        raise KeyError(key)

    batcher = make(negate, max_delay=None, dedup_key=True, cache=Scripted(on_read=lose))
    future = batcher.add(7)
    batcher.flush()

    assert future.result(0) == -7
    assert caplog.text == ""


def test_look_up_makes_no_entry(make: Maker) -> None:
    """A mapping that has a default for every key isn't taken to know every result."""
    cache: defaultdict[int, int] = defaultdict(int)
    batcher = make(negate, max_delay=None, dedup_key=True, cache=cache)
    future = batcher.add(7)
    assert not cache
    batcher.flush()

    assert future.result(0) == -7


# Who may use it when


def test_cache_may_call_the_batcher(make: Maker) -> None:
    """A mapping that adds and looks at the status, as it is read and as it is written, deadlocks nobody."""
    handler = RecordingHandler(negate)
    cache = Scripted()
    batcher = make(handler, max_delay=None, dedup_key=True, cache=cache)

    def call_back(key: int) -> None:
        if key < 100:
            batcher.put(key + 100)
            batcher.add(key + 100)
            batcher.status()

    cache.on_read = cache.on_write = call_back
    future = elsewhere(batcher.add, 7).result(PATIENCE)
    while batcher.status().pending:
        elsewhere(batcher.flush, PATIENCE).result(PATIENCE)

    assert future.result(0) == -7
    assert handler.batches == [[107, 7]]
    assert counts(batcher) == (5, 3, 0, 0)


def test_cache_is_used_by_one_thread_at_a_time(make: Maker) -> None:
    """The mapping needs no lock of its own, and the batcher's lock isn't held meanwhile."""
    inside = threading.Lock()
    overlaps: list[Any] = []

    def enter(key: int) -> None:
        overlaps.append(key) if not inside.acquire(blocking=False) else inside.release()
        overlaps.append(key) if batcher._line.is_nested else None

    cache = Scripted(enter, enter)
    batcher = make(negate, max_batch_size=4, max_delay=0.0, dedup_key=True, cache=cache, max_concurrent=4)
    adders = [elsewhere(batcher.add_many, range(start, start + 50)) for start in (0, 25, 50)]
    futures = [future for adder in adders for future in adder.result(PATIENCE)]

    assert [future.result(PATIENCE) for future in futures] == [
        -item for start in (0, 25, 50) for item in range(start, start + 50)
    ]
    assert overlaps == []


def test_call_on_top_of_a_call_finds_nothing() -> None:
    """A signal handler that asks while its thread uses the mapping gets no answer, instead of a deadlock."""
    answers: list[Any] = []
    mapping = Scripted()
    cache = ResultCache(mapping, Reporter("test", current_clock()))
    mapping["key"] = "result"
    mapping.on_read = lambda key: answers.append(cache.look_up("key"))

    assert cache.look_up("key") == "result"
    assert answers == [MISS]


def test_call_on_top_of_a_call_waits_for_nothing(make: Maker) -> None:
    """On top of the cache, as in a signal handler, an add never waits for room, and flush and close refuse."""
    handler = HeldHandler(negate)
    cache = Scripted()
    batcher = make(handler, max_batch_size=1, dedup_key=True, cache=cache, max_pending=1)
    batcher.add(1)
    handler.wait_for_batches(1)
    batcher.add(2)
    refusals: list[str] = []

    def interrupt(key: int) -> None:
        cache.on_read = lambda key: None
        batcher.put(3)
        for call in (batcher.flush, batcher.close):
            with pytest.raises(ReentrantCallError) as refusal:
                call()
            refusals.append(str(refusal.value))

    cache.on_read = interrupt
    with pytest.raises(QueueFullError):
        elsewhere(batcher.add, 4, block_timeout=0.0).result(PATIENCE)

    assert len(refusals) == 2
    assert counts(batcher) == (3, 0, 2, 1)


CACHES: dict[str, Callable[[], Any]] = {
    "ttl": lambda: cachetools.TTLCache(maxsize=64, ttl=0.001),
    "lru": lambda: cachetools.LRUCache(maxsize=16),
    "ordered": OrderedDict,
}


@pytest.mark.parametrize("kind", CACHES)
def test_caches_of_cachetools_under_many_threads(make: Maker, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """Eight threads get the right results from a cache that may be used by one at a time."""
    batcher = make(lambda items: [item * item for item in items], max_delay=0.0, dedup_key=True, cache=CACHES[kind]())
    start = threading.Barrier(8)

    def use(seed: int) -> list[bool]:
        start.wait()
        return [batcher.add(item).result(PATIENCE) == item * item for item in range(seed, seed + 150)]

    users = [elsewhere(use, 10 * number) for number in range(8)]

    assert all(all(user.result(PATIENCE)) for user in users)
    assert caplog.text == ""
    status = batcher.status()
    assert status.accepted == status.succeeded == 8 * 150


# Options


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cache": {}}, ValueError),
        ({"cache": {}, "dedup_key": None}, ValueError),
        ({"cache": [], "dedup_key": True}, TypeError),
        ({"cache": dict, "dedup_key": True}, TypeError),
        ({"cache": True, "dedup_key": True}, TypeError),
        ({"dedup_key": False}, TypeError),
        ({"dedup_key": "key"}, TypeError),
        ({"dedup_key": 1}, TypeError),
    ],
    ids=["no-key", "key-none", "list", "class", "flag", "false", "str", "number"],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    """A cache needs `dedup_key` and is a MutableMapping; `dedup_key` is a callable or True."""
    with pytest.raises(error, match=r"dedup_key|cache"):
        Batcher(negate, **options)


def test_empty_cache_is_a_cache(make: Maker) -> None:
    """A mapping that is false because it is empty counts."""
    cache: cachetools.LRUCache[int, int] = cachetools.LRUCache(4)
    batcher = make(negate, max_delay=None, dedup_key=True, cache=cache)
    batcher.add(7)
    batcher.flush()

    assert dict(cache) == {7: -7}
