"""Whether a handler call may start: a permit of the circuit breaker, and a turn at the throttle.

The flusher asks for a start when a batch is due, and cuts the batch when it has one: until then the batch
grows. It asks without a lock, since both may call hooks of the user, and it never blocks: what it gets is
a start, a refusal, or a moment from which on to ask again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from batcher._circuit import Permit
from batcher._clock import Bell
from batcher.errors import CircuitOpenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._breaker import CircuitBreaker
    from batcher._clock import Clock
    from batcher._throttle import Throttle
    from batcher._turn import Turn

_SOON = 0.001  # seconds until a throttle is asked again whose clock is another one than the line's
_PATIENCE = 1.0  # seconds until a throttle is asked again that raised


class Start:
    """What one handler call has been given, and gives back when it is over."""

    __slots__ = ("_breaker", "_permit", "_turn")

    def __init__(self, breaker: CircuitBreaker | None, permit: Permit | None, turn: Turn | None) -> None:
        """Hold a permit and a turn, as far as they are asked for."""
        self._breaker = breaker
        self._permit = permit
        self._turn = turn

    def end(self, *, is_failure: bool | None) -> None:
        """Report how the call went, None if there was none, and let the next one start."""
        if self._turn is not None:
            self._turn.end()
        if self._breaker is None or self._permit is None:
            return
        if is_failure is None:
            self._breaker.release(self._permit)
        elif is_failure:
            self._breaker.record_failure(self._permit)
        else:
            self._breaker.record_success(self._permit)


class Starts:
    """Where one line's flusher asks for starts, one at a time.

    Thread safety: for the flusher, or whoever runs a handler in its place; `ring` may be called from
    anywhere.
    """

    def __init__(
        self,
        throttle: Throttle | None,
        breaker: CircuitBreaker | None,
        *,
        holds: bool,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        """Ask `throttle` and `breaker`.

        Args:
            throttle: Whose turn each start needs; None: nobody's.
            breaker: Whose permit each start needs; None: nobody's.
            holds: Wait while the circuit is open, instead of refusing.
            clock: The line's.
            wake: Wakes the flusher.
        """
        self._throttle = throttle
        self._breaker = breaker
        self._holds = holds
        self._clock = clock
        self._wake = wake
        self._turn: Turn | None = None  # in the throttle's line
        self._is_rung = False
        self._bell = Bell()  # for who asks in the flusher's place
        self._start: Start | None = None
        self.refusal: BaseException | None = None
        self.not_before = -math.inf  # the moment from which on to ask again
        if breaker is not None and holds:
            breaker.listen(self)  # another batcher may have the probe that this one waits for

    def ring(self) -> None:
        """Have the flusher ask again; only sets a flag and wakes."""
        self._is_rung = True
        self._bell.ring()
        self._wake()

    def look_again(self) -> None:
        """Let the flusher's next turn ask: a call has reported to the breaker, which may answer otherwise now."""
        self._is_rung = True

    @property
    def is_decided(self) -> bool:
        """Whether a start, or a refusal, waits for a batch."""
        return self._start is not None or self.refusal is not None

    def may_ask(self, now: float) -> bool:
        """Say whether it makes sense to ask now."""
        return self._is_rung or now >= self.not_before

    def ask(self) -> None:
        """Ask for a start."""
        self._is_rung = False  # before asking: a ring from here on counts
        try:
            permit = self._permit()
            if permit is not None or self._breaker is None:
                self._take_turn(permit)
        except BaseException as error:  # noqa: BLE001 - a throttle on a server that is away
            self._put_off(error, _PATIENCE)

    def _permit(self) -> Permit | None:
        """Return the breaker's permit, if there is one to be had."""
        if self._breaker is None:
            return None
        answer = self._breaker.admit()
        if isinstance(answer, Permit):
            return answer
        self._leave_line()  # others may go on meanwhile
        self._put_off(CircuitOpenError(answer), answer)
        return None

    def _take_turn(self, permit: Permit | None) -> None:
        """Start, if the throttle lets us."""
        if self._throttle is not None:
            if self._turn is None:
                self._turn = self._throttle.turn(self.ring)
            try:
                moment = self._turn.try_start()
            except BaseException:
                Start(self._breaker, permit, None).end(is_failure=None)
                raise
            if moment is not None:
                Start(self._breaker, permit, None).end(is_failure=None)
                self.not_before = self._own_moment(moment, self._turn.clock)
                return
        self._start = Start(self._breaker, permit, self._turn)
        self._turn = None

    def _own_moment(self, moment: float, clock: Clock) -> float:
        """Return when on the line's clock it is `moment` on `clock`: that of a throttle made earlier, say."""
        if clock is self._clock:
            return moment
        return self._clock.monotonic() + max(moment - clock.monotonic(), _SOON)

    def _put_off(self, error: BaseException, seconds: float) -> None:
        if self._holds:
            self.not_before = self._clock.monotonic() + seconds
        else:
            self.refusal = error

    def take(self) -> tuple[Start | None, BaseException | None]:
        """Return the start or the refusal that was decided; the next batch needs another one."""
        decided = (self._start, self.refusal)
        self._start = self.refusal = None
        self.not_before = -math.inf
        return decided

    def withdraw(self) -> None:
        """Give back what no batch needs any more."""
        start, _ = self.take()
        if start is not None:
            start.end(is_failure=None)
        self._leave_line()

    def _leave_line(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.end()

    def wait_for_start(self) -> None:
        """Ask, and block until there is an answer: for handlers that run on the thread that adds."""
        while not self.is_decided:
            self.ask()
            if not self.is_decided:
                self._clock.wait(self._bell, None if self.not_before == math.inf else self.not_before)
