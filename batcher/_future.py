"""The item's Future: lean, and settled a whole batch at a time.

A stock `Future` costs a condition, a lock, a deque and two lists before anybody looks at it. An
`ItemFuture` is one: `isinstance`, `wait`, `as_completed` and `asyncio.wrap_future` take it. But its
state lives in class-level defaults, the item waits in the slot where the result will be, and what a
watcher needs (a bell for each blocked caller, callbacks, the condition that `wait` locks) is made when
the first watcher comes.

Guarantees: a future is settled once; a result or an error reaches only the future's own callers; after
`result()` has returned or raised, the item is no longer referenced from here.

Locks. The owner's lock guards `_state` and `_watch`, until somebody asks for `_condition`, as
`concurrent.futures.wait` does. From then on that condition guards the step to a final state and the
list of waiters: `wait` locks the conditions of all its futures and relies on no state changing
meanwhile. Each future has a condition of its own, never one shared by a batch: `wait` locks them in the
order of their ids, so that two threads over two shared ones would deadlock.
"""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from batcher import _reentry
from batcher._clock import Bell
from batcher._failure import Failure
from batcher._options import require_seconds
from batcher.errors import ForkedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

R = TypeVar("R")


def is_ctrl_c(error: BaseException) -> bool:
    """Say whether the user's own Ctrl-C came while user code ran: that must go through."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


class Owner(Protocol):
    """What a future needs of the batcher that it belongs to."""

    lock: threading.RLock

    def check_fork(self, future: ItemFuture[Any]) -> None:
        """Fail `future` if it was made in a parent process; raises nothing."""
        ...

    def check_reentry(self, future: ItemFuture[Any]) -> None:
        """Raise ReentrantCallError if this thread would wait for itself."""
        ...

    def cancel(self, future: ItemFuture[Any]) -> bool:
        """Make a pending future a cancelled one and take it out of the queue, under the lock."""
        ...

    def tell_later(self, future: ItemFuture[Any]) -> None:
        """Have another thread announce a future that may have been cancelled just now."""
        ...

    def begin_wait(self, future: ItemFuture[Any]) -> object:
        """Note that a thread blocks on `future`; return what is known of the thread."""
        ...

    def end_wait(self, future: ItemFuture[Any]) -> None:
        """Note that a thread doesn't block on `future` any more."""
        ...

    def callback_failed(self, error: BaseException) -> None:
        """Report what a done-callback raised."""
        ...


class _Watch:
    """Who looks at one future: made when the first one comes."""

    __slots__ = ("bells", "callbacks", "caller", "condition", "waiters")

    def __init__(self) -> None:
        self.bells: list[Bell] = []
        self.callbacks: list[Callable[[Any], object]] = []
        self.caller: Any = None  # what the owner knows of the thread that waits
        self.condition: threading.Condition | None = None
        self.waiters: Sequence[Any] = ()  # from the first one on `_Waiters`

    @property
    def blocked(self) -> int:
        """How many wait: threads in `result`, and calls of `wait` and `as_completed`."""
        return len(self.bells) + len(self.waiters)


class _Waiters(list[Any]):
    """The waiters of `wait` and `as_completed`, which put themselves there: so the owner hears of them."""

    __slots__ = ("_future",)

    def __init__(self, future: ItemFuture[Any]) -> None:
        self._future = weakref.ref(future)

    def append(self, waiter: object) -> None:
        super().append(waiter)
        future: Any = self._future()  # it is there: who comes here has it
        future._owner.begin_wait(future)

    def remove(self, waiter: object) -> None:
        super().remove(waiter)
        future: Any = self._future()
        future._owner.end_wait(future)


class ItemFuture(Future[R]):
    """The result of one item: a `concurrent.futures.Future` that its batcher settles.

    `result()` and `exception()` block until the item's batch is done. `cancel()` works as long as the
    item waits in the queue; an item in a handler, or waiting for a retry, can't be cancelled.

    Thread safety: every method may be called from any thread; `cancel()`, `done()` and their like also
    from signal handlers and destructors.
    """

    _state: str = PENDING
    _exception: Any = None  # a Failure once failed
    _own_error: BaseException | None = None
    _watch: _Watch | None = None
    # What only some items need; see `_group.Ticket`.
    _key: Any = None
    _place: Any = None  # the group that it waits in, or the batch that it left with
    _is_collected: bool = False  # moved from the inbox to its group
    _priority: int = 0
    _since: float = 0.0
    _weight: float = 0.0
    _tally: Any = None  # of the flush that the item was sealed under

    def __init__(self, item: object, owner: Owner) -> None:
        """Hold `item` until its batch is cut; the stock `__init__` is what this class avoids."""
        self._result: Any = item
        self._owner = owner

    # What the stock class sets in __init__ and `wait` and `as_completed` look at.

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        # Raises nothing: `wait` would leave the conditions locked that it has already.
        owner = self._owner
        if self._state not in _DONE:
            owner.check_fork(self)
        with owner.lock:
            watch = self._watched_locked()
            if watch.condition is None:
                watch.condition = threading.Condition()
            return watch.condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        with self._owner.lock:
            watch = self._watched_locked()
            waiters = watch.waiters
            if not isinstance(waiters, list):
                waiters = watch.waiters = _Waiters(self)
            return waiters

    def _watched_locked(self) -> _Watch:
        watch = self._watch
        if watch is None:
            watch = self._watch = _Watch()
        return watch

    def cancelled(self) -> bool:
        """Return whether the future was cancelled."""
        return self._state in _CANCELLED

    def running(self) -> bool:
        """Return whether the item is in a handler, or waits for a retry."""
        if self._state not in _DONE:
            self._owner.check_fork(self)
        return self._state in (RUNNING, _SETTLING)

    def done(self) -> bool:
        """Return whether the future was settled or cancelled."""
        if self._state not in _DONE:
            self._owner.check_fork(self)
        return self._state in _DONE or self._state == CANCELLED

    def cancel(self) -> bool:
        """Cancel the item if no handler has it yet; return whether it is cancelled.

        Raises nothing; never blocks on a handler.
        """
        owner = self._owner
        if self._state not in _DONE:
            owner.check_fork(self)
        try:
            if not owner.cancel(self):
                return self._state in _CANCELLED
            item, self._result = self._result, None  # let go of outside the lock: it may have a destructor
            announce((self,))
            del item
        except BaseException:
            owner.tell_later(self)  # Ctrl-C, perhaps before those who wait were woken
            raise
        return True

    def result(self, timeout: float | None = None) -> R:
        """Return the item's result, waiting for it at most `timeout` seconds (None: without limit).

        Raises:
            CancelledError: The future was cancelled.
            TimeoutError: The timeout passed first; the item goes on.
            ReentrantCallError: Called by the batcher's own handler, hook or callback, which would wait
                for itself.
            Exception: Whatever the handler raised for this item, or a `BatcherError`.
        """
        if self._state != FINISHED:
            self._wait(timeout)
        if self._exception is None:
            return self._result  # type: ignore[no-any-return]
        error = self._error()
        try:
            # From the handler's own frames each time: else every raise would lengthen the traceback.
            raise error.with_traceback(self._exception.trace)
        finally:
            del error, self  # else the traceback's frame would refer to itself

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the item's error, or None; waits and raises as `result`."""
        if self._state != FINISHED:
            self._wait(timeout)
        return None if self._exception is None else self._error()

    def add_done_callback(self, fn: Callable[[Future[R]], object]) -> None:
        """Call `fn` with this future when it is done, or now if it is.

        Callbacks run on the thread that settles; what they raise is logged and disturbs nobody.
        """
        if self._state not in _DONE:
            self._owner.check_fork(self)
        if not self._watched(lambda watch: watch.callbacks.append(fn)):
            self._call_back([fn])

    def set_running_or_notify_cancel(self) -> bool:
        """Refuse: only its batcher moves an item's future."""
        raise InvalidStateError("only its batcher moves an item's future")

    def set_result(self, result: object) -> None:  # noqa: ARG002
        """Refuse: only its batcher settles an item's future."""
        raise InvalidStateError("only its batcher settles an item's future")

    def set_exception(self, exception: BaseException | None) -> None:  # noqa: ARG002
        """Refuse: only its batcher settles an item's future."""
        raise InvalidStateError("only its batcher settles an item's future")

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        """Return done, cancelled, result and exception, as asyncio reads them from Python 3.14 on."""
        if self._state != FINISHED:
            return self.done(), self.cancelled(), None, None
        error = self.exception()
        return True, False, None if error is not None else self._result, error

    def __repr__(self) -> str:
        """Show the state, never the item or the result."""
        return f"<ItemFuture at {id(self):#x} state={'finished' if self._state == FINISHED else self._state.lower()}>"

    def _wait(self, timeout: float | None) -> None:
        """Block until the future is done; raise if it is cancelled or the timeout passes."""
        seconds = None if timeout is None else require_seconds("timeout", max(timeout, 0))
        if self._state not in _DONE:
            self._owner.check_fork(self)
        if self._state not in _DONE:
            self._owner.check_reentry(self)
            self._wait_for_bell(seconds)
        if self._state in _CANCELLED:
            raise CancelledError
        if self._state != FINISHED:
            raise TimeoutError

    def _wait_for_bell(self, seconds: float | None) -> None:
        bell, owner, here = Bell(), self._owner, _reentry.here
        if not self._watched(lambda watch: watch.bells.append(bell)):
            return
        here.waits += 1
        try:
            if seconds != 0:  # a look is no wait
                self._watch.caller = owner.begin_wait(self)  # type: ignore[union-attr]
            bell.wait(seconds)
        finally:
            here.waits -= 1
            if self._state not in _DONE and self._watched(lambda watch: watch.bells.remove(bell)) and seconds != 0:
                owner.end_wait(self)

    def _watched(self, change: Callable[[_Watch], None]) -> bool:
        """Change who watches, unless the future is done; say whether it was changed."""
        with self._owner.lock:
            if self._state in _DONE:
                return False
            watch = self._watched_locked()
            if watch.condition is None:
                change(watch)
                return True
        with watch.condition:  # the guard from the day it exists
            if self._state in _DONE:
                return False
            change(watch)
            return True

    def _error(self) -> BaseException:
        """Return this future's own exception object, the same one each time."""
        if self._own_error is not None:
            return self._own_error
        own: BaseException = self._exception.own_copy()
        with self._owner.lock:
            if self._own_error is None:
                self._own_error = own
            return self._own_error

    def _conclude(self) -> None:
        """Take the last step of a future whose waiters `wait` or `as_completed` put there."""
        watch = self._watch
        assert watch is not None  # noqa: S101
        assert watch.condition is not None  # noqa: S101 - what else made it a step of its own
        with watch.condition:
            cancelled = self._state == CANCELLED
            self._state = CANCELLED_AND_NOTIFIED if cancelled else FINISHED
            for waiter in watch.waiters:
                if cancelled:
                    waiter.add_cancelled(self)
                elif self._exception is None:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
            watch.condition.notify_all()

    def _call_back(self, callbacks: list[Callable[[Any], object]]) -> None:
        """Run callbacks; none of them stops another, or the thread."""
        while callbacks:
            callback = callbacks.pop(0)  # one by one: if Ctrl-C ends this, the rest is still there
            try:
                callback(self)
            except BaseException as error:  # SystemExit in a callback must not strand the rest
                self._owner.callback_failed(error)
                if is_ctrl_c(error):
                    raise


# Settled, but the waiters of `wait` and `as_completed` have yet to be told.
_SETTLING = "SETTLING"
_ENDED = frozenset({CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, _SETTLING})
_CANCELLED = frozenset({CANCELLED, CANCELLED_AND_NOTIFIED})
# CANCELLED alone is such a step as well.
_DONE = frozenset({CANCELLED_AND_NOTIFIED, FINISHED})


def is_running(future: ItemFuture[Any]) -> bool:
    """Say whether the future's item was claimed, and isn't settled; stale at once without the lock."""
    return future._state == RUNNING


class Stateful(Protocol):
    """A future, or what stands for one in the queue."""

    _state: str


def claim_locked(future: Stateful) -> bool:
    """Make a pending future uncancellable; False if it was cancelled. The caller holds the lock."""
    if future._state != PENDING:
        return False
    future._state = RUNNING
    return True


def is_pending(future: Stateful) -> bool:
    """Say whether the future's item still waits in the queue. Stale at once without the lock."""
    return future._state == PENDING


def cancelled_state(future: ItemFuture[Any]) -> str:
    """Return the state that a cancelled future takes on; `announce` takes the last step, if there is one."""
    watch = future._watch
    return CANCELLED_AND_NOTIFIED if watch is None or watch.condition is None else CANCELLED


def settle_locked(future: ItemFuture[Any], outcome: object) -> bool:
    """Give a claimed future its result, or its error if `outcome` is a Failure.

    The caller holds the lock, and passes the future to `announce` after. Returns False, and changes
    nothing, where the future was settled before: by its own deadline, or as its batch was given up.
    """
    if future._state is not RUNNING:
        return False
    if type(outcome) is Failure:
        future._exception = outcome
        future._result = None
    else:
        future._result = outcome
    watch = future._watch
    future._state = FINISHED if watch is None or watch.condition is None else _SETTLING
    return True


def blocked_on(future: Stateful) -> int:
    """Return how many wait for the future; nobody does for an entry that is none."""
    watch = getattr(future, "_watch", None)
    if watch is not None:
        return watch.blocked  # type: ignore[no-any-return]
    return sum(map(blocked_on, getattr(future, "members", None) or ()))


def caller_of(future: ItemFuture[Any]) -> Any:  # noqa: ANN401 - what the owner put there
    """Return what the owner knows of the thread that waits for a watched future; None if none does."""
    watch = future._watch
    return watch.caller if watch is not None and watch.bells else None


def is_watched(future: ItemFuture[Any]) -> bool:
    """Say whether anybody waits for the future or has a callback on it."""
    watch = future._watch
    return watch is not None and bool(watch.bells or watch.callbacks or watch.waiters)


def announce(futures: Iterable[ItemFuture[Any]]) -> None:
    """Tell everybody who watches futures that were just settled or cancelled; no lock is held.

    Blocked callers are woken before any callback runs: a callback may be slow.
    """
    watched = [future for future in futures if future._watch is not None and future._state in _ENDED]
    for future in watched:
        if future._state in (_SETTLING, CANCELLED):
            future._conclude()
    # From here on nobody joins: the state is final, and joining looks at it first.
    for future in watched:
        for bell in future._watch.bells:  # type: ignore[union-attr]
            bell.ring()
    for future in watched:
        if future._watch.callbacks:  # type: ignore[union-attr]
            future._call_back(future._watch.callbacks)  # type: ignore[union-attr]


def fail_forked(future: ItemFuture[Any]) -> None:
    """End a future that a forked child has inherited; the parent's copy is another object."""
    if future._state not in _DONE:
        error = ForkedError("the item was added before a fork and belongs to the parent process")
        future._watch = None  # a lock in there may be held by a thread of the parent
        future._result = None
        future._exception = Failure(error, shared=False)
        future._state = FINISHED
