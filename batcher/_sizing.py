"""How large a batch pays: a learnt bound, for handlers whose time grows faster than their batches.

Most handlers work the faster the larger the batch. Where one doesn't, because its cost grows with the
square of the size, say, or because a server pages to disk, smaller batches bring more items through. So
now and then two batches of half the usual size are tried; where those do clearly more items a second, the
bound comes down to that size, and where batches of double the bound do no worse, it goes up again. Each
trial that was in vain makes the next one wait twice as long: trials cost throughput. (Hill climbing on the
throughput, as in Netflix's concurrency-limits; the back-off is that of TCP's probes.)

Thread safety: none of its own; the owner's lock guards all.
"""

from __future__ import annotations

_WORTHWHILE = 0.001  # seconds: a shorter handler call isn't worth the trial
_SOONEST, _LATEST = 16, 4096  # batches from one trial to the next
_TRIALS = 2  # batches that a trial takes
_MEMORY = 0.25  # the weight of the latest batch in an average
_BETTER = 1.15  # times the items a second: then the smaller size pays
_AS_GOOD = 1.02  # times the items a second: then the larger size pays


class BatchSizing:
    """The bound on the size of a batch.

    Attributes:
        learnt: The bound without trials.
        limit: The bound at the present, a trial's included.
    """

    __slots__ = ("_largest", "_pause", "_rate", "_since_trial", "_size", "_trial", "_tries_larger", "learnt", "limit")

    def __init__(self, largest: int) -> None:
        """Start with batches of `largest` items at most."""
        self._largest = largest
        self.learnt = self.limit = largest
        self._size = 0.0  # what batches have of late, on average, and ...
        self._rate = 0.0  # ... how many items a second go through in them
        self._pause = _SOONEST
        self._since_trial = 0
        self._tries_larger = False  # in turns with the smaller
        self._trial: list[float] | None = None  # the rates of its batches

    def observe(self, size: int, seconds: float) -> None:
        """Learn from a handler call that succeeded."""
        if seconds <= 0:
            return
        rate = size / seconds
        if self._trial is not None:
            self._observe_trial(self._trial, size, rate)
            return
        weight = _MEMORY if self._rate else 1.0
        self._size += weight * (size - self._size)
        self._rate += weight * (rate - self._rate)
        self._since_trial += 1
        if self._since_trial >= self._pause and seconds >= _WORTHWHILE:
            self._begin_trial()

    def _begin_trial(self) -> None:
        """Try half the usual size or, in turns, double the bound."""
        usual = min(round(self._size), self.learnt)
        can_grow, can_shrink = self.learnt < self._largest, usual > 1
        self._since_trial = 0
        if not (can_grow or can_shrink):
            return
        grows = can_grow and (self._tries_larger or not can_shrink)
        self._tries_larger = not grows
        self._trial = []
        self.limit = min(2 * self.learnt, self._largest) if grows else usual // 2

    def _observe_trial(self, trial: list[float], size: int, rate: float) -> None:
        if size < self.limit:
            self._end_trial(is_success=False)  # too few wait: the size makes no difference
            return
        trial.append(rate)
        if len(trial) == _TRIALS:
            gain = sum(trial) / _TRIALS / self._rate
            self._end_trial(is_success=gain > (_BETTER if self.limit < self.learnt else _AS_GOOD))

    def _end_trial(self, *, is_success: bool) -> None:
        if is_success:
            self.learnt = self.limit
            self._size, self._rate = 0.0, 0.0  # those were of another bound
        self._pause = _SOONEST if is_success else min(2 * self._pause, _LATEST)
        self._trial = None
        self.limit = self.learnt
