"""Callbacks hear of the end of a future, each once, and disturb nobody."""

import threading
from concurrent.futures import (
    Future,
)
from typing import Any

import pytest

from batcher._failure import Failure
from batcher._future import announce, is_watched
from tests.lone_owner import LoneOwner, blocked_on, meanwhile, wait_until_blocked


@pytest.fixture(name="owner")
def _owner() -> LoneOwner:
    """What stands for the batcher."""
    return LoneOwner()


def test_callback_hears_of_every_end(owner: LoneOwner) -> None:
    """A callback gets its future when that is settled, failed or cancelled."""
    futures = owner.futures(3)
    heard: list[object] = []
    for future in futures:
        future.add_done_callback(heard.append)
    owner.settle(futures[0], 1)
    owner.settle(futures[1], Failure(ValueError(), shared=False))
    futures[2].cancel()

    assert heard == futures


def test_callback_on_a_done_future_is_called_at_once(owner: LoneOwner) -> None:
    """A callback that comes late is called where it is added."""
    settled, cancelled = owner.futures(2)
    owner.settle(settled)
    cancelled.cancel()
    heard: list[object] = []
    settled.add_done_callback(heard.append)
    cancelled.add_done_callback(heard.append)

    assert heard == [settled, cancelled]


def test_callbacks_run_once_and_in_order(owner: LoneOwner) -> None:
    """Callbacks run in the order they were added, one that a callback adds at once, none a second time."""
    future = owner.future()
    heard: list[str] = []

    def first(done: Future[Any]) -> None:
        heard.append("first")
        done.add_done_callback(lambda _: heard.append("in"))

    future.add_done_callback(first)
    future.add_done_callback(lambda _: heard.append("second"))
    owner.settle(future)
    announce([future])

    assert heard == ["first", "in", "second"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_callback_that_raises_strands_nobody(owner: LoneOwner, error: type[BaseException]) -> None:
    """Whatever a callback raises is reported; the other callbacks and futures of the batch hear all the same."""
    futures = owner.futures(3)
    heard: list[object] = []

    def explode(_: object) -> None:
        raise error

    for future in futures:
        future.add_done_callback(explode)
        future.add_done_callback(heard.append)
    # Not on the main thread, where a Ctrl-C is the user's own.
    with meanwhile(lambda: owner.settle_all((future, "fine") for future in futures)):
        pass
    with meanwhile(lambda: futures[0].add_done_callback(explode)) as ends:
        pass

    assert ends == [None]
    assert heard == futures
    assert [future.result() for future in futures] == ["fine"] * 3
    assert [type(caught) for caught in owner.callback_errors] == [error] * 4


def test_interrupted_callback_goes_through_and_strands_nobody(owner: LoneOwner) -> None:
    """The user's Ctrl-C in a callback on the main thread goes through; who tells again reaches all the others."""
    futures = owner.futures(2)
    heard: list[str] = []

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    futures[0].add_done_callback(lambda _: heard.append("before"))
    futures[0].add_done_callback(interrupt)
    futures[0].add_done_callback(lambda _: heard.append("after"))
    futures[1].add_done_callback(lambda _: heard.append("other"))
    with pytest.raises(KeyboardInterrupt):
        owner.settle_all((future, "fine") for future in futures)
    announce(futures)

    assert heard == ["before", "after", "other"]


def test_blocked_callers_are_woken_before_any_callback(owner: LoneOwner) -> None:
    """A slow callback, of this future or another of the batch, holds up nobody who waits for a result."""
    slow, waited = owner.futures(2)
    released = threading.Event()
    in_time: list[bool] = []
    slow.add_done_callback(lambda _: in_time.append(released.wait(10)))
    waited.add_done_callback(lambda _: in_time.append(released.wait(10)))

    def wait() -> None:
        waited.result(10)
        released.set()

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until_blocked(waited)
    owner.settle_all([(slow, 1), (waited, 2)])
    thread.join(10)

    assert in_time == [True, True]


def test_watched_are_those_that_somebody_waits_for(owner: LoneOwner) -> None:
    """A future is watched from its first callback or blocked caller, and not before."""
    unseen, called_back, waited = owner.futures(3)
    called_back.add_done_callback(lambda _: None)
    with blocked_on(waited):
        assert [is_watched(future) for future in (unseen, called_back, waited)] == [False, True, True]
        owner.settle(waited)
