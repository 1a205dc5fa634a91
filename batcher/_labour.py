"""How a worker does a job: the loops around the user's function.

There are four of them, and a run uses one: a bare loop where nothing is to be watched, a careful one where
items have timeouts, delays or retries, a gated one where each call needs leave of a throttle or a circuit
breaker, and a single call for a whole batch.

**Who owns an outcome.** A watched item leaves a stamp in the worker's `stamps`, the moment at which it
began, for as long as the user's function has it. Whoever takes the stamp out, in one step that no other
thread can come between, decides how the item ends. The worker takes it when the function returns or
raises; the conductor when the time is over. Whoever finds no stamp has lost: the worker then drops what
it has and leaves, for another thread does the rest of its job.
"""

from __future__ import annotations

import contextvars
from math import inf
from typing import TYPE_CHECKING, Any

from batcher._clock import Bell
from batcher._failure import Failure
from batcher._outcomes import fail_all, match
from batcher._preparation import ready
from batcher._starts import Start, Starts

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from batcher._bulk_settings import BulkSettings
    from batcher._clock import Clock
    from batcher._control import Control
    from batcher._job import Job
    from batcher._verdict import Judge


_STOPPED = object()


class Worker:
    """One thread of a run, as far as others have to do with it.

    Attributes:
        bell: Rung when the thread should look whether it may go on.
        job: What it does now; written by the worker.
        stamps: When the item at hand began; empty while none is.
        is_given_up: Whether it hangs in a call that nobody waits for any more; written by the conductor.
        starts: Where it asks for leave of a throttle and a circuit breaker, if there are any.
        start: The leave that the call at hand has; ended by whoever takes the stamp.
        thread: The thread, once it runs.
    """

    __slots__ = ("bell", "is_given_up", "job", "stamps", "start", "starts", "thread")

    def __init__(self) -> None:
        """Have nothing to do yet."""
        self.bell = Bell()
        self.job: Job | None = None
        self.stamps: list[float] = []
        self.is_given_up = False
        self.starts: Starts | None = None
        self.start: Start | None = None
        self.thread: threading.Thread | None = None

    def take_stamp(self, stamp: float | None = None) -> float | None:
        """Take the stamp out of `stamps`, if it is there and that one; say which it was."""
        try:
            if stamp is None:
                return self.stamps.pop()
            self.stamps.remove(stamp)
        except (IndexError, ValueError):
            return None
        return stamp


class Labour:
    """What the workers of one run do with each job."""

    def __init__(self, settings: BulkSettings, control: Control, clock: Clock, judge: Judge) -> None:
        """Choose the loop that these settings need."""
        self._control = control
        self._clock = clock
        self._judge = judge
        self._delay = settings.delay
        self._prepare = settings.prepare
        self._throttle = settings.throttle
        self._breaker = settings.circuit_breaker
        self._call: Callable[[Any], Any]
        self._loop: Callable[[Worker], bool]
        if settings.batch_processor is not None:
            self._call, self._loop = settings.batch_processor, self._whole
        else:
            assert settings.processor is not None  # noqa: S101 - the settings have one of both
            self._call = settings.processor
            is_watched = settings.timeout is not None or settings.policy is not None or settings.delay
            self._loop = self._gated if self._is_gated else self._careful if is_watched else self._bare

    @property
    def _is_gated(self) -> bool:
        return self._throttle is not None or self._breaker is not None

    def new_worker(self) -> Worker:
        """Return a worker for a thread that does these jobs."""
        worker = Worker()
        if self._is_gated:
            worker.starts = Starts(self._throttle, self._breaker, holds=False, clock=self._clock, wake=worker.bell.ring)
        return worker

    def do(self, worker: Worker) -> bool:
        """Do the worker's job, as far as the run goes on; say whether the worker is still wanted after it."""
        # A context of its own, and empty: nothing that one batch sets, and no caller's, reaches another.
        return contextvars.Context().run(self._do, worker)

    def _do(self, worker: Worker) -> bool:
        # An error that a user keeps leads back to the frames of this module, so they must let go of the job.
        if self._control.is_held and not self._control.may_begin(worker.bell):
            return True
        if self._prepare is not None and not self._make_ready(worker, self._prepare):
            return True
        return self._loop(worker)

    def _make_ready(self, worker: Worker, prepare: Callable[[list[Any]], list[Any]]) -> bool:
        """Prepare the items; where that fails they all fail."""
        job = _job_of(worker)
        began = self._clock.monotonic()
        try:
            if not job.is_prepared:
                job.items = ready(prepare, job.items)
                job.is_prepared = True
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns these items alone
            self.settle(job, fail_all(len(job.items), error), began)
            return False
        else:
            return True
        finally:
            del job

    def _bare(self, worker: Worker) -> bool:
        """Call the function for one item after another; nobody watches."""
        job = _job_of(worker)
        control, call, results = self._control, self._call, job.results
        append = results.append
        items = iter(job.items)
        item = None
        try:
            while True:
                try:
                    for item in items:
                        if control.is_held and not control.may_begin(worker.bell):
                            return True
                        append(call(item))
                    break
                except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this item alone
                    self._fail(job, len(results), Failure(error, shared=False), self._clock.monotonic())
        finally:
            del job, items, item, results, append
        return True

    def _careful(self, worker: Worker) -> bool:
        """Call the function for one item after another, leaving stamps."""
        job = _job_of(worker)
        control, call, results = self._control, self._call, job.results
        append, now, stamps = results.append, self._clock.monotonic, worker.stamps
        items = iter(job.items)
        item = result = None
        try:
            while True:
                try:
                    for item in items:
                        if control.is_held and not control.may_begin(worker.bell):
                            return True
                        if self._delay and results and not control.rest(worker.bell, self._clock, self._delay):
                            return True
                        stamps.append(now())
                        result = call(item)
                        stamps.pop()
                        append(result)
                    break
                except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this item alone
                    began = worker.take_stamp()
                    if began is None:
                        return False
                    self._fail(job, len(results), Failure(error, shared=False), began)
        finally:
            del job, items, item, result, results, append
        return True

    def _gated(self, worker: Worker) -> bool:
        """Call the function for one item after another, each with leave."""
        job = _job_of(worker)
        try:
            while len(job.results) < len(job.items):
                is_first = not job.results
                if not (is_first or self._control.rest(worker.bell, self._clock, self._delay)):
                    break
                outcome, began = self._attempt(worker, job.items[len(job.results)])
                if began is None:
                    return outcome is _STOPPED
                if isinstance(outcome, Failure):
                    self._fail(job, len(job.results), outcome, began)
                else:
                    job.results.append(outcome)
                del outcome
        finally:
            del job
        return True

    def _whole(self, worker: Worker) -> bool:
        """Call the function once for all items, with leave if it needs that."""
        job = _job_of(worker)
        outcomes = returned = None
        try:
            returned, began = self._attempt(worker, job.items)
            if began is None:
                return returned is _STOPPED
            if isinstance(returned, Failure):
                outcomes = fail_all(len(job.items), returned.error)
            else:
                outcomes = match(job.items, returned)
            self.settle(job, outcomes, began)
        finally:
            del job, outcomes, returned
        return True

    def _attempt(self, worker: Worker, given: Any) -> tuple[Any, float | None]:  # noqa: ANN401 - an item, or several
        """Make a call; return its result, or its Failure, and when it began.

        Without a beginning there is none: it is `_STOPPED` if no call may begin, and anything else if this
        thread is given up.
        """
        outcome: Any = None
        start: Start | None = None
        try:
            if worker.starts is not None:
                leave = self._ask(worker, worker.starts)
                if not isinstance(leave, Start):
                    return (
                        (_STOPPED, None) if leave is None else (Failure(leave, shared=False), self._clock.monotonic())
                    )
                start = worker.start = leave
            worker.stamps.append(self._clock.monotonic())
            try:
                outcome = self._call(list(given) if self._loop == self._whole else given)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns what was given alone
                outcome = Failure(error, shared=False)
            began = worker.take_stamp()
            if began is not None and start is not None:
                start.end(is_failure=self.is_failure(given, outcome))
            return outcome, began
        finally:
            del given, outcome

    def _ask(self, worker: Worker, starts: Starts) -> Start | BaseException | None:
        """Wait for leave; return it, or why it was refused, or None if the run stops."""
        while not starts.is_decided:
            if self._control.is_held:
                # Out of the throttle's line: a run that is paused must not hold up others there.
                starts.withdraw()
                if not self._control.may_begin(worker.bell):
                    return None
            starts.ask()
            if not starts.is_decided:
                self._clock.wait(worker.bell, None if starts.not_before == inf else starts.not_before)
        start, refusal = starts.take()
        return start or refusal

    def is_failure(self, given: Any, outcome: Any) -> bool | None:  # noqa: ANN401 - whatever the user's function does
        """Say whether a call has failed in the eyes of the circuit breaker: a batch does if all of it does."""
        if self._breaker is None:
            return None
        if not isinstance(outcome, Failure) and self._loop == self._whole:
            outcomes = match(given, outcome)
            if not all(isinstance(each, Failure) for each in outcomes):
                return False
            outcome = outcomes[0]
        return self._breaker.is_failure(outcome.error if isinstance(outcome, Failure) else None)

    def settle(self, job: Job, outcomes: list[Any], began: float) -> None:
        """Take the outcomes of a call for all items: results, and `Failure` objects among them."""
        if Failure not in set(map(type, outcomes)):
            job.results += outcomes
            return
        for i, outcome in enumerate(outcomes):
            if isinstance(outcome, Failure):
                self._fail(job, i, outcome, began)
            else:
                job.results.append(outcome)
        job.gather()

    def _fail(self, job: Job, i: int, failure: Failure, began: float) -> None:
        """Note what becomes of a failed item; see `Job` for the order of the two steps."""
        job.fail(i, self._judge.judge(job.batch, job.positions[i], failure, began))


def _job_of(worker: Worker) -> Job:
    assert worker.job is not None  # noqa: S101 - it does one
    return worker.job
