"""How large a batch pays: a learnt bound, for handlers whose time grows faster than their batches.

Most handlers work the faster the larger the batch. Where one doesn't, because its cost grows with the
square of the size, say, or because a server pages to disk, smaller batches bring more items through. So
now and then a few batches of half the usual size are tried; where those do clearly more items a second, the
bound comes down to that size, and where batches beyond the bound do no worse, it goes up again. Each
trial that was in vain makes the next one of its kind wait twice as long: trials cost throughput. (Hill
climbing on the throughput, as in Netflix's concurrency-limits; the back-off is that of TCP's probes.)
Medians are compared, since a call may seem long because others have kept the interpreter.

Thread safety: none of its own; the owner's lock guards all.
"""

from __future__ import annotations

from collections import deque

_WORTHWHILE = 0.001  # seconds: a shorter handler call isn't worth the trial
_SOONEST, _LATEST = 16, 4096  # batches from one trial to the next of its kind
_USUAL = 15  # batches that tell what is usual
_TRIALS = 5  # batches that a trial takes
_BETTER = 1.25  # times the items a second: then the smaller size pays
_AS_GOOD = 1.0  # times the items a second: then the larger size pays


class BatchSizing:
    """The bound on the size of a batch.

    Attributes:
        learnt: The bound without trials.
        limit: The bound at the present, a trial's included.
    """

    __slots__ = ("_largest", "_pauses", "_since", "_trial", "_usual", "learnt", "limit")

    def __init__(self, largest: int) -> None:
        """Start with batches of `largest` items at most."""
        self._largest = largest
        self.learnt = self.limit = largest
        self._usual: deque[tuple[int, float]] = deque(maxlen=_USUAL)  # size and items a second
        self._trial: list[float] | None = None  # items a second
        # Of trials that shrink the batch, and of those that let it grow: batches since the last, and to the next.
        self._since = {False: 0, True: 0}
        self._pauses = {False: _SOONEST, True: _SOONEST}

    def observe(self, size: int, seconds: float) -> None:
        """Learn from a handler call that succeeded."""
        if seconds <= 0:
            return
        if self._trial is not None:
            self._observe_trial(self._trial, size, size / seconds)
            return
        self._usual.append((size, size / seconds))
        for grows in self._since:
            self._since[grows] += 1
        if len(self._usual) == _USUAL and seconds >= _WORTHWHILE:
            self._begin_trial()

    def _begin_trial(self) -> None:
        """Let the batch grow beyond its bound, or try half the usual size, if it is time for it."""
        usual = _median([size for size, _ in self._usual])
        if self.learnt < self._largest and self._since[True] >= self._pauses[True]:
            self.limit = min(2 * self.learnt, self._largest)
        elif usual > 1 and self._since[False] >= self._pauses[False]:
            self.limit = int(usual) // 2
        else:
            return
        self._trial = []

    def _observe_trial(self, trial: list[float], size: int, rate: float) -> None:
        grows = self.limit > self.learnt
        if size <= self.learnt if grows else size < self.limit:
            self._end_trial(grows=grows)  # too few wait for the bound to matter
            return
        trial.append(rate)
        if len(trial) < _TRIALS:
            return
        gain = _median(trial) / _median([rate for _, rate in self._usual])
        if gain > (_AS_GOOD if grows else _BETTER):
            self.learnt = self.limit
            self._usual.clear()  # those were of another bound
            self._pauses = {False: _SOONEST, True: _SOONEST}
        else:
            self._pauses[grows] = min(2 * self._pauses[grows], _LATEST)
        self._end_trial(grows=grows)

    def _end_trial(self, *, grows: bool) -> None:
        self._since[grows] = 0
        self._trial = None
        self.limit = self.learnt


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
