"""Tell when a batcher on a fake clock is quiet: when nothing more will happen until somebody does something."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher import Batcher
    from batcher._workers import DaemonPool
    from batcher.testing import FakeClock
    from tests.scripted_handler import ScriptedHandler

# What isn't quiet by then never will be: a thread spins, or waits for what doesn't come.
PATIENCE: Final = 5.0


class CallElsewhere(threading.Thread):
    """A blocking call on a thread of its own, and how it ended."""

    def __init__(self, call: Callable[[], Any]) -> None:
        """Make the call."""
        super().__init__(daemon=True)
        self._call = call
        self.outcome: Future[Any] = Future()
        self.start()

    def run(self) -> None:
        """Make the call, and note how it ends."""
        try:
            self.outcome.set_result(self._call())
        except BaseException as error:
            self.outcome.set_exception(error)


class Stillness:
    """Watches the threads that a batcher started, and those that are inside its blocking calls.

    Attributes:
        callers: The blocking calls, and how many items were unsettled when each began.
        deaths: What threads died of.
    """

    def __init__(
        self,
        batcher: Batcher[Any, Any],
        name: str,
        handler: ScriptedHandler,
        clock: FakeClock,
        executor: DaemonPool | None,
    ) -> None:
        """Watch the batcher of this name, and what its threads die of."""
        self._line = batcher._line
        self._name = name
        self._handler = handler
        self._clock = clock
        self._executor = executor
        self.callers: dict[CallElsewhere, int] = {}
        self._pause = threading.Event()
        self.deaths: list[BaseException | None] = []
        self._excepthook = threading.excepthook
        threading.excepthook = lambda args: self.deaths.append(args.exc_value)

    def end(self) -> None:
        """Watch no more."""
        threading.excepthook = self._excepthook
        assert self.deaths == []

    def wait(self) -> None:
        """Block until all is quiet."""
        deadline = monotonic() + PATIENCE
        # Threads that end, and workers that fall idle, tell nobody: so look again and again. What is looked at is
        # exact; the short pauses only leave the processor to the others.
        while not self._is_quiet():
            assert self.deaths == []
            assert monotonic() < deadline, f"never quiet: {self._look()}, {self._clock._asleep()} asleep"
            self._pause.wait(0.0002)

    def threads(self) -> list[threading.Thread]:
        """Return the batcher's own threads."""
        prefix = f"batcher-{self._name}-"
        return [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]

    def waiting_callers(self) -> list[CallElsewhere]:
        """Return the callers that aren't back."""
        return [caller for caller in self.callers if caller.is_alive()]

    def _is_quiet(self) -> bool:
        """Say whether all threads sleep on the clock, hang in the handler, or are idle."""
        before = self._look()
        sleepers, workers, idle = before
        with self._clock._changed:
            are_asleep = self._clock._asleep() == len(sleepers)
        # What changed meanwhile may have hidden a thread that was neither here nor there.
        return are_asleep and len(workers) == idle and self._look() == before

    def _look(self) -> tuple[set[threading.Thread], set[threading.Thread], int]:
        """Return the threads that should sleep on the clock, the workers out of the handler, and how many are idle."""
        held = {call.thread for call in self._handler.held()}
        free = [thread for thread in self.threads() if thread not in held]
        workers = {thread for thread in free if "-worker-" in thread.name}
        pool = self._executor or self._line.pool
        return set(free) - workers | set(self.waiting_callers()), workers, 0 if pool is None else len(pool._idle)
