"""How far a bulk run is.

The books of a run are kept by one thread, the conductor; anybody may look at them. What has ended is in
the totals; what runs is counted at the moment of looking, from the jobs themselves, so that a worker has
nothing to report for each item.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._clock import Clock
    from batcher._job import Job
    from batcher._report import Reporter

# Seconds between two calls of the hook: nine in a second, so that the last call makes ten at most.
_PERIOD = 1 / 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A consistent snapshot of a bulk run.

    Attributes:
        processed: `successful + failed`.
        successful: Items that have a result.
        failed: Items that ended with an error.
        skipped: Items that were left out, because the checkpoint had them.
        pending: Items that are left to do; where the total is unknown, those that were read so far.
        current_batch: How many batches were begun; 0 before the first.
        total_batches: How many there will be; None while that is unknown.
        elapsed: Seconds since the run began.
        rate: Items processed in a second, on average.
        eta: Seconds until all is done at that rate; None where the total or the rate is unknown.
        state: "idle" before the first run, then "running", "paused", "stopping" or "done".
    """

    processed: int = 0
    successful: int = 0
    failed: int = 0
    skipped: int = 0
    pending: int = 0
    current_batch: int = 0
    total_batches: int | None = None
    elapsed: float = 0.0
    rate: float = 0.0
    eta: float | None = None
    state: str = "idle"


class Books:
    """The counts of one run.

    Thread safety: the conductor writes, `snapshot` may be called from any thread or signal handler.

    Attributes:
        read: Items read from the input, skipped ones included; written by the thread that reads.
        skipped: Items that the checkpoint had; written by the thread that reads.
        batches: Batches begun.
        is_read: Whether the input has ended.
    """

    def __init__(self, clock: Clock, total: int | None, batch_size: int) -> None:
        """Begin now; `total` is None where nobody knows how many items there are."""
        self._clock = clock
        self._total = total
        self._batch_size = batch_size
        self._began = clock.monotonic()
        self._ended: float | None = None
        self.read = self.skipped = self.batches = 0
        self.is_read = False
        # Guards: _successful, _failed, _jobs. Re-entrant, because a signal handler may ask for a snapshot
        # on top of one.
        self._lock = threading.RLock()
        self._successful = self._failed = 0
        self._jobs: set[Job] = set()

    def open(self, job: Job) -> None:
        """Count what this job does from now on."""
        with self._lock:
            self._jobs.add(job)

    def close(self, job: Job) -> None:
        """Put into the totals what this job has done."""
        successful, failed = job.counts()
        with self._lock:
            self._jobs.discard(job)
            self._successful += successful
            self._failed += failed

    def add_failed(self, count: int) -> None:
        """Count items that failed outside of a job."""
        with self._lock:
            self._failed += count

    def end(self) -> None:
        """Stop the time."""
        self._ended = self._clock.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning, at most until the end."""
        ended = self._ended
        return (self._clock.monotonic() if ended is None else ended) - self._began

    @property
    def processed(self) -> tuple[int, int]:
        """How many items have succeeded and failed."""
        with self._lock:
            successful, failed = self._successful, self._failed
            for job in self._jobs:
                more = job.counts()
                successful, failed = successful + more[0], failed + more[1]
        return successful, failed

    def snapshot(self, state: str) -> Progress:
        """Return how far the run is."""
        elapsed = self.elapsed
        successful, failed = self.processed
        processed = successful + failed
        total = self._total
        if self.is_read:
            total = self.read
        pending = max((self.read if total is None else max(total, self.read)) - processed - self.skipped, 0)
        rate = processed / elapsed if elapsed > 0 else 0.0
        batches = None
        if self.is_read:
            batches = self.batches
        elif total is not None and not self.skipped:
            batches = max(-(-total // self._batch_size), self.batches)
        return Progress(
            processed=processed,
            successful=successful,
            failed=failed,
            skipped=self.skipped,
            pending=pending,
            current_batch=self.batches,
            total_batches=batches,
            elapsed=elapsed,
            rate=rate,
            eta=pending / rate if rate and total is not None else None,
            state=state,
        )


class Teller:
    """Calls a progress hook, not too often, and always with the last state."""

    def __init__(self, hook: Callable[[Progress], object], clock: Clock, reporter: Reporter) -> None:
        """Call `hook`; what it raises goes to the log."""
        self._hook = hook
        self._clock = clock
        self._reporter = reporter
        self._told: tuple[int, int] = (0, 0)
        self.next_moment = clock.monotonic() + _PERIOD

    def tell(self, progress: Progress) -> None:
        """Tell what is new; to be called when it is time."""
        self.next_moment = self._clock.monotonic() + _PERIOD
        news = (progress.processed, progress.current_batch)
        if news != self._told:
            self._told = news
            self.tell_now(progress)

    def tell_now(self, progress: Progress) -> None:
        """Tell it in any case."""
        try:
            self._hook(progress)
        except BaseException as error:  # noqa: BLE001 - a hook that raises stops nothing; it runs on a thread of ours
            self._reporter.report("on_progress raised", error)
