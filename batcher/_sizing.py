"""How large a batch pays: a learnt bound, for handlers whose time grows faster than their batches.

Most handlers work the faster the larger the batch. Where one doesn't, because its cost grows with the
square of the size, say, or because a server pages to disk, smaller batches bring more items through. So
now and then half the usual size is tried; where that does clearly more items a second, the bound comes down
to it, and where batches beyond the bound do no worse, it goes up again. (Hill climbing on the throughput, as
in Netflix's concurrency-limits.)

Trials cost throughput: near the handler's capacity a few half batches leave a backlog that every caller
feels for a long time. So there are as few as can be, in three ways:

- Below capacity the sizes vary by themselves, and the small ones show what a trial would. Where they did no
  better, there is none; only where all sizes are alike, because the bound or the number of callers makes
  them so, nothing but a trial tells. (Likewise TCP learns nothing about its window from a sender that doesn't
  fill it: congestion window validation, RFC 7661.)
- The first batch that does no better ends the trial (sequential analysis, after Wald).
- Each trial that was in vain makes the next one of its kind wait twice as long (TCP's exponential back-off).

What is usual is a median, since a call may seem long because others have kept the interpreter.

Thread safety: none of its own; the owner's lock guards all.
"""

from __future__ import annotations

from collections import deque

_WORTHWHILE = 0.001  # seconds: a shorter handler call isn't worth the trial
_SOONEST, _LATEST = 16, 4096  # batches from one trial to the next of its kind
_USUAL = 64  # batches that tell what is usual
_FEW = 3  # fewer small ones among them tell nothing
_IN_A_ROW = 3  # batches of a trial that do better
_FILLED = 0.5  # of a trial's size: a smaller batch says that too few wait
_BETTER = 1.25  # times the items a second: then the smaller size pays
_AS_GOOD = 1.0  # times the items a second: then the larger size pays


class BatchSizing:
    """The bound on the size of a batch.

    Attributes:
        learnt: The bound without trials.
        limit: The bound at the present, a trial's included.
    """

    __slots__ = (
        "_batches",
        "_due",
        "_largest",
        "_next_trial",
        "_pauses",
        "_successes",
        "_tried_since",
        "_usual",
        "learnt",
        "limit",
    )

    def __init__(self, largest: int) -> None:
        """Start with batches of `largest` items at most."""
        self._largest = largest
        self.learnt = self.limit = largest
        self._usual: deque[tuple[int, float]] = deque(maxlen=_USUAL)  # size and seconds of a batch
        self._batches = 0  # of the usual kind, ever
        self._tried_since: float | None = None  # when the present trial began
        self._successes = 0  # batches that did better in it
        # Of trials that shrink the batch, and of those that let it grow: batches between two, and when the next is due.
        self._pauses = {False: _SOONEST, True: _SOONEST}
        self._due = {False: _SOONEST, True: _SOONEST}
        self._next_trial = _SOONEST

    def observe(self, size: int, started: float, ended: float) -> None:
        """Learn from a handler call that succeeded.

        Args:
            size: How many items it got.
            started: When it began, in seconds of a monotonic clock.
            ended: When it ended.
        """
        seconds = ended - started
        if seconds <= 0:
            return
        if self._tried_since is None:
            self._usual.append((size, seconds))
            self._batches += 1
            if self._batches >= self._next_trial:
                self._begin_trial(ended)
        elif started >= self._tried_since:  # else it was under way before the trial, in another slot
            self._observe_trial(size, size / seconds)

    def _begin_trial(self, now: float) -> None:
        """Let the batch grow beyond its bound, or try half the usual size, if that may tell something."""
        grows = self.learnt < self._largest and self._batches >= self._due[True]
        usual = _median([size for size, _ in self._usual])
        if not grows and self._is_vain(usual):
            self._put_off(grows=False)
            return
        self.limit = min(2 * self.learnt, self._largest) if grows else int(usual) // 2
        self._tried_since = now
        self._successes = 0

    def _is_vain(self, usual: float) -> bool:
        """Say whether smaller batches have nothing to win, or small ones have shown that they are no better."""
        if usual <= 1 or _median([seconds for _, seconds in self._usual]) < _WORTHWHILE:
            return True
        small = [size / seconds for size, seconds in self._usual if size < usual]
        others = [size / seconds for size, seconds in self._usual if size >= usual]
        return len(small) >= _FEW and _median(small) <= _median(others)

    def _observe_trial(self, size: int, rate: float) -> None:
        grows = self.limit > self.learnt
        if size <= self.learnt if grows else size < _FILLED * self.limit:
            self._end_trial(grows=grows)  # too few wait for the bound to matter
            return
        if rate <= (_AS_GOOD if grows else _BETTER) * _median([size / seconds for size, seconds in self._usual]):
            self._pauses[grows] = min(2 * self._pauses[grows], _LATEST)
            self._end_trial(grows=grows)
            return
        self._successes += 1
        if self._successes == _IN_A_ROW:
            self.learnt = self.limit
            self._usual.clear()  # those were of another bound
            self._pauses = {False: _SOONEST, True: _SOONEST}
            self._put_off(grows=not grows)
            self._end_trial(grows=grows)

    def _end_trial(self, *, grows: bool) -> None:
        self._tried_since = None
        self.limit = self.learnt
        self._put_off(grows=grows)

    def _put_off(self, *, grows: bool) -> None:
        """Have the next trial of its kind wait."""
        self._due[grows] = self._batches + self._pauses[grows]
        self._next_trial = min(self._due.values()) if self.learnt < self._largest else self._due[False]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
