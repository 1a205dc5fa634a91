"""What a future costs while its item waits, and what it keeps when that has ended."""

import gc
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

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
    """An item that waits costs at most 160 bytes, its future included, while its caller holds that.

    In a process of its own: CPython makes every future a little larger once some have had more to say.
    """
    script = """
        import threading, tracemalloc
        from batcher import Batcher

        count = 10_000
        items = [object() for _ in range(count)]
        futures = [None] * count
        started, release = threading.Event(), threading.Event()

        def block(batch):
            started.set()
            release.wait(30)

        with Batcher(block, max_delay=0.0, max_pending=2 * count) as batcher:
            batcher.put(object())
            assert started.wait(10)
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            for position, item in enumerate(items):
                futures[position] = batcher.add(item)
            print((tracemalloc.get_traced_memory()[0] - before) / count)
            tracemalloc.stop()
            release.set()
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=True
    )

    assert 50 < float(ran.stdout) <= 160
