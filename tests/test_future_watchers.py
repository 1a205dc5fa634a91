"""`wait`, `as_completed` and asyncio take a batcher's future for any other, and hear of its end."""

import asyncio
import threading
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Future,
    as_completed,
    wait,
)
from typing import Any

import pytest

from batcher._failure import Failure
from batcher._future import ItemFuture, is_watched
from tests.lone_owner import LoneOwner, blocked_on, meanwhile, wait_until_awaited


@pytest.fixture(name="owner")
def _owner() -> LoneOwner:
    """What stands for the batcher."""
    return LoneOwner()


def ends_of(futures: set[Future[Any]]) -> list[str]:
    """Say how futures ended, sorted."""
    return sorted("cancelled" if it.cancelled() else str(it.exception() or it.result()) for it in futures)


def test_wait_for_all(owner: LoneOwner) -> None:
    """`wait` returns when the last future has ended, whichever way each did, before or meanwhile."""
    settled_before, cancelled_before, failed, cancelled, settled = futures = owner.futures(5)
    owner.settle(settled_before, "before")
    cancelled_before.cancel()
    with meanwhile(lambda: wait(futures, 10, ALL_COMPLETED)) as ends:
        wait_until_awaited(settled)
        assert cancelled.cancel()
        owner.settle(failed, Failure(ValueError("failed"), shared=False))
        assert ends == []
        owner.settle(settled, "settled")

    done, left = ends[0]
    assert ends_of(done) == ["before", "cancelled", "cancelled", "failed", "settled"]
    assert left == set()


@pytest.mark.parametrize("end", ["settled", "failed", "cancelled"])
def test_wait_for_the_first(owner: LoneOwner, end: str) -> None:
    """`wait` returns with the first future that ended in any way, and the others as left."""
    first, second = owner.futures(2)
    with meanwhile(lambda: wait([first, second], 10, FIRST_COMPLETED)) as ends:
        wait_until_awaited(first)
        if end == "cancelled":
            second.cancel()
        else:
            owner.settle(second, Failure(ValueError("failed"), shared=False) if end == "failed" else "settled")

    assert ends == [({second}, {first})]
    assert ends_of({second}) == [end]
    assert first._watch is not None
    assert first._watch.waiters == []


def test_wait_for_the_first_error(owner: LoneOwner) -> None:
    """`wait` passes over results and cancelled futures, and returns with the first error."""
    futures = owner.futures(4)
    with meanwhile(lambda: wait(futures, 10, FIRST_EXCEPTION)) as ends:
        wait_until_awaited(futures[3])
        owner.settle(futures[0])
        futures[1].cancel()
        assert ends == []
        owner.settle(futures[2], Failure(ValueError(), shared=False))

    assert ends == [(set(futures[:3]), {futures[3]})]


@pytest.mark.parametrize("mode", [FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED])
def test_wait_for_what_has_ended_returns_at_once(owner: LoneOwner, mode: str) -> None:
    """Where nothing is left to wait for, `wait` doesn't."""
    settled, failed, cancelled = futures = owner.futures(3)
    owner.settle(settled)
    owner.settle(failed, Failure(ValueError(), shared=False))
    cancelled.cancel()

    assert wait(futures, 0, mode) == (set(futures), set())


def test_wait_that_times_out(owner: LoneOwner) -> None:
    """`wait` says what is left when its time is over; the futures go on, watched by nobody."""
    futures = owner.futures(2)
    owner.settle(futures[0])

    assert wait(futures, 0.001) == ({futures[0]}, {futures[1]})
    assert not is_watched(futures[1])
    owner.settle(futures[1], "late")
    assert futures[1].result() == "late"


def test_wait_beside_other_executors(owner: LoneOwner) -> None:
    """A batcher's future and any other are waited for together."""
    own, other = owner.future(), Future[str]()
    with meanwhile(lambda: wait([own, other], 10)) as ends:
        wait_until_awaited(own)
        other.set_result("other")
        owner.settle(own, "own")

    assert ends == [({own, other}, set())]


def test_state_stands_still_while_wait_looks(owner: LoneOwner) -> None:
    """What holds the condition, as `wait` does while it looks around, sees no future end meanwhile."""
    settled, cancelled = owner.futures(2)
    for future, end in ((settled, lambda: owner.settle(settled, "done")), (cancelled, cancelled.cancel)):
        with future._condition:
            thread = threading.Thread(target=end)
            thread.start()
            while future._state in ("PENDING", "RUNNING"):
                thread.join(0.001)
                assert thread.is_alive()

            assert future._state not in ("FINISHED", "CANCELLED_AND_NOTIFIED")
            assert thread.is_alive()
        thread.join(10)

        assert future._state in ("FINISHED", "CANCELLED_AND_NOTIFIED")


class Scripted(threading.Condition):
    """A condition in whose way a future is settled: as somebody is about to join those who watch it."""

    def __init__(self, owner: LoneOwner, future: ItemFuture[Any]) -> None:
        """Take the place of the future's own condition."""
        super().__init__()
        self.owner, self.future, self.own = owner, future, future._condition
        assert future._watch is not None
        future._watch.condition = self

    def __enter__(self) -> bool:
        """Settle the future, once."""
        if self.future._state == "PENDING":
            self.future._watch.condition = self.own  # type: ignore[union-attr]
            self.owner.settle(self.future, "just now")
        return super().__enter__()


def test_nobody_joins_too_late(owner: LoneOwner) -> None:
    """Whoever is about to join those who watch a future, just as it ends, hears of the end."""
    called_back, waited = owner.futures(2)
    heard: list[object] = []
    Scripted(owner, called_back)
    Scripted(owner, waited)
    called_back.add_done_callback(heard.append)

    assert heard == [called_back]
    assert waited.result(10) == "just now"
    assert waited._watch is not None
    assert waited._watch.bells == []


def test_whoever_waits_on_the_condition_itself_is_notified(owner: LoneOwner) -> None:
    """Code that knows the stock class from inside, and waits on its condition, is woken."""
    future = owner.future()

    def wait_inside() -> bool:
        with future._condition:
            waits.set()
            return future._condition.wait(10)

    waits = threading.Event()
    with meanwhile(wait_inside) as ends:
        waits.wait(10)
        owner.settle(future)

    assert ends == [True]


def test_callers_join_those_of_wait(owner: LoneOwner) -> None:
    """Callbacks and blocked callers that come after `wait` hear of the end as well."""
    future = owner.future()
    heard: list[object] = []
    with meanwhile(lambda: wait([future], 10)) as waited:
        wait_until_awaited(future)
        with blocked_on(future) as ends:
            future.add_done_callback(heard.append)
            owner.settle(future, "done")

    assert ends == ["done"]
    assert heard == [future]
    assert waited == [({future}, set())]


def test_as_completed_yields_in_the_order_of_ending(owner: LoneOwner) -> None:
    """Futures come as they end, each once, however often it was given."""
    before, failed, cancelled, settled = owner.futures(4)
    owner.settle(before)
    endings = [
        lambda: owner.settle(settled),
        lambda: owner.settle(failed, Failure(ValueError(), shared=False)),
        cancelled.cancel,
    ]
    given: list[Future[Any]] = [before, failed, cancelled, settled, failed]
    seen = []
    for future in as_completed(given, 10):
        seen.append(future)
        if endings:
            endings.pop(0)()

    assert seen == [before, settled, failed, cancelled]


def test_as_completed_that_times_out(owner: LoneOwner) -> None:
    """`as_completed` gives what has ended, then says that its time is over; nobody is left watching."""
    settled, waiting = owner.futures(2)
    owner.settle(settled)
    given: list[Future[Any]] = [settled, waiting]
    completed = as_completed(given, 0.001)

    assert next(completed) is settled
    with pytest.raises(TimeoutError, match="1 "):
        next(completed)
    assert not is_watched(waiting)


# asyncio


def test_asyncio_awaits_every_end(owner: LoneOwner) -> None:
    """A coroutine awaits the result, the error or the cancelling of a wrapped future."""
    settled, failed, cancelled = owner.futures(3)

    async def main() -> list[Any]:
        wrapped = [asyncio.wrap_future(future) for future in (settled, failed, cancelled)]
        await asyncio.to_thread(owner.settle, settled, "done")
        await asyncio.to_thread(owner.settle, failed, Failure(KeyError("bad"), shared=True))
        await asyncio.to_thread(cancelled.cancel)
        return await asyncio.gather(*wrapped, return_exceptions=True)

    result, error, cancelling = asyncio.run(main())
    assert result == "done"
    assert isinstance(error, KeyError)
    assert isinstance(cancelling, asyncio.CancelledError)


def test_asyncio_cancels_a_waiting_item(owner: LoneOwner) -> None:
    """Cancelling the wrapped future cancels the item if it waits, and leaves it alone in a handler."""
    waiting, running = owner.futures(2)
    owner.claim(running)

    async def main() -> None:
        for future in (waiting, running):
            wrapped = asyncio.wrap_future(future)
            wrapped.cancel()
            with pytest.raises(asyncio.CancelledError):
                await wrapped

    asyncio.run(main())
    assert waiting.cancelled()
    owner.settle(running, "done")
    assert running.result() == "done"
