"""A bulk run's jobs on somebody else's executor: processes, or a cluster.

At most `max_concurrent` calls are under way. Usually a call is a whole job. Where single items are watched
it is one item: nobody can see from outside which item of a call is at hand. What an executor says of a
running call isn't trusted: a call that takes too long keeps its place until its future ends, and its
result is thrown away then.
"""

from __future__ import annotations

import pickle
from collections import deque
from concurrent.futures import BrokenExecutor, CancelledError
from math import inf
from typing import TYPE_CHECKING, Any

from batcher._execution import trim
from batcher._failure import Failure
from batcher._outcomes import fail_all
from batcher._parcel import BulkCall, Parcel, dumps, pickles_plainly, run_bulk_call, unpack
from batcher._starts import Starts
from batcher.errors import BatchError, ItemTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from batcher._bulk_settings import BulkSettings
    from batcher._clock import Clock
    from batcher._control import Control
    from batcher._job import Job
    from batcher._starts import Start
    from batcher._verdict import Judge

# What pickling fails with, by whatever means.
_PICKLING_ERRORS = (pickle.PicklingError, TypeError, AttributeError)


class _Call:
    """One call that the executor has.

    Attributes:
        job: The job that it is part of.
        count: How many items it has.
        began: When it was submitted.
        future: The executor's future of it.
        is_lost: Whether nobody waits for it any more.
        start: The leave that it has of a throttle and a circuit breaker, if there are any.
    """

    __slots__ = ("began", "count", "future", "is_lost", "job", "start")

    def __init__(self, job: Job, count: int, began: float) -> None:
        self.job = job
        self.count = count
        self.began = began
        self.future: Future[Any] | None = None
        self.is_lost = False
        self.start: Start | None = None


class Lent:
    """The calls of one run on a borrowed executor. The conductor's alone, but for the callbacks."""

    def __init__(
        self,
        settings: BulkSettings,
        executor: Executor,
        control: Control,
        judge: Judge,
        clock: Clock,
        *,
        ring: Callable[[], None],
        fail: Callable[[BaseException], object],
    ) -> None:
        """Submit nothing yet; `ring` wakes the conductor, `fail` ends the run with an error."""
        self._executor = executor
        self._size = settings.max_concurrent
        self._timeout = settings.timeout
        takes_list = settings.batch_processor is not None
        is_gated = settings.throttle is not None or settings.circuit_breaker is not None
        self._takes_item = not takes_list and (settings.timeout is not None or is_gated)
        self._breaker = settings.circuit_breaker
        self._starts: Starts | None = None
        if is_gated:
            self._starts = Starts(settings.throttle, settings.circuit_breaker, holds=False, clock=clock, wake=ring)
        self._delay = settings.delay if self._takes_item else 0.0
        function = settings.processor if settings.batch_processor is None else settings.batch_processor
        assert function is not None  # noqa: S101 - the settings have one of both
        self._bulk_call = BulkCall(
            function, takes_list=takes_list, prepare=settings.prepare, delay=0.0 if self._takes_item else settings.delay
        )
        self._control = control
        self._judge = judge
        self._clock = clock
        self._ring = ring
        self._fail = fail
        self._broken: BaseException | None = None
        self._waiting: deque[tuple[float, Job]] = deque()
        self._calls: set[_Call] = set()
        self._returned: deque[_Call] = deque()

    def put(self, job: Job) -> None:
        """Have a job done."""
        self._waiting.append((0.0, job))
        self._ring()  # it is submitted in the next `collect`

    def collect(self, now: float) -> list[Job]:
        """Return the jobs that have ended; submit others in their place."""
        ended: list[Job] = []
        while self._returned:
            call = self._returned.popleft()
            self._calls.discard(call)
            if not call.is_lost:
                self._settle(call, ended, now)
        if self._timeout is not None:
            for call in [call for call in self._calls if not call.is_lost and call.began + self._timeout <= now]:
                self._give_up(call, ended)
        self._submit_waiting(ended, now)
        return ended

    def _submit_waiting(self, ended: list[Job], now: float) -> None:
        for _ in range(len(self._waiting)):
            due, job = self._waiting.popleft()
            if self._broken is not None:
                self._fail_rest(_Call(job, 0, now), self._broken, ended)
            elif self._control.is_stopping:
                ended.append(job)
            elif self._control.is_paused or due > now or len(self._calls) >= self._size or not self._may_start(now):
                self._waiting.append((due, job))
            else:
                self._submit(job, ended, now)
        if self._starts is not None and (self._control.is_held or not self._waiting):
            self._starts.withdraw()  # others may go on meanwhile

    def _may_start(self, now: float) -> bool:
        """Say whether the throttle and the circuit breaker have decided on the next call."""
        starts = self._starts
        if starts is None:
            return True
        if not starts.is_decided and starts.may_ask(now):
            starts.ask()
        return starts.is_decided

    def _submit(self, job: Job, ended: list[Job], now: float) -> None:
        """Hand the next call of a job to the executor."""
        done = len(job.results)
        items = job.items[done : done + 1] if self._takes_item else job.items
        call = _Call(job, len(items), now)
        if self._starts is not None:
            call.start, refusal = self._starts.take()
            if refusal is not None:
                self._take(call, fail_all(call.count, refusal))
                self._go_on(job, ended, now)
                return
        self._calls.add(call)
        try:
            call.future = self._executor.submit(run_bulk_call, Parcel(self._bulk_call, items))
        except BaseException as error:  # noqa: BLE001 - the executor is the user's
            self._calls.discard(call)
            self._refuse(call, error, ended, is_last=isinstance(error, RuntimeError))
            return

        def done_calling(_: Future[Any]) -> None:
            # Nothing more: it may be a thread of the executor's that must not run other code.
            self._returned.append(call)
            self._ring()

        call.future.add_done_callback(done_calling)

    def _settle(self, call: _Call, ended: list[Job], now: float) -> None:
        """Take what a call came back with."""
        assert call.future is not None  # noqa: S101 - it was submitted
        try:
            outcomes = unpack(call.future.result(0))
        except CancelledError as error:
            failure = BatchError("the executor cancelled the call")
            failure.__cause__ = error
            self._refuse(call, failure, ended)
        except BaseException as error:  # noqa: BLE001 - the executor's own: the items' errors come as outcomes
            self._refuse(call, error, ended)
        else:
            self._take(call, outcomes)
            self._go_on(call.job, ended, now)

    def _take(self, call: _Call, outcomes: list[Any], *, is_last: bool = False) -> None:
        """Put outcomes into the job."""
        job = call.job
        if call.start is not None:
            errors = [outcome.error for outcome in outcomes if isinstance(outcome, Failure)]
            error = errors[0] if len(errors) == len(outcomes) > 0 else None
            call.start.end(is_failure=None if self._breaker is None else self._breaker.is_failure(error))
            call.start = None
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                i = len(job.results)
                job.fail(i, self._judge.judge(job.batch, job.positions[i], outcome, call.began, is_last=is_last))
            else:
                job.results.append(outcome)
        if not self._takes_item:
            job.gather()

    def _go_on(self, job: Job, ended: list[Job], now: float) -> None:
        """Have the rest of a job done, if there is any."""
        if len(job.results) < len(job.items):
            self._waiting.appendleft((now + self._delay, job))
        else:
            ended.append(job)

    def _refuse(self, call: _Call, error: BaseException, ended: list[Job], *, is_last: bool = False) -> None:
        """Deal with a call that the executor didn't make, or lost."""
        trim(error)
        if isinstance(error, BrokenExecutor) or is_last:
            self._break(error, [call, *self._calls], ended)
            return
        if isinstance(error, _PICKLING_ERRORS) and self._explain(call, error, ended):
            return
        self._take(call, fail_all(call.count, error))
        self._go_on(call.job, ended, self._clock.monotonic())

    def _break(self, error: BaseException, calls: list[_Call], ended: list[Job]) -> None:
        """End a run whose executor does nothing more: all that was read is reported."""
        self._broken = error
        self._control.stop()
        for call in calls:
            if not call.is_lost:
                call.is_lost = True
                self._fail_rest(call, error, ended)

    def _fail_rest(self, call: _Call, error: BaseException, ended: list[Job]) -> None:
        """End all that a job still has."""
        self._take(call, fail_all(len(call.job.items) - len(call.job.results), error), is_last=True)
        ended.append(call.job)

    def _explain(self, call: _Call, error: BaseException, ended: list[Job]) -> bool:
        """Find out what can't be sent; say whether something was found, and the rest is seen to."""
        plainly = pickles_plainly(self._executor)
        try:
            dumps(self._bulk_call, plainly=plainly)
        except Exception as why:  # noqa: BLE001 - pickling runs the user's code
            self._fail(_unsendable("the processor", error, why))
            ended.append(call.job)
            return True
        job, bad = call.job, {}
        done = len(job.results)
        for i in range(done, done + call.count):
            try:
                dumps(job.items[i], plainly=plainly)
            except Exception as why:  # noqa: BLE001 - as above
                bad[i] = _unsendable("the item", error, why)
        if not bad:
            return False
        job.split(list(bad))
        self._take(call, [Failure(error, shared=False) for error in bad.values()], is_last=True)
        ended.append(job)
        return True

    def _give_up(self, call: _Call, ended: list[Job]) -> None:
        """End the items of a call that takes too long; it keeps its place."""
        call.is_lost = True
        what = "the item" if self._takes_item else "the call"
        error = ItemTimeoutError(f"{what} took longer than {self._timeout:g} seconds, counted from its submission")
        self._take(call, fail_all(call.count, error), is_last=not self._judge.retries_timeouts)
        self._go_on(call.job, ended, self._clock.monotonic())

    def next_moment(self, now: float) -> float | None:
        """Return when the next call has taken too long, or may be made."""
        moments = [due for due, _ in self._waiting if due > now]
        if self._starts is not None and self._waiting and len(self._calls) < self._size and not self._control.is_held:
            moments += [self._starts.not_before] * (self._starts.not_before < inf)
        if self._timeout is not None:
            moments += [call.began + self._timeout for call in self._calls if not call.is_lost]
        return min(moments, default=None)

    def wake(self) -> None:
        """Have everyone look whether they may go on: it is the conductor who submits."""

    def abandon(self) -> list[Job]:
        """Give up what runs; return the jobs as far as they are done."""
        jobs = {call.job: None for call in self._calls if not call.is_lost} | {job: None for _, job in self._waiting}
        self._waiting.clear()
        for call in self._calls:
            call.is_lost = True
            if call.start is not None:
                call.start.end(is_failure=None)
            assert call.future is not None  # noqa: S101 - it was submitted
            call.future.cancel()  # where it hasn't begun, it needn't; whatever the answer, nobody waits
        return list(jobs)

    def leave(self) -> None:
        """Do nothing more; the executor is its owner's."""
        if self._starts is not None:
            self._starts.withdraw()


def _unsendable(what: str, error: BaseException, why: BaseException) -> TypeError:
    explained = TypeError(f"{what} can't be sent to the executor, because it can't be pickled: {why}")
    explained.__cause__ = error
    return explained
