"""A user who does anything with a batcher, moves its clock, and scripts its handler: the rules of a state machine."""

from __future__ import annotations

from concurrent.futures import wait
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from batcher import Batcher
from batcher._reentry import new_token
from batcher._workers import DaemonPool
from batcher.testing import FakeClock
from tests.ledger import Ledger, check_report
from tests.scripted_handler import MODES, ScriptedHandler
from tests.stillness import CallElsewhere, Stillness

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

ROOMY: Final = 1000  # beyond the size from which an add has a fast way
CALLERS: Final = 3  # blocking calls at once

OPTIONS: Final = st.fixed_dictionaries(
    {
        "max_batch_size": st.integers(1, 4),
        "max_delay": st.sampled_from([None, 0.0, 1.0, 1.0]),
        "max_pending": st.sampled_from([1, 3, 6, ROOMY]),
        "overflow": st.sampled_from(["block", "block", "raise", "drop_oldest", "drop_newest"]),
        "max_concurrent": st.sampled_from([1, 2]),
        "handler_timeout": st.sampled_from([None, 5.0]),
    }
)
WEIGHTS: Final = st.fixed_dictionaries(
    {"max_batch_weight": st.sampled_from([None, 4.0]), "max_pending_weight": st.sampled_from([None, 5.0])}
)
PRIORITIES: Final = st.sampled_from([0, 0, 3, 1, -2])
_numbers = count()


def weigh(item: int) -> float:
    """Return a weight that every limit of the machine allows."""
    return 1.0 + item % 3


class AnyUser(RuleBasedStateMachine):
    """Any options, any calls, any handler, in any order."""

    @initialize(
        options=OPTIONS,
        weights=st.one_of(st.none(), WEIGHTS),
        keys=st.sampled_from([None, 2, 3]),
        is_lent=st.sampled_from([False, False, True]),
        is_late=st.sampled_from([False, False, False, True]),
        is_ranked=st.booleans(),
    )
    def make(
        self,
        options: dict[str, Any],
        weights: dict[str, Any] | None,
        keys: int | None,
        *,
        is_lent: bool,
        is_late: bool,
        is_ranked: bool,
    ) -> None:
        """Make a batcher with any options; its handler may come later, its executor from somebody else."""
        name = f"machine-{next(_numbers)}"
        self.is_ranked = is_ranked
        self.options = options | ({"weigh": weigh, **weights} if weights else {})
        self.clock = FakeClock()
        self.key: Callable[[int], int] | None = None if keys is None else lambda item: item % keys
        self.handler = ScriptedHandler(
            max_batch_size=options["max_batch_size"],
            max_batch_weight=self.options.get("max_batch_weight"),
            max_concurrent=options["max_concurrent"],
            handler_timeout=options["handler_timeout"],
            key=self.key,
            weigh=weigh,
            clock=self.clock,
        )
        self.ledger = Ledger(self.handler)
        self.executor = DaemonPool(name, new_token()) if is_lent else None
        with self.clock:
            self.batcher: Batcher[int, Any] = Batcher(
                name=name,
                batch_key=self.key,
                executor=self.executor,
                on_error=self.ledger.on_error,
                on_drop=self.ledger.on_drop,
                on_batch=self.ledger.on_batch,
                **self.options,
            )
        self.has_handler = self.is_paused = self.is_flushing = self.is_closed = False
        if not is_late:
            self.register()
        self.stillness = Stillness(self.batcher, name, self.handler, self.clock, self.executor)
        self.listeners: dict[CallElsewhere, list[Future[Any]]] = {}

    # The user

    @rule(timeout=st.sampled_from([None, None, 0.0, 2.0]), wish=PRIORITIES)
    def add(self, timeout: float | None, wish: int) -> None:
        """Add an item, with or without a deadline of its own."""
        priority = wish if self.is_ranked else 0
        self.ledger.offer(
            lambda item: self.batcher.add(item, timeout=timeout, priority=priority, block_timeout=0.0), priority
        )

    @rule(wish=PRIORITIES)
    def put(self, wish: int) -> None:
        """Put an item."""
        priority = wish if self.is_ranked else 0
        self.ledger.offer(lambda item: self.batcher.put(item, priority=priority, block_timeout=0.0), priority)

    @rule(number=st.integers(1, 7), timeout=st.sampled_from([None, 2.0]), wish=PRIORITIES)
    def add_many(self, number: int, timeout: float | None, wish: int) -> None:
        """Add several items at once."""
        priority = wish if self.is_ranked else 0
        self.ledger.offer_many(
            number,
            lambda items: self.batcher.add_many(items, timeout=timeout, priority=priority, block_timeout=0.0),
            priority,
        )

    @rule(number=st.integers(1, CALLERS))
    def add_blocking(self, number: int) -> None:
        """Add items one after another, and wait for room as long as it takes."""
        for _ in range(number - len(self.stillness.waiting_callers())):
            self._elsewhere(lambda: self.ledger.offer(self.batcher.add))
            self.stillness.wait()

    @precondition(lambda self: self.ledger.futures)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Cancel any item that was ever added."""
        self._any_future(data).cancel()

    @precondition(lambda self: self.ledger.futures)
    @rule(data=st.data())
    def add_in_a_callback(self, data: st.DataObject) -> None:
        """Have a done-callback add an item, and then raise."""

        def add(_: Future[Any]) -> None:
            self._add_out_of_turn()
            raise SystemExit("a callback")

        self._any_future(data).add_done_callback(add)

    @precondition(lambda self: len(self.listeners) < CALLERS and self.ledger.futures)
    @rule(data=st.data(), wants_all=st.booleans())
    def listen(self, data: st.DataObject, *, wants_all: bool) -> None:
        """Wait for one result, or for all that are to come."""
        futures = list(self.ledger.futures.values()) if wants_all else [self._any_future(data)]
        call: Callable[[], object] = partial(wait, futures) if wants_all else futures[0].exception
        self.listeners[CallElsewhere(call)] = futures

    @rule()
    def flush_without_waiting(self) -> None:
        """Have all sent that is there, and look at once what came of it."""
        self.is_flushing = True
        unsettled = self._unsettled()
        check_report(self.batcher.flush(0), unsettled)

    @precondition(lambda self: len(self.stillness.waiting_callers()) < CALLERS)
    @rule(timeout=st.sampled_from([None, 3.0]))
    def flush(self, timeout: float | None) -> None:
        """Flush, and wait."""
        self.is_flushing = True
        self._elsewhere(lambda: self.batcher.flush(timeout))

    @precondition(lambda self: not self.is_paused)
    @rule()
    def pause(self) -> None:
        """Stop automatic batches."""
        self.is_paused = True
        self.calls_before_pause = len(self.handler.calls)
        self.batcher.pause()

    @precondition(lambda self: self.is_paused)
    @rule()
    def resume(self) -> None:
        """Start them again."""
        self.is_paused = False
        self.batcher.resume()

    @precondition(lambda self: not self.has_handler)
    @rule()
    def register(self) -> None:
        """Register the handler that has been missing."""
        self.has_handler = True
        self.batcher.register_handler(self.handler)

    @precondition(lambda self: len(self.stillness.waiting_callers()) < CALLERS)
    @rule(timeout=st.sampled_from([None, 0.0, 3.0]), drain=st.booleans(), chance=st.integers(0, 7))
    def close(self, timeout: float | None, chance: int, *, drain: bool) -> None:
        """Close, now and then: what comes after is less of a story."""
        if not chance:
            self.is_closed = True
            self._elsewhere(lambda: self.batcher.close(timeout, drain=drain))

    # The handler, and the time

    @rule(mode=st.sampled_from(sorted(MODES)))
    def answer(self, mode: str) -> None:
        """Have the next calls answer, or fail, in a certain way."""
        self.handler.mode = mode

    @rule()
    def add_in_the_handler(self) -> None:
        """Have the next call add an item before it answers."""
        self.handler.errands.append(self._add_out_of_turn)

    @precondition(lambda self: not self.handler.is_holding)
    @rule()
    def hold(self) -> None:
        """Have the next calls hang."""
        self.handler.is_holding = True

    @precondition(lambda self: self.handler.held())
    @rule()
    def let_go(self) -> None:
        """Let all calls go on."""
        self.handler.let_go()

    @rule(seconds=st.sampled_from([0.0, 0.5, 0.5, 1.0, 2.0, 5.0, 5.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.advance(seconds)

    def _add_out_of_turn(self) -> None:
        self.ledger.offer_out_of_turn(lambda item: self.batcher.put(item, block_timeout=0.0))

    def _any_future(self, data: st.DataObject) -> Future[Any]:
        return self.ledger.futures[data.draw(st.sampled_from(sorted(self.ledger.futures)))]

    def _elsewhere(self, call: Callable[[], Any]) -> None:
        self.stillness.callers[CallElsewhere(call)] = self._unsettled()

    def _unsettled(self) -> int:
        status = self.batcher.status()
        return status.pending + status.processing
