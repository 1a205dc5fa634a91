"""The item's future behaves as any Future, and is settled once.

Who watches it is in `test_future_watchers`, what it does to errors in `test_failure`, what it costs
and keeps in `test_future_memory`.
"""

import threading
from concurrent.futures import CancelledError, Future, InvalidStateError, wait

import pytest

from batcher import ForkedError, ReentrantCallError
from batcher._failure import Failure
from batcher._future import claim_locked, fail_forked, is_running, is_watched, settle_locked
from tests.lone_owner import LoneOwner, blocked_on, meanwhile, wait_until_blocked


@pytest.fixture(name="owner")
def _owner() -> LoneOwner:
    """What stands for the batcher."""
    return LoneOwner()


def test_is_a_future(owner: LoneOwner) -> None:
    """Whoever asks for a `concurrent.futures.Future` gets one, which waits at first."""
    future = owner.future("item")

    assert isinstance(future, Future)
    assert (future.done(), future.running(), future.cancelled()) == (False, False, False)


def test_result(owner: LoneOwner) -> None:
    """A settled future has its result, as often as one asks, and no error."""
    future = owner.future("item")
    owner.settle(future, "result")

    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert [future.result(), future.result(0), future.result(timeout=None)] == ["result"] * 3
    assert future.exception() is None


def test_running_while_claimed(owner: LoneOwner) -> None:
    """A future whose item is in a handler is running, and can't be cancelled."""
    future = owner.future()
    owner.claim(future)

    assert (future.done(), future.running(), future.cancelled()) == (False, True, False)
    assert is_running(future)
    assert not future.cancel()
    owner.settle(future, 1)
    assert future.result() == 1


def test_repr_shows_the_state_and_no_payload(owner: LoneOwner) -> None:
    """The state is there to read, the item and the result are not."""
    future, cancelled = owner.future("secret item"), owner.future("secret item")
    seen = [repr(future)]
    owner.claim(future)
    seen.append(repr(future))
    owner.settle(future, "secret result")
    seen.append(repr(future))
    cancelled.cancel()
    seen.append(repr(cancelled))

    states = ["pending", "running", "finished", "cancelled_and_notified"]
    assert [text.rpartition("state=")[2] for text in seen] == [f"{state}>" for state in states]
    assert not any("secret" in text for text in seen)


def test_snapshot_says_all_at_once(owner: LoneOwner) -> None:
    """What asyncio reads at once, from Python 3.14 on, is what the single questions answer."""
    waiting, settled, failed, cancelled = owner.futures(4)
    error = ValueError()
    owner.settle(settled, "result")
    owner.settle(failed, Failure(error, shared=False))
    cancelled.cancel()

    assert waiting._get_snapshot() == (False, False, None, None)
    assert settled._get_snapshot() == (True, False, "result", None)
    assert failed._get_snapshot() == (True, False, None, error)
    assert cancelled._get_snapshot() == (True, True, None, None)


def test_settled_once(owner: LoneOwner) -> None:
    """Only a claimed future is settled, and what comes after the first outcome changes nothing."""
    future = owner.future()
    assert not settle_locked(future, "unclaimed")
    owner.settle(future, "first")

    assert not settle_locked(future, "second")
    assert not settle_locked(future, Failure(ValueError(), shared=False))
    assert not claim_locked(future)
    assert future.result() == "first"


def test_only_the_batcher_settles(owner: LoneOwner) -> None:
    """What an executor would call is refused, in any state, and changes nothing."""
    future = owner.future()
    for settled in (False, True):
        with pytest.raises(InvalidStateError, match="only its batcher"):
            future.set_running_or_notify_cancel()
        with pytest.raises(InvalidStateError, match="only its batcher"):
            future.set_result(1)
        with pytest.raises(InvalidStateError, match="only its batcher"):
            future.set_exception(ValueError())
        if not settled:
            owner.settle(future, "own")

    assert future.result() == "own"


# Waiting


def test_result_waits_for_the_settling(owner: LoneOwner) -> None:
    """A blocked caller gets the result as soon as it is there."""
    future = owner.future()
    with blocked_on(future) as ends:
        owner.settle(future, 42)

    assert ends == [42]


def test_all_blocked_callers_are_woken(owner: LoneOwner) -> None:
    """Every thread that waits for the same future gets its result."""
    future = owner.future()
    with blocked_on(future) as first, blocked_on(future, beside=1) as second:
        owner.settle(future, "for all")

    assert first == second == ["for all"]


@pytest.mark.parametrize("timeout", [0, -1, -1e300, 0.001], ids=repr)
def test_timeout(owner: LoneOwner, timeout: float) -> None:
    """A wait ends with its time, at once where there is none; the item goes on, nobody is left waiting."""
    future = owner.future()
    with pytest.raises(TimeoutError):
        future.result(timeout)
    with pytest.raises(TimeoutError):
        future.exception(timeout)

    assert not is_watched(future)
    owner.settle(future, "late")
    assert future.result(timeout) == "late"


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, None], ids=repr)
def test_timeout_beyond_what_can_be_waited(owner: LoneOwner, timeout: float | None) -> None:
    """A wait of any length is one that a settling ends."""
    future = owner.future()

    def settle() -> None:
        wait_until_blocked(future)
        owner.settle(future, 1)

    thread = threading.Thread(target=settle)
    thread.start()

    assert future.result(timeout) == 1
    thread.join(5)


def test_timeout_that_is_no_time_is_refused(owner: LoneOwner) -> None:
    """Nan isn't waited for."""
    with pytest.raises(ValueError, match=r"^timeout must be"):
        owner.future().result(float("nan"))


def test_interrupted_wait_leaves_nothing_behind(owner: LoneOwner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the wait; nobody counts as waiting any more, and the future can be settled."""

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    future = owner.future()
    with monkeypatch.context() as patch:
        patch.setattr("batcher._clock.Bell.wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            future.result()

    assert not is_watched(future)
    owner.settle(future, 1)
    assert future.result() == 1


def test_reentrant_wait_is_refused_before_it_begins(owner: LoneOwner) -> None:
    """Who would wait for itself gets the error at once; a settled future is read from anywhere."""
    future = owner.future()
    owner.reentry = ReentrantCallError("would wait for itself")
    with pytest.raises(ReentrantCallError):
        future.result()
    with pytest.raises(ReentrantCallError):
        future.exception()

    owner.settle(future, 1)
    assert future.result() == 1


# Cancelling


def test_cancel_while_it_waits(owner: LoneOwner) -> None:
    """A waiting item's future is cancelled for good, and says so again."""
    future = owner.future()

    assert future.cancel()
    assert future.cancel()
    assert (future.done(), future.running(), future.cancelled()) == (True, False, True)
    for ask in (future.result, future.exception):
        with pytest.raises(CancelledError):
            ask()
    assert owner.claim(future) == [False]


def test_cancel_is_too_late_once_settled(owner: LoneOwner) -> None:
    """A result that is there stays."""
    future = owner.future()
    owner.settle(future, 1)

    assert not future.cancel()
    assert not future.cancelled()
    assert future.result() == 1


def test_cancel_wakes_blocked_callers(owner: LoneOwner) -> None:
    """Whoever waits for a cancelled future hears of it."""
    future = owner.future()
    with blocked_on(future) as ends:
        assert future.cancel()

    assert ends == [CancelledError]


def test_cancelled_neighbour_shifts_no_result(owner: LoneOwner) -> None:
    """Of a batch with cancelled items each future gets its own result, or none."""
    futures = owner.futures(6)
    futures[0].cancel()
    futures[3].cancel()
    owner.settle_all((future, f"result {number}") for number, future in enumerate(futures))

    assert [None if future.cancelled() else future.result() for future in futures] == [
        None,
        "result 1",
        "result 2",
        None,
        "result 4",
        "result 5",
    ]


# Forks


def test_inherited_future_fails_in_the_child(owner: LoneOwner) -> None:
    """In a forked child every way of asking gets a clear answer at once."""
    asked, read, polled, cancelled, watched = owner.futures(5)
    heard: list[object] = []
    owner.is_forked = True
    with pytest.raises(ForkedError, match="before a fork"):
        asked.result()
    watched.add_done_callback(heard.append)

    assert isinstance(read.exception(), ForkedError)
    assert polled.done()
    assert not cancelled.cancel()
    assert heard == [watched]
    assert all(isinstance(future.exception(), ForkedError) for future in (polled, cancelled, watched))


def test_inherited_lock_is_not_touched_in_the_child(owner: LoneOwner) -> None:
    """A condition that a thread of the parent held at the fork holds up nobody in the child."""
    future = owner.future()
    condition = future._condition
    holds, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with condition:
            holds.set()
            may_end.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait(10)
    owner.is_forked = True

    with meanwhile(lambda: wait([future], 5)) as ends:
        pass
    may_end.set()
    thread.join(5)
    assert ends == [({future}, set())]
    assert isinstance(future.exception(0), ForkedError)


def test_fork_changes_no_outcome(owner: LoneOwner) -> None:
    """What was settled or cancelled before the fork stays so in the child."""
    settled, cancelled = owner.futures(2)
    owner.settle(settled, "before")
    cancelled.cancel()
    owner.is_forked = True
    for future in (settled, cancelled):
        owner.check_fork(future)
        fail_forked(future)

    assert settled.result() == "before"
    assert cancelled.cancelled()
