"""Play calls on a `Debounce` and a fake clock, and wait until all that follows from each has happened."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Debounce
from batcher._debounce import _registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from batcher.testing import FakeClock

# No test waits this long unless it fails; long enough for a loaded machine.
PATIENCE = 10.0


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Close the windows that a test leaves open, and free the debounces: their threads end with them."""
    yield
    pause = threading.Event()
    # A worker that has settled a future may still have a line to log, and then it ends without a word: so look again.
    for _ in range(1000):
        for ref, _ in list(_registry.values()):
            if (bursts := ref()) is not None:
                bursts.take(bursts.cancel)
            del bursts
        gc.collect()
        if not _registry:
            break
        pause.wait(0.002)


class Player:
    """A debounced function that notes its runs, and the clock that it runs on.

    Attributes:
        runs: When it ran, and with which call's number.
        futures: Those of the calls, by number.
    """

    def __init__(self, clock: FakeClock, wait: float, **options: Any) -> None:
        self._clock = clock
        runs: list[tuple[float, int]] = []

        # No method: player and debounce would refer to one another, and their threads would outlive the test.
        def run(number: int) -> int:
            runs.append((clock.monotonic(), number))
            return len(runs) - 1

        run.__qualname__ = "run"
        self.runs = runs
        self.futures: list[Future[int]] = []
        self.debounce = Debounce(run, wait, **options)

    def call(self) -> Future[int]:
        """Make the next call."""
        future = self.debounce(len(self.futures))
        self.futures.append(future)
        return future

    def play(self, operation: str) -> None:
        """Call the debounced function, or one of its methods, and wait until it is quiet."""
        if operation == "call":
            self.call()
        else:
            getattr(self.debounce, operation)()
        self.settle()

    def move_to(self, moment: float) -> None:
        """Let the time pass until `moment`, and stop at each one at which the timer rings."""
        while (due := self.debounce._bursts.state.window.due) is not None and due <= moment:
            self._clock.advance(due - self._clock.monotonic())
            self.settle()
        self._clock.advance(moment - self._clock.monotonic())

    def settle(self) -> None:
        """Return when the timer sleeps, and all runs have ended."""
        settle(self.debounce, self._clock)


def settle(debounce: Debounce[..., Any], clock: FakeClock) -> None:
    """Return when the debounce's timer sleeps, and its runs have ended."""
    if debounce.status().calls:
        clock.wait_for_sleepers(1)
    last = debounce._bursts.state.last()
    assert not wait([] if last is None else [last], PATIENCE).not_done


class Gate:
    """A function whose calls don't return before they are let go."""

    def __init__(self) -> None:
        self.runs: list[Any] = []
        self.threads: list[threading.Thread] = []
        self.active = 0
        self.most_active = 0
        self._begun = threading.Semaphore(0)
        self._go = threading.Semaphore(0)

    def __call__(self, value: Any = None) -> Any:
        """Say that a run has begun, and hold it."""
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        self.runs.append(value)
        self.threads.append(threading.current_thread())
        self._begun.release()
        assert self._go.acquire(timeout=PATIENCE)
        self.active -= 1
        return value

    def wait_for_run(self) -> None:
        """Block until one more run has begun."""
        assert self._begun.acquire(timeout=PATIENCE)

    def let_go(self, count: int = 1) -> None:
        """Let so many runs return."""
        self._go.release(count)
