"""lodash's `debounce`, written down once more: a model that keeps its own time, to compare `Debounce` with.

A translation of `debounce.js` of lodash 4.17 with its names, whose timers ring on a clock that the model moves. Beside
what lodash does, it notes which run each call ends up in. One thing is done otherwise: a flush stops the timer, which
lodash leaves running (`is_leaky=True` does so too).
"""

from __future__ import annotations

import heapq
import itertools
import math

# How a call ended that no run followed: taken back, or never meant to run.
CANCELLED = -1


class Lodash:
    """A debounced function that notes its runs.

    Attributes:
        runs: When it ran, and with which call's arguments.
        ends: For each call that has ended the number of its run, or CANCELLED.
    """

    def __init__(
        self,
        wait: float,
        *,
        max_wait: float | None = None,
        leading: bool = False,
        trailing: bool = True,
        is_leaky: bool = False,
    ) -> None:
        self.wait = wait
        self.maxing = max_wait is not None
        self.max_wait = max(max_wait or 0.0, wait)
        self.leading, self.trailing, self.is_leaky = leading, trailing, is_leaky
        self.now = 0.0
        self.runs: list[tuple[float, int]] = []
        self.ends: dict[int, int] = {}
        self._calls = itertools.count()
        self._waiting: list[int] = []  # calls that have yet to end
        self._last_args: int | None = None
        self._last_call_time: float | None = None
        self._last_invoke_time = 0.0
        self._timer: int | None = None
        self._timers: list[tuple[float, int]] = []
        self._numbers = itertools.count()

    # The outside

    def move_to(self, now: float) -> None:
        """Let the time pass until `now`, and the timers ring that come up."""
        while self._timers and self._timers[0][0] <= now:
            self.now, _ = heapq.heappop(self._timers)
            self._timer_expired()
        self.now = now

    @property
    def next_ring(self) -> float:
        """When the next timer rings, if no call comes before."""
        return self._timers[0][0] if self._timers else math.inf

    @property
    def pending(self) -> bool:
        """Whether the timer runs."""
        return self._timer is not None

    def call(self) -> int:
        """Call the debounced function; the argument is the number of the call, which is returned."""
        number = next(self._calls)
        self._waiting.append(number)
        is_invoking = self._should_invoke(self.now)
        self._last_args = number
        self._last_call_time = self.now
        if is_invoking and self._timer is None:
            self._leading_edge(self.now)
        elif is_invoking and self.maxing:
            self._clear_timeout()
            self._set_timeout(self.wait)
            self._invoke(self.now)
        elif self._timer is None:
            self._set_timeout(self.wait)
        if not self.trailing and self._waiting:
            self._end(self._waiting, len(self.runs) - 1 if self.runs else CANCELLED)
        return number

    def flush(self) -> None:
        """Run now what the timer would run."""
        if self._timer is not None:
            if not self.is_leaky:
                self._clear_timeout()
            self._trailing_edge(self.now)

    def cancel(self) -> None:
        """Forget what the timer would run."""
        if self._timer is not None:
            self._clear_timeout()
        self._last_invoke_time = 0.0
        self._last_args = self._last_call_time = self._timer = None
        self._end(self._waiting, CANCELLED)

    # The inside, in lodash's order

    def _invoke(self, time: float) -> None:
        assert self._last_args is not None
        self.runs.append((time, self._last_args))
        self._last_args = None
        self._last_invoke_time = time
        self._end(self._waiting, len(self.runs) - 1)

    def _leading_edge(self, time: float) -> None:
        self._last_invoke_time = time
        self._set_timeout(self.wait)
        if self.leading:
            self._invoke(time)

    def _remaining_wait(self, time: float) -> float:
        assert self._last_call_time is not None
        waiting = self.wait - (time - self._last_call_time)
        return min(waiting, self.max_wait - (time - self._last_invoke_time)) if self.maxing else waiting

    def _should_invoke(self, time: float) -> bool:
        if self._last_call_time is None:
            return True
        since_call, since_invoke = time - self._last_call_time, time - self._last_invoke_time
        return since_call >= self.wait or since_call < 0 or (self.maxing and since_invoke >= self.max_wait)

    def _timer_expired(self) -> None:
        if self._should_invoke(self.now):
            self._trailing_edge(self.now)
        else:
            self._set_timeout(self._remaining_wait(self.now))

    def _trailing_edge(self, time: float) -> None:
        self._timer = None
        if self.trailing and self._last_args is not None:
            self._invoke(time)
        self._last_args = None

    # What a browser does

    def _set_timeout(self, wait: float) -> None:
        self._timer = next(self._numbers)
        heapq.heappush(self._timers, (self.now + wait, self._timer))

    def _clear_timeout(self) -> None:
        self._timers = [timer for timer in self._timers if timer[1] != self._timer]
        heapq.heapify(self._timers)

    def _end(self, calls: list[int], how: int) -> None:
        self.ends.update(dict.fromkeys(calls, how))
        calls.clear()
