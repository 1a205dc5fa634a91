"""Any policies together, any handler, any sequence of calls: each item ends once, with its own result, in its turn.

A real batcher with its real threads on a clock that stands still. After every step the machine waits until all is
quiet, and compares what the batcher says with what the futures, the hooks and the handler have seen.
"""

from __future__ import annotations

import os
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batcher import Batcher, CircuitBreaker, FlushReport, Retry, Throttle
from batcher._future import blocked_on
from batcher.testing import FakeClock
from tests.policy_play import MODES, PolicyHandler, PolicyLedger, batch_key, dedup_key, weigh
from tests.stillness import PATIENCE, CallElsewhere, Stillness

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

# A number makes a longer search, another one each time; without it every run is the same.
EXAMPLES: Final = int(os.environ.get("BATCHER_STATEFUL_EXAMPLES", "0"))
CALLERS: Final = 3  # blocking calls at once

_DEADLINES = st.sampled_from([None, None, 2.0])
RETRIES: Final = st.one_of(
    st.builds(
        Retry,
        st.integers(2, 3),
        delay=st.sampled_from([0.0, 1.0]),
        jitter=st.just("none"),
        deadline=_DEADLINES,
    ),
    st.builds(Retry, st.none(), delay=st.just(1.0), jitter=st.just("none"), deadline=_DEADLINES),
)
OPTIONS: Final = st.fixed_dictionaries(
    {
        "max_batch_size": st.integers(1, 4),
        "max_delay": st.sampled_from([None, 0.0, 1.0, 1.0]),
        "adaptive": st.booleans(),
        "max_pending": st.sampled_from([1, 3, 6, 1000]),
        "overflow": st.sampled_from(["block", "raise", "drop_oldest", "drop_newest"]),
        "max_concurrent": st.integers(1, 3),
        "handler_timeout": st.sampled_from([None, None, 5.0]),
        "retry": st.one_of(st.none(), RETRIES, RETRIES),
        "split_failed": st.booleans(),
        "batch_key": st.sampled_from([None, batch_key]),
        "dedup_key": st.sampled_from([None, dedup_key, dedup_key]),
        "cache": st.sampled_from([None, dict]),
        "circuit_breaker": st.sampled_from([None, None, 1, 2]),
        "throttle": st.sampled_from([None, None, 1, 3]),
    }
)
WEIGHTS: Final = st.fixed_dictionaries(
    {"max_batch_weight": st.sampled_from([None, 4.0]), "max_pending_weight": st.sampled_from([None, 5.0])}
)
PRIORITIES: Final = st.sampled_from([0, 0, 3, 1, -2])
_numbers = count()


class PolicyMachine(RuleBasedStateMachine):
    """Whatever the user does, and whatever he asked for, the guarantees hold."""

    @initialize(options=OPTIONS, weights=st.one_of(st.none(), WEIGHTS), is_ranked=st.booleans())
    def make(self, options: dict[str, Any], weights: dict[str, Any] | None, *, is_ranked: bool) -> None:
        """Make a batcher with any options."""
        name = f"policies-{next(_numbers)}"
        self.is_ranked, self.is_paused = is_ranked, False
        self.clock = FakeClock()
        self.options = options | ({"weigh": weigh, **weights} if weights else {})
        if self.options["cache"] is not None:
            self.options["cache"] = {} if self.options["dedup_key"] else None
        self.handler = PolicyHandler(self.options, self.clock)
        self.ledger = PolicyLedger(self.handler)
        with self.clock:
            threshold = self.options["circuit_breaker"]
            if threshold is not None:
                self.options["circuit_breaker"] = CircuitBreaker(failure_threshold=threshold, reset_timeout=3.0)
            if self.options["throttle"] is not None:
                self.options["throttle"] = Throttle(max_per_second=self.options["throttle"])
            self.batcher: Batcher[int, Any] = Batcher(
                self.handler,
                name=name,
                on_error=self.ledger.on_error,
                on_drop=self.ledger.on_drop,
                **self.options,
            )
        self.stillness = Stillness(self.batcher, name, self.handler, self.clock, None)  # type: ignore[arg-type]
        self.listeners: dict[CallElsewhere, Future[Any]] = {}

    # The user

    @rule(timeout=st.sampled_from([None, None, 0.0, 2.0]), wish=PRIORITIES)
    def add(self, timeout: float | None, wish: int) -> None:
        """Add an item, with or without a deadline of its own."""
        rank = wish if self.is_ranked else 0
        self.ledger.offer(
            lambda items: [self.batcher.add(items[0], timeout=timeout, priority=rank, block_timeout=0.0)], 1, rank
        )

    @rule(wish=PRIORITIES)
    def put(self, wish: int) -> None:
        """Put an item."""
        rank = wish if self.is_ranked else 0
        self.ledger.offer(lambda items: self.batcher.put(items[0], priority=rank, block_timeout=0.0), 1, rank)

    @rule(number=st.integers(1, 7), timeout=st.sampled_from([None, 2.0]), wish=PRIORITIES)
    def add_many(self, number: int, timeout: float | None, wish: int) -> None:
        """Add several items at once."""
        rank = wish if self.is_ranked else 0
        self.ledger.offer(
            lambda items: self.batcher.add_many(items, timeout=timeout, priority=rank, block_timeout=0.0), number, rank
        )

    @precondition(lambda self: self.ledger.futures)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Cancel any item that was ever added."""
        self._any_future(data).cancel()

    @precondition(lambda self: self.ledger.futures)
    @rule(data=st.data())
    def listen(self, data: st.DataObject) -> None:
        """Wait for a result: an adaptive batch may leave for that."""
        future = self._any_future(data)
        if len(self.listeners) == CALLERS:
            return
        listener = CallElsewhere(lambda: future.exception(PATIENCE))
        self.listeners[listener] = future
        _until(lambda: blocked_on(future) or not listener.is_alive())

    @precondition(lambda self: self.ledger.futures)
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        """Ask for a result, and don't wait."""
        future = self._any_future(data)
        try:
            future.exception(0)
        except BaseException as error:
            assert isinstance(error, TimeoutError) != future.cancelled()  # noqa: PT017

    @rule()
    def flush_without_waiting(self) -> None:
        """Have all sent that is there, and look at once what came of it."""
        unsettled = self._unsettled()
        self._check_report(self.batcher.flush(0), unsettled)

    @rule(timeout=st.sampled_from([None, 3.0]))
    def flush(self, timeout: float | None) -> None:
        """Flush, and wait."""
        self._elsewhere(lambda: self.batcher.flush(timeout))

    @precondition(lambda self: not self.is_paused)
    @rule()
    def pause(self) -> None:
        """Stop automatic batches."""
        self.is_paused = True
        self.batcher.pause()

    @precondition(lambda self: self.is_paused)
    @rule()
    def resume(self) -> None:
        """Start them again."""
        self.is_paused = False
        self.batcher.resume()

    @rule(timeout=st.sampled_from([None, 0.0, 3.0]), drain=st.booleans(), chance=st.integers(0, 7))
    def close(self, timeout: float | None, chance: int, *, drain: bool) -> None:
        """Close, now and then: what comes after is less of a story."""
        if not chance:
            self._elsewhere(lambda: self.batcher.close(timeout, drain=drain))

    # The handler, and the time

    @rule(mode=st.sampled_from(MODES))
    def answer(self, mode: str) -> None:
        """Have the next calls answer, or fail, in a certain way."""
        self.handler.mode = mode

    @rule()
    def hold(self) -> None:
        """Have the next calls hang."""
        self.handler.is_holding = True

    @rule()
    def let_go(self) -> None:
        """Let all calls go on."""
        self.handler.let_go()

    @rule(seconds=st.sampled_from([0.5, 0.5, 1.0, 1.0, 2.0, 5.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.advance(seconds)

    def _any_future(self, data: st.DataObject) -> Future[Any]:
        return self.ledger.futures[data.draw(st.sampled_from(sorted(self.ledger.futures)))]

    def _elsewhere(self, call: Callable[[], Any]) -> None:
        # Looked at here and not by preconditions: which thread was first must not decide what is drawn.
        if len(self.stillness.waiting_callers()) < CALLERS:
            self.stillness.callers[CallElsewhere(call)] = self._unsettled()

    def _unsettled(self) -> int:
        status = self.batcher.status()
        return status.pending + status.processing

    # What is guaranteed

    @invariant()
    def holds(self) -> None:
        """Check all that is guaranteed."""
        self.stillness.wait()
        status = self.batcher.status()
        self.ledger.check(status)
        self._check_order()
        if self.options["retry"] is None and not self.options["split_failed"]:  # else items come back to it
            assert status.pending <= self.options["max_pending"]
        running = self.handler.running()
        assert (status.processing > 0) <= bool(running)
        self._check_callers()

    def _check_order(self) -> None:
        """First in, first out, retries included; where places are shared, an item leaves before its turn."""
        if self.options["dedup_key"] is not None:
            return
        if self.options["batch_key"] is not None:
            self.ledger.check_order(batch_key)
        elif self.options["max_concurrent"] == 1:
            self.ledger.check_order(lambda _: None)

    def _check_report(self, report: FlushReport, unsettled: int) -> None:
        told = report.succeeded + report.failed + report.cancelled + report.expired + report.dropped + report.pending
        # Who came to share a place that it waited for is told of as well.
        if self.options["dedup_key"]:
            assert told >= unsettled, report
        else:
            assert told == unsettled, report

    def _check_callers(self) -> None:
        """Flushes and closes have told of every item; nobody waits for what has come."""
        for caller, unsettled in list(self.stillness.callers.items()):
            if not caller.is_alive():
                del self.stillness.callers[caller]
                self._check_report(caller.outcome.result(0), unsettled)
        for listener, future in list(self.listeners.items()):
            if future.done():
                del self.listeners[listener]
                listener.join(PATIENCE)
                assert not listener.is_alive()

    def teardown(self) -> None:
        """Whatever happened, close ends it: every item has ended, every caller is back, no thread is left."""
        if not hasattr(self, "stillness"):
            return
        self.handler.mode = "list"
        self.handler.let_go()
        try:
            closing = CallElsewhere(self.batcher.close)
            self.stillness.callers[closing] = 0
            for _ in range(2000):  # a second each: throttles, open circuits and retries take their time
                self.stillness.wait()
                if not closing.is_alive():
                    break
                self.clock.advance(1.0)
            del self.stillness.callers[closing]
            closing.outcome.result(0)
            for thread in (*self.stillness.callers, *self.listeners, *self.stillness.threads()):
                thread.join(PATIENCE)
                assert not thread.is_alive()
            status = self.batcher.status()
            assert (status.state, status.pending, status.processing) == ("closed", 0, 0)
            assert all(future.done() for future in self.ledger.futures.values())
            self.ledger.check(status)
            self._check_order()
            self._check_callers()
            flights = self.batcher._line.flights
            assert flights is None or not flights._places
        finally:
            self.stillness.end()


def _until(is_so: Callable[[], object]) -> None:
    """Wait until another thread has come to block: nothing tells when it has."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline


PolicyMachine.TestCase.settings = settings(
    max_examples=EXAMPLES or 60,
    stateful_step_count=40,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestPolicies = PolicyMachine.TestCase
