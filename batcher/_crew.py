"""The worker threads of one bulk run.

At most `max_concurrent` of them do jobs; they are started as jobs come. A thread that hangs in an item
whose time is over is given up: another one takes its place, and the rest of its job.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

from batcher._failure import Failure
from batcher._workers import DaemonPool
from batcher.errors import ItemTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._bulk_settings import BulkSettings
    from batcher._clock import Clock
    from batcher._job import Job
    from batcher._labour import Labour, Worker
    from batcher._reentry import Token
    from batcher._verdict import Judge


# Seconds for an idle thread to end; it takes microseconds.
_PATIENCE = 1.0


class Staff(Protocol):
    """Who does the jobs of a run: threads of its own, or somebody else's executor. The conductor's alone."""

    def put(self, job: Job) -> None:
        """Have a job done."""
        ...

    def collect(self, now: float) -> list[Job]:
        """Return the jobs that have ended, and end those whose time is over."""
        ...

    def next_moment(self, now: float) -> float | None:
        """Return when `collect` should be called, even if nobody rings."""
        ...

    def wake(self) -> None:
        """Have everyone look whether they may go on."""
        ...

    def abandon(self) -> list[Job]:
        """Give up what runs; return the jobs as far as they are done."""
        ...

    def leave(self) -> None:
        """Do nothing more."""
        ...


class Crew:
    """Threads of the run's own."""

    def __init__(
        self,
        settings: BulkSettings,
        labour: Labour,
        judge: Judge,
        clock: Clock,
        *,
        token: Token,
        ring: Callable[[], object],
    ) -> None:
        """Start no thread yet; `ring` wakes the conductor."""
        self._timeout = settings.timeout
        self._size = settings.max_concurrent
        self._is_single = settings.batch_processor is not None
        self._labour = labour
        self._judge = judge
        self._clock = clock
        self._ring = ring
        self._pool = DaemonPool(settings.name, token)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: deque[Job] = deque()
        self._workers: list[Worker] = []
        self._under_way: set[Job] = set()
        self._stuck: list[threading.Thread | None] = []

    def put(self, job: Job) -> None:
        """Have a job done."""
        self._under_way.add(job)
        self._jobs.put(job)
        if len(self._workers) < min(self._size, len(self._under_way)):
            self._hire()

    def _hire(self) -> None:
        worker = self._labour.new_worker()
        try:
            self._pool.start(partial(self._serve, worker))
        except RuntimeError:
            if not self._workers:
                raise  # no thread at all, at exit for one
            return  # the others do the job
        self._workers.append(worker)

    def _serve(self, worker: Worker) -> None:
        """Be a worker: one job after another, until there are none or the thread is given up."""
        worker.thread = threading.current_thread()
        while not worker.is_given_up:
            worker.job = job = self._jobs.get()
            if job is None or not self._labour.do(worker):
                return
            worker.job = None
            self._done.append(job)
            del job  # an idle worker keeps no batch alive
            self._ring()

    def collect(self, now: float) -> list[Job]:
        """Return the jobs that have ended, and end those whose item takes too long."""
        ended = []
        if self._timeout is not None:
            for worker in list(self._workers):
                late = self._end_late(worker, now, self._timeout)
                if late is not None:
                    ended.append(late)
        while self._done:
            ended.append(self._done.popleft())
        self._under_way.difference_update(ended)
        return ended

    def _end_late(self, worker: Worker, now: float, timeout: float) -> Job | None:
        """Give up a worker whose item takes too long; return its job as far as it has come."""
        try:
            stamp = worker.stamps[0]
        except IndexError:
            return None
        if stamp + timeout > now or worker.take_stamp(stamp) is None:
            return None
        # From here on the item is ours: the worker can't add a result any more, and leaves when it comes back.
        job, start = worker.job, worker.start
        assert job is not None  # noqa: S101 - it holds it until then
        if start is not None:
            start.end(is_failure=True)
        self._dismiss(worker)
        self._fail_late(job, stamp, timeout)
        job.split()
        self._under_way.discard(job)
        if not self._jobs.empty():
            self._hire()
        return job

    def _dismiss(self, worker: Worker) -> None:
        """Give up a thread that hangs."""
        worker.is_given_up = True
        self._workers.remove(worker)
        self._stuck.append(worker.thread)

    def _fail_late(self, job: Job, stamp: float, timeout: float) -> None:
        """End the item at hand, or the whole call."""
        what = "the call" if self._is_single else "the item"
        error = ItemTimeoutError(f"{what} took longer than {timeout:g} seconds; its thread was given up")
        is_last = not self._judge.retries_timeouts
        count = len(job.items) - len(job.results) if self._is_single else 1
        for i in range(len(job.results), len(job.results) + count):
            failure = Failure(error, shared=count > 1)
            job.fail(i, self._judge.judge(job.batch, job.positions[i], failure, stamp, is_last=is_last))
        if self._is_single:
            job.gather()

    def next_moment(self, now: float) -> float | None:
        """Return when the next item that runs has taken too long, or one that begins now would have."""
        if self._timeout is None or not self._under_way:
            return None
        stamps = [worker.stamps[:1] for worker in self._workers]
        return min((stamp[0] if stamp else now for stamp in stamps), default=now) + self._timeout

    def wake(self) -> None:
        """Have everyone look whether they may go on."""
        for worker in self._workers:
            worker.bell.ring()

    def abandon(self) -> list[Job]:
        """Give up what runs; return the jobs as far as they are done."""
        for worker in list(self._workers):
            if worker.job is not None:
                self._dismiss(worker)
        jobs, self._under_way = list(self._under_way), set()
        for job in jobs:
            # Copies: a worker that comes back later may still append to the lists that it has.
            job.results = job.results[:]
            job.failures = [failure for failure in job.failures if failure[0] < len(job.results)]
        return jobs

    def leave(self) -> None:
        """End the threads; wait for those that aren't in a call."""
        for _ in range(self._size):
            self._jobs.put(None)
        self._pool.shutdown(wait=False)
        for thread in self._pool.threads():
            if thread not in self._stuck:
                thread.join(_PATIENCE)
