"""How long operations take: count, mean, median, 95th percentile and maximum by name, in bounded memory."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from batcher._heirs import restart_in_child
from batcher._process import alive, check_process
from batcher._report import Reporter, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batcher._clock import Clock

P = ParamSpec("P")
R = TypeVar("R")

_SAMPLES = 1024  # the 95th percentile then stands on 51 of them
_PERIOD = 60.0  # seconds between two lines in the log about the same operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """How long the operations of one name took; seconds.

    Count, mean and maximum are of all of them. The percentiles are of a random sample: exact as long as all
    fit into it.

    Attributes:
        count: Operations, failed ones included.
        mean: The mean.
        p50: The median.
        p95: What 95 of 100 didn't exceed.
        max: The longest.
    """

    count: int
    mean: float
    p50: float
    p95: float
    max: float


class Reservoir:
    """A sample of fixed size of a stream of unknown length; each value is in it with the same probability.

    This is algorithm R in J. S. Vitter, "Random Sampling with a Reservoir", ACM Transactions on
    Mathematical Software 11 (1985).

    Thread safety: none of its own; the owner's lock guards every field. Signal handlers may come in anywhere.
    """

    __slots__ = ("_capacity", "_random", "_samples", "count", "max", "total")

    def __init__(self, capacity: int, random: Random) -> None:
        """Hold at most `capacity` values, chosen by `random`."""
        self._capacity = capacity
        self._random = random
        self._samples: list[float] = []
        self.count = 0
        self.total = 0.0
        self.max = -math.inf

    def add(self, value: float) -> None:
        """Take the next value of the stream."""
        if len(self._samples) < self._capacity:
            self._samples.append(value)
        else:
            place = self._random.randrange(self.count + 1)
            if place < self._capacity:
                self._samples[place] = value
        # Counted last and without a call: whatever interrupts finds a sample for what is counted, and none of
        # its own values is lost.
        self.count += 1
        self.total += value
        if value > self.max:  # noqa: PLR1730 - max() would be a call
            self.max = value

    @property
    def performance(self) -> Performance:
        """What is known of the stream, which must have begun."""
        ordered = sorted(self._samples)
        return Performance(
            count=self.count,
            mean=self.total / self.count,
            p50=_nearest_rank(ordered, 0.50),
            p95=_nearest_rank(ordered, 0.95),
            max=self.max,
        )


class Monitor:
    """Measures operations, and tells of those that took too long.

    Thread safety: every method may be called from any thread, and by signal handlers. A forked child starts
    with nothing measured.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        thresholds: Mapping[str, float],
        on_threshold: Callable[[str, float, float], object] | None = None,
        random: Random | None = None,
        capacity: int = _SAMPLES,
    ) -> None:
        """Measure by `clock`.

        Args:
            clock: Tells the time.
            thresholds: Seconds by name, above which an operation takes too long.
            on_threshold: Called as `on_threshold(name, seconds, threshold)` then; None: the log is told, at
                most once a minute for each name.
            random: Chooses what stays in the samples.
            capacity: Samples for each name.
        """
        self._clock = clock
        self._thresholds = dict(thresholds)
        self._on_threshold = self._log if on_threshold is None else on_threshold
        self._random = Random() if random is None else random  # noqa: S311 - a sample is no secret
        self._capacity = capacity
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """Start with nothing measured."""
        # Guards: _reservoirs, what is in them, and _quiet_until. Re-entrant, because a signal handler may come
        # in while it is held.
        self._lock = threading.RLock()
        self._reservoirs: dict[str, Reservoir] = {}
        self._quiet_until: dict[str, float] = {}
        self._reporter = Reporter("optimizer", self._clock)

    def measured(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `function(*args, **kwargs)`, and record how long it took, also when it raises."""
        began = self._clock.monotonic()
        try:
            return function(*args, **kwargs)
        finally:
            self.record(name, self._clock.monotonic() - began)

    def record(self, name: str, seconds: float) -> None:
        """Record one operation; what `on_threshold` raises is logged."""
        if not alive[0]:
            check_process()
        with self._lock:
            reservoir = self._reservoirs.get(name)
            if reservoir is None:
                reservoir = self._reservoirs[name] = Reservoir(self._capacity, self._random)
            reservoir.add(seconds)
        threshold = self._thresholds.get(name)
        if threshold is not None and seconds > threshold:
            try:
                self._on_threshold(name, seconds, threshold)
            except BaseException as error:  # noqa: BLE001 - a hook must not replace the result of what was measured
                self._reporter.report("on_threshold raised", error)

    def performance(self) -> dict[str, Performance]:
        """Return what was measured, by name; names without an operation are left out."""
        if not alive[0]:
            check_process()
        with self._lock:
            # A list: a signal handler's first operation of a name may come in between. And this may be such a
            # handler, on top of an operation that is just being recorded as the first.
            return {name: each.performance for name, each in list(self._reservoirs.items()) if each.count}

    def _log(self, name: str, seconds: float, threshold: float) -> None:
        now = self._clock.monotonic()
        with self._lock:
            if self._quiet_until.get(name, now) > now:
                return
            self._quiet_until[name] = now + _PERIOD
        logger.warning("%s took %.6g s, its threshold is %.6g s", name, seconds, threshold)


def _nearest_rank(ordered: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of all don't exceed."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
