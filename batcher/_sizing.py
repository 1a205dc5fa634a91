"""How large a batch pays: a learnt bound, for handlers whose time grows faster than their batches.

Most handlers work the faster the larger the batch. Where one doesn't, because its cost grows with the
square of the size, say, or because a server pages to disk, smaller batches bring more items through. So
now and then, under load, a batch of half the size is tried; where such batches do clearly more items a
second, the bound is halved, and where batches of double the size do as well, it is doubled again. (Hill
climbing, as in Netflix's concurrency-limits, on the throughput and on powers of two.)

Thread safety: none of its own; the owner's lock guards all.
"""

from __future__ import annotations

_WORTHWHILE = 0.001  # seconds: a shorter handler call isn't worth the trial
_EVERY = 16  # full batches from one trial to the next
_TRIALS = 3  # batches that a trial takes
_MEMORY = 0.3  # the weight of the latest batch in an average
_BETTER = 1.15  # times the items a second: then the smaller size pays
_AS_GOOD = 1.02  # times the items a second: then the larger size pays


class BatchSizing:
    """The bound on the size of a batch.

    Attributes:
        limit: The bound at the present, a trial's included.
    """

    __slots__ = ("_largest", "_level", "_rates", "_since_trial", "_trial", "_trials_left", "_tries_larger", "limit")

    def __init__(self, largest: int) -> None:
        """Start with batches of `largest` items."""
        self._largest = largest
        self.limit = largest
        self._level = 0  # how often the bound was halved
        self._trial: int | None = None  # the level that is tried
        self._trials_left = 0
        self._since_trial = 0
        self._tries_larger = False  # in turns with the smaller
        self._rates: dict[int, float] = {}  # items a second, of the level and of its trial

    @property
    def learnt(self) -> int:
        """The bound without trials."""
        return self._size(self._level)

    def observe(self, size: int, seconds: float) -> None:
        """Learn from a handler call that succeeded; only full batches tell anything."""
        if size != self.limit or seconds <= 0:
            return
        level = self._level if self._trial is None else self._trial
        rate = size / seconds
        before = self._rates.get(level, rate)
        self._rates[level] = before + _MEMORY * (rate - before)
        if self._trial is None:
            self._since_trial += 1
            if self._since_trial >= _EVERY and seconds >= _WORTHWHILE:
                self._begin_trial()
            return
        self._trials_left -= 1
        if not self._trials_left:
            self._end_trial(self._trial)

    def _size(self, level: int) -> int:
        return max(self._largest >> level, 1)

    def _begin_trial(self) -> None:
        """Try half the size or, in turns, double the size."""
        self._since_trial = 0
        can_grow, can_shrink = self._level > 0, self._size(self._level) > 1
        if not (can_grow or can_shrink):
            return
        grows = can_grow and (self._tries_larger or not can_shrink)
        self._tries_larger = not grows
        self._trial = self._level - 1 if grows else self._level + 1
        self._trials_left = _TRIALS
        self.limit = self._size(self._trial)

    def _end_trial(self, trial: int) -> None:
        gain = self._rates[trial] / self._rates[self._level]
        if gain > (_BETTER if trial > self._level else _AS_GOOD):
            self._level = trial
        self._rates = {self._level: self._rates[self._level]}
        self._trial = None
        self.limit = self._size(self._level)
