"""What a future costs while its item waits, and what it keeps when that has ended."""

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from batcher import Batcher
from batcher._failure import Failure
from tests.lone_owner import LoneOwner, blocked_on


class Payload:
    """Something whose end can be seen."""


@pytest.fixture(name="owner")
def _owner() -> LoneOwner:
    """What stands for the batcher."""
    return LoneOwner()


@contextmanager
def no_gc() -> Iterator[None]:
    """Show that no cycle keeps anything: only reference counts free what is freed in here."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("outcome", ["result", "failure", "cancelled"])
def test_item_is_let_go_of_when_it_has_ended(owner: LoneOwner, outcome: str) -> None:
    """However an item ends, its future keeps it no longer, without help of the garbage collector."""
    with no_gc():
        item = Payload()
        seen = weakref.ref(item)
        future = owner.future(item)
        del item
        assert seen() is not None
        if outcome == "cancelled":
            future.cancel()
        else:
            owner.settle(future, Failure(ValueError(), shared=False) if outcome == "failure" else "result")

        assert seen() is None


def test_result_is_freed_with_its_future(owner: LoneOwner) -> None:
    """A result lives as long as the future, waited for or not, without help of the garbage collector."""
    with no_gc():
        result = Payload()
        seen = weakref.ref(result)
        future = owner.future()
        future.add_done_callback(lambda _: None)
        with blocked_on(future) as ends:
            owner.settle(future, result)
        ends.clear()
        del result
        assert seen() is not None
        del future

        assert seen() is None


def test_raised_error_does_not_hold_its_future(owner: LoneOwner) -> None:
    """A future that raised is freed with its last user's reference, without help of the garbage collector."""
    futures = owner.futures(1)
    owner.settle(futures[0], Failure(ValueError("bad"), shared=True))
    seen = weakref.ref(futures[0])
    with no_gc():
        with pytest.raises(ValueError, match=r"^bad$"):
            futures.pop().result()

        assert seen() is None


def test_pending_item_takes_few_bytes() -> None:
    """An item that waits costs at most 160 bytes, its future included, while its caller holds that."""
    count = 10_000
    items = [object() for _ in range(count)]
    futures: list[object] = [None] * count
    started, release = threading.Event(), threading.Event()

    def block(batch: list[object]) -> None:
        started.set()
        release.wait(30)

    with Batcher(block, max_delay=0.0, max_pending=2 * count) as batcher:
        batcher.put(object())
        assert started.wait(10)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for position, item in enumerate(items):
                futures[position] = batcher.add(item)
            taken = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
            release.set()

    assert taken / count <= 160


@pytest.mark.parametrize("way", ["flusher", "workers", "lent"])
def test_error_that_a_caller_keeps_keeps_no_batch(way: str) -> None:
    """Who keeps a failed future, or its error, keeps neither the batch's items nor the batcher's insides alive."""
    executor = ThreadPoolExecutor(1) if way == "lent" else None

    def handler(batch: list[Payload]) -> None:
        raise ValueError("bad")

    with no_gc():
        with Batcher(handler, max_delay=0.0, max_concurrent=2 if way == "workers" else 1, executor=executor) as batcher:
            items = [Payload() for _ in range(3)]
            seen = [weakref.ref(item) for item in items]
            futures = batcher.add_many(items)
            items.clear()
            errors = [future.exception(10) for future in futures]
            batcher.flush(10)
        if executor is not None:
            executor.shutdown()

        assert [type(error) for error in errors] == [ValueError] * 3
        assert [ref() for ref in seen] == [None] * 3
