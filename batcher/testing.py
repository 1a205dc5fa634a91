"""Tools for testing code that uses batcher: a clock to move, handlers in the calling thread, a recorder.

Example:
    >>> from batcher import Batcher
    >>> from batcher.testing import FakeClock, RecordingHandler
    >>> with FakeClock() as clock:
    ...     handler = RecordingHandler()
    ...     batcher = Batcher(handler, max_delay=60.0)
    ...     batcher.put("reading")
    ...     clock.advance(60.0)
    ...     handler.wait_for_batches(1)
    ...     _ = batcher.close()
    >>> handler.batches
    [['reading']]
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from batcher._clock import Bell, install_clock, uninstall_clock
from batcher._flusher import stir
from batcher._lifecycle import lines
from batcher._line import inline_mode
from batcher._options import check_callable, check_count, require_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["FakeClock", "RecordingHandler", "inline"]


class _Sleeper:
    """One thread that waits on the clock."""

    __slots__ = ("bell", "deadline", "is_overdue", "rings_before")

    def __init__(self, bell: Bell, deadline: float | None) -> None:
        self.bell = bell
        self.deadline = deadline
        self.is_overdue = False
        self.rings_before = bell.rings

    @property
    def is_asleep(self) -> bool:
        """Whether nothing has woken the thread, be it on its way already or not."""
        return not self.bell.is_rung and self.bell.rings == self.rings_before


class FakeClock:
    """A clock that stands still until it is moved, and wakes those who wait.

    Batchers that are made inside its `with` block run on it: delays, deadlines, the timeouts of `flush`
    and `close`. `Future.result(timeout)` stays on real time, so that a test can't hang on it.

    Thread safety: may be used from any thread.
    """

    def __init__(self, start: float = 0.0) -> None:
        """Stand at `start` seconds."""
        # Guards: _now, _sleepers, each sleeper's is_overdue.
        # Notified when: a thread goes to sleep.
        self._changed = threading.Condition()
        self._now = start
        self._sleepers: list[_Sleeper] = []

    def monotonic(self) -> float:
        """Return the clock's time in seconds."""
        with self._changed:
            return self._now

    def wait(self, bell: Bell, deadline: float | None) -> bool:
        """Wait for `bell`, at most until the clock is moved to `deadline`; say whether it rang."""
        sleeper = _Sleeper(bell, deadline)
        with self._changed:
            if deadline is not None and deadline <= self._now:
                return bell.wait(0)
            self._sleepers.append(sleeper)
            self._changed.notify_all()
        try:
            bell.wait()
        finally:
            with self._changed:
                self._sleepers.remove(sleeper)
        return not sleeper.is_overdue

    def advance(self, seconds: float) -> None:
        """Move the clock on, and wake those whose moment has come.

        Raises:
            TypeError: `seconds` is no number.
            ValueError: `seconds` is negative or nan.
        """
        step = require_seconds("seconds", seconds)
        with self._changed:
            self._now += step
            for sleeper in self._sleepers:
                if sleeper.deadline is not None and sleeper.deadline <= self._now:
                    sleeper.is_overdue = True
                    sleeper.bell.ring()

    def wait_for_sleepers(self, count: int, timeout: float = 5.0) -> None:
        """Block until `count` threads wait on this clock for what is yet to come.

        After it, a batcher's thread has seen all that was added, and a test may say that nothing left.

        Raises:
            TimeoutError: It took more than `timeout` real seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._asleep() >= count, timeout):
                raise TimeoutError(f"{self._asleep()} threads wait on the clock, not {count}")

    def _asleep(self) -> int:
        return sum(sleeper.is_asleep for sleeper in self._sleepers)

    def __enter__(self) -> Self:
        """Become the clock of every batcher that is made from now on."""
        install_clock(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop being it."""
        uninstall_clock(self)


@contextmanager
def inline() -> Iterator[None]:
    """Run handlers in the calling thread: every `add` and `put` sends at once what is pending.

    For tests that other threads would disturb, as Django's `TestCase`, whose transaction they don't see.
    Delays don't matter then, and timeouts aren't watched. Covers all batchers, those made before as well.
    """
    inline_mode.depth += 1
    try:
        _refresh_gates()
        yield
    finally:
        inline_mode.depth -= 1
        _refresh_gates()
        for line in lines():
            stir(line)


def _refresh_gates() -> None:
    for line in lines():
        with line.lock:
            line.refresh_gate_locked()


class RecordingHandler:
    """A handler that keeps what it was called with.

    Thread safety: may be called, and looked at, from any thread.

    Attributes:
        batches: The lists of items, in the order of the calls.
    """

    def __init__(self, answer: Callable[[list[Any]], object] | None = None) -> None:
        """Answer each call with `answer(items)`; by default with None."""
        check_callable("answer", answer)
        self._answer = answer
        # Guards: batches. Notified when: a call has been recorded.
        self._called = threading.Condition()
        self.batches: list[list[Any]] = []

    def __call__(self, items: list[Any]) -> Any:  # noqa: ANN401 - whatever `answer` returns
        """Record the items, and answer."""
        with self._called:
            self.batches.append(list(items))
            self._called.notify_all()
        return None if self._answer is None else self._answer(items)

    @property
    def items(self) -> list[Any]:
        """All items so far, in order."""
        with self._called:
            return [item for batch in self.batches for item in batch]

    def wait_for_batches(self, count: int, timeout: float = 5.0) -> None:
        """Block until there were `count` calls.

        Raises:
            TimeoutError: It took more than `timeout` real seconds.
        """
        check_count("count", count)
        with self._called:
            if not self._called.wait_for(lambda: len(self.batches) >= count, timeout):
                raise TimeoutError(f"{len(self.batches)} calls of the handler, not {count}")
