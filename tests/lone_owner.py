"""What stands for a batcher where a test is about its futures alone."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from batcher._future import (
    ItemFuture,
    announce,
    cancelled_state,
    claim_locked,
    fail_forked,
    is_pending,
    settle_locked,
)


class LoneOwner:
    """An owner without a queue: the test itself claims and settles."""

    def __init__(self) -> None:
        """Own nothing yet."""
        self.lock = threading.RLock()
        self.is_forked = False
        self.reentry: BaseException | None = None
        self.callback_errors: list[BaseException] = []

    def check_fork(self, future: ItemFuture[Any]) -> None:
        """Fail the future where the test plays a child."""
        if self.is_forked:
            fail_forked(future)

    def check_reentry(self, future: ItemFuture[Any]) -> None:
        """Raise what the test prepared."""
        if self.reentry is not None:
            raise self.reentry

    def cancel(self, future: ItemFuture[Any]) -> bool:
        """Cancel a pending future."""
        with self.lock:
            if not is_pending(future):
                return False
            future._state = cancelled_state(future)
            return True

    def tell_later(self, future: ItemFuture[Any]) -> None:
        """Tell at once: there is no other thread."""
        announce((future,))

    def begin_wait(self, future: ItemFuture[Any]) -> None:
        """Know nobody."""

    def end_wait(self, future: ItemFuture[Any]) -> None:
        """Know nobody."""

    def callback_failed(self, error: BaseException) -> None:
        """Note what a callback raised."""
        self.callback_errors.append(error)

    def future(self, item: object = None) -> ItemFuture[Any]:
        """Make a future that waits."""
        return ItemFuture(item, self)

    def futures(self, count: int) -> list[ItemFuture[Any]]:
        """Make futures that wait, for the items 0, 1, and so on."""
        return [self.future(number) for number in range(count)]

    def claim(self, *futures: ItemFuture[Any]) -> list[bool]:
        """Put futures into a handler, as far as they still wait."""
        with self.lock:
            return [claim_locked(future) for future in futures]

    def settle(self, future: ItemFuture[Any], outcome: object = None) -> None:
        """Settle one future, claimed or not, and tell who watches it."""
        self.claim(future)
        with self.lock:
            assert settle_locked(future, outcome)
        announce([future])

    def settle_all(self, pairs: Iterable[tuple[ItemFuture[Any], object]]) -> list[ItemFuture[Any]]:
        """Settle a whole batch in one go, leaving out what was cancelled; return what was settled."""
        with self.lock:
            settled = [future for future, outcome in pairs if claim_locked(future) and settle_locked(future, outcome)]
        announce(settled)
        return settled


@contextmanager
def meanwhile(call: Callable[[], object]) -> Iterator[list[Any]]:
    """Make a call on another thread, and note how it ends: what it returns, or the type of what it raises."""
    ends: list[Any] = []

    def run() -> None:
        try:
            ends.append(call())
        except BaseException as error:
            ends.append(type(error))

    thread = threading.Thread(target=run)
    thread.start()
    yield ends
    thread.join(20)
    assert not thread.is_alive(), "the call still goes on"


@contextmanager
def blocked_on(future: ItemFuture[Any], beside: int = 0) -> Iterator[list[Any]]:
    """Have another thread wait for the future's result, `beside` others, and note how that ends."""
    with meanwhile(lambda: future.result(30)) as ends:
        wait_until_blocked(future, beside + 1)
        yield ends


def wait_until_blocked(future: ItemFuture[Any], callers: int = 1) -> None:
    """Return once so many threads are inside the future's `result`."""
    _poll(lambda: future._watch is not None and len(future._watch.bells) >= callers)


def wait_until_awaited(future: ItemFuture[Any], callers: int = 1) -> None:
    """Return once so many `wait` or `as_completed` have the future among theirs."""
    _poll(lambda: future._watch is not None and len(future._watch.waiters) >= callers)


def _poll(has_come: Callable[[], bool]) -> None:
    pause = threading.Event()
    deadline = monotonic() + 10
    while not has_come():
        assert monotonic() < deadline, "nobody came to wait"
        pause.wait(0.001)
