"""A real batcher with its real threads, any sequence of calls: what is guaranteed holds at every quiet moment.

After every step the machine waits until all is quiet, and then compares what the batcher says with what the futures,
the hooks and the handler have seen.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant

from tests.any_user import AnyUser
from tests.ledger import check_report
from tests.stillness import PATIENCE, CallElsewhere

if TYPE_CHECKING:
    from batcher import BatcherStatus

# A number makes a longer search, another one each time; without it every run is the same.
EXAMPLES: Final = int(os.environ.get("BATCHER_STATEFUL_EXAMPLES", "0"))


class BatcherMachine(AnyUser):
    """Whatever the user does, the guarantees hold."""

    @invariant()
    def holds(self) -> None:
        """Check all that is guaranteed."""
        self.stillness.wait()
        status = self.batcher.status()
        self.ledger.check(status)
        self._check_order()
        # Callers on the batcher's own threads come in above the bound: there nobody may wait.
        assert status.pending <= self.options["max_pending"] + len(self.ledger.out_of_turn)
        self._check_pause(status)
        self._check_nothing_is_overdue(status)
        self._check_callers()

    def _check_order(self) -> None:
        """First in, first out: within a key, and without keys where calls don't overlap."""
        if self.key is not None:
            self.ledger.check_order(self.key)
        elif self.options["max_concurrent"] == 1:
            self.ledger.check_order(lambda _: None)

    def _check_pause(self, status: BatcherStatus) -> None:
        """While paused, nothing leaves that no flush has asked for."""
        if self.is_flushing or self.is_closed:
            self.calls_before_pause = len(self.handler.calls)
        elif self.is_paused:
            assert len(self.handler.calls) == self.calls_before_pause
        self.is_flushing = self.is_flushing and status.pending > 0

    def _check_nothing_is_overdue(self, status: BatcherStatus) -> None:
        """What may leave has left, and who may go on has gone on."""
        busy = [call for call in self.handler.held() if not self.handler.is_given_up(call)]
        if not self.is_closed:
            assert status.state == ("paused" if self.is_paused else "open")
        if not self.has_handler or busy or status.state == "paused":
            return
        assert not self.stillness.waiting_callers()
        assert status.state == ("closed" if self.is_closed else "open")
        assert status.pending < self.options["max_pending"]
        assert self.key is not None or status.pending < self.options["max_batch_size"]
        if status.pending and self.options["max_delay"] is not None:
            assert status.oldest_pending_age is not None
            assert status.oldest_pending_age < self.options["max_delay"]

    def _check_callers(self) -> None:
        """Flushes and closes have told of every item; nobody waits for what has come."""
        for caller, unsettled in list(self.stillness.callers.items()):
            if not caller.is_alive():
                del self.stillness.callers[caller]
                report = caller.outcome.result(0)
                if report is not None:
                    check_report(report, unsettled)
        for listener, futures in list(self.listeners.items()):
            if all(future.done() for future in futures):
                del self.listeners[listener]
                listener.join(PATIENCE)
                assert not listener.is_alive()

    def teardown(self) -> None:
        """Whatever happened, close ends it: every item has ended, every caller is back, no thread is left."""
        if not hasattr(self, "stillness"):
            return
        self.handler.let_go()
        try:
            assert self.stillness.deaths == []
            CallElsewhere(self.batcher.close).outcome.result(PATIENCE)
            if self.executor is not None:
                self.executor.shutdown()
            for thread in (*self.stillness.callers, *self.listeners, *self.stillness.threads()):
                thread.join(PATIENCE)
                assert not thread.is_alive()
            status = self.batcher.status()
            assert (status.state, status.pending, status.processing) == ("closed", 0, 0)
            assert all(future.done() for future in self.ledger.futures.values())
            self.ledger.check(status)
            self._check_order()
            self._check_callers()
        finally:
            self.stillness.end()


BatcherMachine.TestCase.settings = settings(
    max_examples=EXAMPLES or 200,
    stateful_step_count=50,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestBatcher = BatcherMachine.TestCase
