"""Rows 1 to 4 of the faults: what a fork does to a batcher that is in use."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Batcher, ForkedError
from batcher.testing import FakeClock
from tests.forks import FORKS, FORKS_WITHOUT_HOOKS, Ledger, hookless_fork, in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

PATIENCE = 5.0
Situation = tuple[Batcher[str, str], list[Future[str]]]


@contextmanager
def held_elsewhere(lock: Any) -> Iterator[None]:
    """Have another thread hold the lock."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(PATIENCE)
    try:
        yield
    finally:
        release.set()
        holder.join()


@contextmanager
def lock_of_the_line_held(ledger: Ledger) -> Iterator[Situation]:
    """Fork while another thread is inside a short step under the batcher's lock."""
    with Batcher(ledger, max_delay=3600.0) as batcher:
        future = batcher.add("inherited")
        with held_elsewhere(batcher._line.lock):
            yield batcher, [future]
        batcher.flush(PATIENCE)


@contextmanager
def lock_of_the_workers_held(ledger: Ledger) -> Iterator[Situation]:
    """Fork while another thread is inside the pool that handlers run on."""
    with Batcher(ledger, max_delay=0.01, max_concurrent=2) as batcher:
        batcher.add("inherited").result(PATIENCE)
        assert batcher._line.pool is not None
        with held_elsewhere(batcher._line.pool._lock):
            yield batcher, []


@contextmanager
def lock_of_the_log_held(ledger: Ledger) -> Iterator[Situation]:
    """Fork while another thread counts what it is about to log."""
    with Batcher(ledger, max_delay=3600.0) as batcher:
        future = batcher.add("inherited")
        with held_elsewhere(batcher._line.reporter._lock):
            yield batcher, [future]
        batcher.flush(PATIENCE)


@contextmanager
def lock_of_a_future_held(ledger: Ledger) -> Iterator[Situation]:
    """Fork while another thread has locked a future's condition, as `wait` does."""
    with Batcher(ledger, max_delay=3600.0) as batcher:
        future = batcher.add("inherited")
        with held_elsewhere(future._condition):
            yield batcher, [future]
        batcher.flush(PATIENCE)


@contextmanager
def flusher_idle(ledger: Ledger) -> Iterator[Situation]:
    """Fork while nothing is pending."""
    with Batcher(ledger, max_delay=0.01) as batcher:
        batcher.add("inherited").result(PATIENCE)
        yield batcher, []


@contextmanager
def flusher_lingering(ledger: Ledger) -> Iterator[Situation]:
    """Fork while a batch waits for its delay."""
    with Batcher(ledger, max_delay=3600.0) as batcher:
        future = batcher.add("inherited")
        yield batcher, [future]
        batcher.flush(PATIENCE)


@contextmanager
def handler_running(ledger: Ledger) -> Iterator[Situation]:
    """Fork while the handler has one item and another one waits."""
    entered, release = threading.Event(), threading.Event()

    def handler(items: list[str]) -> list[str]:
        entered.set()
        if "inherited" in items:
            release.wait(PATIENCE)
        return ledger(items)

    with Batcher(handler, max_delay=0.0) as batcher:
        futures = [batcher.add("inherited")]
        assert entered.wait(PATIENCE)
        yield batcher, [*futures, batcher.add("inherited too")]
        release.set()


@contextmanager
def producer_waiting(ledger: Ledger) -> Iterator[Situation]:
    """Fork while a producer waits for room."""
    with FakeClock() as clock, Batcher(ledger, max_delay=0.01, max_pending=1) as batcher:
        batcher.pause()  # else a full queue would force a batch
        futures = [batcher.add("inherited")]
        producer = threading.Thread(target=batcher.put, args=("inherited too",))
        producer.start()
        clock.wait_for_sleepers(2)
        yield batcher, futures
        batcher.resume()
        producer.join(PATIENCE)
        batcher.flush(PATIENCE)


SITUATIONS: list[Any] = [
    lock_of_the_line_held,
    lock_of_the_workers_held,
    lock_of_the_log_held,
    lock_of_a_future_held,
    flusher_idle,
    flusher_lingering,
    handler_running,
    producer_waiting,
]


def add_flush_close(batcher: Batcher[str, str], futures: list[Future[str]]) -> float:
    """Use the batcher in a child for all that it is for; return the seconds that it took."""
    began = time.monotonic()
    batcher.resume()
    for future in futures:
        future.add_done_callback(lambda future: 1 / 0)  # what it raises is logged
    future = batcher.add("of the child")
    batcher.put("of the child too")
    assert batcher.flush(PATIENCE).complete
    assert future.result(PATIENCE) == "of the child"
    assert batcher.close(PATIENCE).complete
    assert batcher.status().succeeded == batcher.status().accepted == 2
    for inherited in futures:
        with pytest.raises(ForkedError):
            inherited.result(PATIENCE)
    return time.monotonic() - began


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_row_01_child_works_whatever_the_parent_was_doing(situation: Any, fork: Callable[[], int]) -> None:
    """Whoever held which lock at the fork, the child adds, flushes and closes within a second."""
    ledger = Ledger()
    with situation(ledger) as (batcher, futures):
        seconds = in_child(lambda: add_flush_close(batcher, futures), fork)

    assert seconds < 1.0
    deliveries = ledger.deliveries()
    assert deliveries.pop(("child", "of the child")) == 1
    assert deliveries.pop(("child", "of the child too")) == 1
    assert set(deliveries) <= {("parent", "inherited"), ("parent", "inherited too")}
    assert set(deliveries.values()) == {1}, "row 3: an item of the parent's was delivered again"


@pytest.mark.parametrize("fork", FORKS)
def test_row_02_child_has_a_flusher_of_its_own(fork: Callable[[], int]) -> None:
    """What a child adds is delivered by the delay alone, nobody flushes."""
    delay = 0.2
    ledger = Ledger()
    with Batcher(ledger, max_delay=delay) as batcher:
        batcher.add("of the parent").result(PATIENCE)

        def look() -> float:
            began = time.monotonic()
            batcher.add("of the child").result(PATIENCE)
            return time.monotonic() - began

        seconds = in_child(look, fork)

    assert seconds < 2 * delay
    assert ledger.deliveries() == {("parent", "of the parent"): 1, ("child", "of the child"): 1}


@pytest.mark.parametrize("fork", FORKS)
def test_row_03_items_of_the_parent_are_delivered_once(fork: Callable[[], int]) -> None:
    """Neither a flush nor a close of the child sends what the parent has pending; the parent does."""
    ledger = Ledger()
    batcher = Batcher(ledger, max_delay=3600.0, max_batch_size=4)
    futures = batcher.add_many([f"item {number}" for number in range(3)])
    batcher.put("item 3")
    batcher.put("item 4")

    def look() -> bool:
        return batcher.flush(PATIENCE).complete and batcher.close(PATIENCE).complete

    assert in_child(look, fork)
    assert batcher.close(PATIENCE).succeeded >= 1
    assert [future.result(PATIENCE) for future in futures] == ["item 0", "item 1", "item 2"]
    assert ledger.deliveries() == {("parent", f"item {number}"): 1 for number in range(5)}


def raised_by(call: Callable[[], object]) -> str:
    """Return the name of the error that the call raises."""
    try:
        call()
    except BaseException as error:
        return type(error).__name__
    return "nothing"


def heard_by_a_callback(future: Future[str]) -> str:
    """Return the name of the error that a callback finds, at once."""
    heard: list[Future[str]] = []
    future.add_done_callback(heard.append)
    return raised_by(heard[0].result)


LOOKS: dict[str, Callable[[Future[str]], object]] = {
    "result": lambda future: raised_by(lambda: future.result(PATIENCE)),
    "exception": lambda future: type(future.exception(PATIENCE)).__name__,
    "wait": lambda future: raised_by(wait([future], PATIENCE, FIRST_COMPLETED).done.pop().result),
    "as_completed": lambda future: raised_by(next(as_completed([future], PATIENCE)).result),
    "callback": heard_by_a_callback,
    "done": lambda future: future.done() and raised_by(future.result),
    "cancel": lambda future: future.cancel() or raised_by(future.result),
    "running": lambda future: future.running() or raised_by(future.result),
}


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("situation", [flusher_lingering, handler_running])
def test_row_03_inherited_futures_fail_clearly(situation: Any, look: str, fork: Callable[[], int]) -> None:
    """However a child looks at a future of its parent's, it finds a ForkedError and never waits."""
    ledger = Ledger()
    with situation(ledger) as (_, futures):
        found = in_child(lambda: [LOOKS[look](future) for future in futures], fork)

    assert set(found) == {"ForkedError"}
    assert all(future.result(PATIENCE) for future in futures), "the parent's own are another matter"


# Each returns False where it was answered by what the parent has.
FIRST_CALLS: dict[str, Callable[[Batcher[Any, Any], list[Future[str]]], object]] = {
    "add": lambda batcher, _: not batcher.add("first").done(),
    "put": lambda batcher, _: batcher.put("first"),
    "add_many": lambda batcher, _: not batcher.add_many(["first"])[0].done(),
    "map": lambda batcher, _: list(batcher.map(["first"])) == ["first"],
    "flush": lambda batcher, _: batcher.flush(PATIENCE).pending == 0,
    "close": lambda batcher, _: batcher.close(PATIENCE).pending == 0,
    "status": lambda batcher, _: batcher.status().accepted == 0,
    "pause": lambda batcher, _: batcher.pause(),
    "register_handler": lambda batcher, _: batcher.register_handler(list),
    "result": lambda _, futures: {raised_by(future.result) for future in futures} <= {"ForkedError"},
}


@FORKS_WITHOUT_HOOKS
@pytest.mark.parametrize("call", FIRST_CALLS)
@pytest.mark.parametrize("situation", [flusher_idle, flusher_lingering, handler_running])
def test_row_04_fork_without_hooks_is_noticed_by_any_first_call(situation: Any, call: str) -> None:
    """Whatever is called first in a child whose fork ran no hook, it meets an empty batcher that works."""
    ledger = Ledger()
    with situation(ledger) as (batcher, futures):

        def look() -> bool:
            assert FIRST_CALLS[call](batcher, futures) is not False
            if call != "close":
                batcher.put("second")
                assert batcher.flush(PATIENCE).complete
            return bool(batcher.status().succeeded == batcher.status().accepted)

        assert in_child(look, hookless_fork)

    deliveries = ledger.deliveries()
    assert set(deliveries.values()) == {1}
    assert {item for who, item in deliveries if who == "child"} <= {"first", "second"}


@pytest.mark.parametrize("fork", FORKS)
def test_row_03_child_of_a_handler_ends_with_it(fork: Callable[[], int]) -> None:
    """A handler that forks: where the child's side of it returns, it doesn't go on with the parent's items."""
    ledger = Ledger()
    children: list[int] = []
    outlived: list[int] = []
    reading, writing = os.pipe()

    def handler(items: list[str]) -> list[str]:
        if items == ["forks"]:
            child = fork()
            if not child:
                os.close(reading)
                return items  # or SystemExit: to the batcher it is the same
            children.append(child)
            os.close(writing)
            # The end of the pipe is the end of the child.
            if not select.select([reading], [], [], PATIENCE / 3)[0]:
                os.kill(child, signal.SIGKILL)
                outlived.append(child)
            os.close(reading)
        return ledger(items)

    with Batcher(handler, max_batch_size=1, max_delay=0.0) as batcher:
        batcher.pause()
        batcher.add_many(["forks", "waits"])
        batcher.resume()
        assert batcher.flush(PATIENCE).complete
    os.waitpid(children[0], 0)

    assert outlived == []
    assert ledger.deliveries() == {("parent", "forks"): 1, ("parent", "waits"): 1}


def test_row_01_child_may_use_the_batcher_inside_its_handler() -> None:
    """A child that was forked in a handler isn't taken to be in one: the batcher that it has is another one."""
    ledger = Ledger()

    def handler(items: list[str]) -> list[object]:
        return [in_child(look)] if items == ["forks"] else list(ledger(items))

    def look() -> bool:
        batcher.put("of the child")
        return batcher.flush(PATIENCE).complete

    with Batcher(handler, max_delay=0.01) as batcher:
        assert batcher.add("forks").result(2 * PATIENCE) is True

    assert ledger.deliveries() == {("child", "of the child"): 1}


def test_row_01_children_of_children_work_as_well() -> None:
    """Each process of a chain of forks has its own queue and flusher."""
    ledger = Ledger()

    def look() -> bool:
        batcher.add("of the child")
        return in_child(lambda: add_flush_close(batcher, [])) < 1.0 and batcher.flush(PATIENCE).complete

    with Batcher(ledger, max_delay=3600.0) as batcher:
        batcher.put("of the parent")
        assert in_child(look)

    assert ledger.deliveries() == {
        ("parent", "of the parent"): 1,
        ("child", "of the child"): 2,
        ("child", "of the child too"): 1,
    }
