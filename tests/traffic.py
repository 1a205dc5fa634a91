"""Callers, a queue and handler slots in virtual time, around the real decisions about batches.

A discrete-event simulation: no threads, no sleeping, seeded chance, so that a policy can be judged on seconds
of traffic in milliseconds, and without what else the machine does. What is real is `Regroup`, which says when a
batch leaves early, and `BatchSizing`, which says how large it is; when a batch leaves otherwise is spelled
out here: when it is full, or its delay is over. Every caller blocks on its item.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from typing import TYPE_CHECKING, Any

from batcher._regroup import Caller, Regroup
from batcher._sizing import BatchSizing

if TYPE_CHECKING:
    from collections.abc import Callable

_WAKE = 15e-6  # seconds from one released caller to the next: they take turns at the interpreter
_TURN = 50e-6  # seconds, on average, that the flusher takes between two handler calls
_JITTER = 50e-6  # seconds, on average, that a handler call takes longer than it should

Waiting = tuple[Caller, float, float]  # who waits, since when for its own count, and since when in the queue


class Traffic:
    """A batcher's traffic; the subclasses say where the callers come from."""

    def __init__(
        self,
        cost: Callable[[int], float],
        *,
        seed: int,
        max_batch_size: int = 20,
        max_delay: float = 0.01,
        adaptive: bool = True,
        slots: int = 1,
    ) -> None:
        """Start without callers.

        Args:
            cost: How many seconds a handler call with so many items takes.
            seed: Of all that happens by chance.
            max_batch_size: As for `Batcher`, and so `max_delay` and `adaptive`.
            max_delay: See there.
            adaptive: See there.
            slots: Handler calls at once.
        """
        self.now = 0.0
        self.chance = random.Random(seed)
        self.regroup = Regroup() if adaptive and max_delay else None
        self.sizing = BatchSizing(max_batch_size)
        self.sizes: list[int] = []
        self._cost, self._max_delay, self._slots = cost, max_delay, slots
        self._waiting: deque[Waiting] = deque()
        self._calls = 0
        self._processing = 0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def at(self, when: float, step: Callable[..., None], *arguments: Any) -> None:
        """Have a step done at some time."""
        self._number += 1
        heapq.heappush(self._events, (when, self._number, step, arguments))

    def run(self, until: float = math.inf) -> None:
        """Let the time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, step, arguments = heapq.heappop(self._events)
            step(*arguments)

    def add(self, caller: Caller, due: float) -> None:
        """Have a caller add an item and block on it."""
        if self.regroup is not None:
            self.regroup.come_back(caller, self.now)
        self._waiting.append((caller, due, self.now))
        self._look()

    def released(self, caller: Caller, due: float) -> None:
        """Have a caller go on that has its result; `due` is what it gave to `add`."""
        raise NotImplementedError

    def _look(self) -> None:
        """Start the handler calls that are due, and look again when the next one may be."""
        while self._waiting and self._calls < self._slots:
            leaves_at = self._leaves_at()
            if leaves_at > self.now:
                self.at(leaves_at, self._look)
                return
            batch = [self._waiting.popleft() for _ in range(min(self.sizing.limit, len(self._waiting)))]
            self.sizes.append(len(batch))
            self._calls += 1
            self._processing += len(batch)
            seconds = self._cost(len(batch)) + self.chance.expovariate(1 / _JITTER)
            self.at(self.now + seconds, self._end, batch, self.now)

    def _leaves_at(self) -> float:
        crowd = len(self._waiting)
        if crowd >= self.sizing.limit:
            return self.now
        due = self._waiting[0][2] + self._max_delay
        if self.regroup is None:
            return due
        early = self.regroup.leave_at(self.now, blocked=crowd, processing=self._processing, slots=self._slots)
        return min(early, max(due, self.regroup.hold_until(self._max_delay, leaves_at=early)))

    def _end(self, batch: list[Waiting], started: float) -> None:
        self._processing -= len(batch)
        if self.regroup is not None:
            self.sizing.observe(len(batch), started, self.now)
            self.regroup.release([caller for caller, _, _ in batch], self.now, self.now - started)
        for place, (caller, due, _) in enumerate(batch, 1):
            self.at(self.now + place * _WAKE, self.released, caller, due)
        self.at(self.now + self.chance.expovariate(1 / _TURN), self._free)

    def _free(self) -> None:
        self._calls -= 1
        self._look()


class OpenLoop(Traffic):
    """Poisson arrivals, each served by the thread of a pool that has been idle longest."""

    def __init__(self, rate: float, arrivals: int, *, threads: int = 250, **settings: Any) -> None:
        """Let so many arrivals come at `rate` a second, and all be served."""
        super().__init__(**settings)
        self.latencies: list[float] = []  # seconds, from when an arrival was due
        self._idle = deque(Caller() for _ in range(threads))
        self._backlog: deque[float] = deque()
        gaps = random.Random(settings["seed"])  # of their own: the same for every policy
        due = 0.0
        for _ in range(arrivals):
            due += gaps.expovariate(rate)
            self.at(due, self._arrive, due)
        self.run()

    def _arrive(self, due: float) -> None:
        if self._idle:
            self.add(self._idle.popleft(), due)
        else:
            self._backlog.append(due)

    def released(self, caller: Caller, due: float) -> None:
        """Note the latency, and serve the next arrival."""
        self.latencies.append(self.now - due)
        if self._backlog:
            self.add(caller, self._backlog.popleft())
        else:
            self._idle.append(caller)

    def percentile(self, share: float) -> float:
        """Return the latency that this share of all arrivals doesn't exceed."""
        return sorted(self.latencies)[int(share * len(self.latencies))]


class ClosedLoop(Traffic):
    """Callers that come back as soon as they have their results."""

    def __init__(self, callers: int, seconds: float, *, warm_up: float = 0.0, **settings: Any) -> None:
        """Let so many callers go round for so long."""
        super().__init__(**settings)
        self._counted_from = warm_up
        self._count = 0
        for number in range(callers):
            self.at(number * _WAKE, self._come, Caller())
        self.run(warm_up + seconds)
        self.rate = self._count / seconds  # results a second

    def _come(self, caller: Caller) -> None:
        self.add(caller, self.now)

    def released(self, caller: Caller, due: float) -> None:
        """Count the result, and come back after a moment."""
        self._count += self.now >= self._counted_from
        self.at(self.now + self.chance.expovariate(1 / _JITTER), self._come, caller)
