"""What the callers of one debounce, the timer's thread and a worker share.

All that is known between two steps is one immutable `State`. A step computes the next one from it and the
time, then swaps it in if nobody was faster, else starts again. So a signal handler or a destructor may
call a debounce on top of itself, Ctrl-C leaves a call wholly in or wholly out, and times are in order
without a lock around the clock. What a step decides, a run to begin or a timer to set, others carry out:
the timer's thread (`_timer`) finds it and hands runs to a worker.

`_edges` has the rules of when to run.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from batcher._edges import CLOSED, Rule, Window, arrive, ring
from batcher._execution import free_frames, trim
from batcher._failure import Failure
from batcher._future import (
    ItemFuture,
    announce,
    cancelled_state,
    claim_locked,
    fail_forked,
    is_pending,
    is_watched,
    settle_locked,
)
from batcher._process import check_process
from batcher._report import Reporter
from batcher._timer import timer_of
from batcher.errors import ReentrantCallError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._clock import Clock


class Run(NamedTuple):
    """One run of the function, with the arguments of the last call that ends up in it."""

    future: ItemFuture[Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def _none() -> None:
    """Be a reference to nothing."""


class State(NamedTuple):
    """All that is known between two steps.

    `next` is the run to come at the trailing edge. `last` refers to the Future of the last run, and `kept`
    keeps it; `since` counts the calls that were absorbed since that run.
    """

    window: Window = CLOSED
    next: Run | None = None
    last: Callable[[], ItemFuture[Any] | None] = _none
    kept: ItemFuture[Any] | None = None
    calls: int = 0
    runs: int = 0
    absorbed: int = 0
    cancelled: int = 0
    since: int = 0


class Step(NamedTuple):
    """What a step comes to: the state after it, and what is to be done about it."""

    after: State
    run: Run | None = None  # begins now
    answer: ItemFuture[Any] | None = None  # for the caller
    absorbed: int = 0  # calls since the last run, if this step has absorbed one
    cancelled: ItemFuture[Any] | None = None  # is to be told


class _Owner:
    """What the futures of one debounce in one process refer to.

    Apart from `Bursts`, which keeps the last future: so no circle keeps the two alive.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.is_forked = False
        self.runner: int | None = None  # the thread that is at the runs
        # Guards: what `Bursts` names there, and the states of the futures. Re-entrant, because a signal
        # handler may come in while it is held. Nothing is computed under it.
        self.lock = threading.RLock()

    def check_fork(self, future: ItemFuture[Any]) -> None:
        """Fail `future` if it is a parent process's; raises nothing."""
        check_process()
        if self.is_forked:
            fail_forked(future)

    def check_reentry(self, future: ItemFuture[Any]) -> None:  # noqa: ARG002
        """Raise ReentrantCallError if this thread would wait for a run that waits for it."""
        if self.runner == threading.get_ident():
            raise ReentrantCallError("result() of an unsettled future, called by the debounced function or a callback")

    def cancel(self, future: ItemFuture[Any]) -> bool:  # noqa: ARG002
        """Refuse: other callers may wait for the same run."""
        return False

    def tell_later(self, future: ItemFuture[Any]) -> None:
        """Do nothing: there was nothing that `cancel` could have done."""

    def begin_wait(self, future: ItemFuture[Any]) -> None:
        """Know nobody: a run doesn't begin the sooner for who waits."""

    def end_wait(self, future: ItemFuture[Any]) -> None:
        """Know nobody."""

    def callback_failed(self, error: BaseException) -> None:
        """Report what a done-callback raised."""
        self.reporter.report("a done-callback raised", error)


class Bursts:
    """The bursts of calls of one debounce, in one process."""

    def __init__(self, function: Callable[..., Any], rule: Rule, clock: Clock, *, keeps_last: bool) -> None:
        """Have had no call yet; `keeps_last`: keep the last run's Future when the window is closed, too."""
        self.function = function
        self.rule = rule
        self.keeps_last = keeps_last
        self.clock = clock
        self.timer = timer_of(clock)
        self.name: str = getattr(function, "__qualname__", type(function).__qualname__)
        self.reporter = Reporter(self.name, clock)
        self.owner = _Owner(self.reporter)
        # The owner's lock guards everything below. state is read without it as well: it is immutable, and
        # a swap finds out whether it was stale.
        self.state = State()
        self.runs: deque[Run] = deque()  # come to their edge, not begun
        self.untold: deque[ItemFuture[Any]] = deque()  # cancelled by a thread that Ctrl-C ended there
        self.is_working = False  # a worker is at the runs, or about to be
        self.succeeded = 0
        self.failed = 0

    def renewed(self) -> Bursts:
        """Return the bursts of this process, a forked child, and leave these to the parent's futures."""
        self.owner.is_forked = True
        self.owner.lock = threading.RLock()
        return Bursts(self.function, self.rule, self.clock, keeps_last=self.keeps_last)

    @property
    def is_nested(self) -> bool:
        """Whether this thread was interrupted while it held the lock."""
        # Private, but what `threading.Condition` relies on, and there is no other way to ask.
        return self.owner.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    # Steps

    def take(self, plan: Callable[[State, float], Step | None], taken: list[Step] | None = None) -> Step | None:
        """Take the step that `plan` makes of the state and the time; None: there is none to take.

        The step is put into `taken` as it is taken: so whoever gave the list knows, even if Ctrl-C comes.
        """
        steps: list[Step] = [] if taken is None else taken
        try:
            while True:
                before = self.state
                step = plan(before, self.clock.monotonic())
                if step is None:
                    return None
                self._swap(before, step, steps)
                if steps:
                    if step.run is not None or before.window.due != step.after.window.due:
                        self.timer.attend(self)
                    return step
        except BaseException:
            self.timer.attend(self)  # Ctrl-C: what was decided is done all the same
            raise

    def _swap(self, before: State, step: Step, taken: list[Step]) -> None:
        """Take `step` if the state is still `before`, and put it into `taken`."""
        after, run = step.after, step.run
        with self.owner.lock:
            # No call but the last stands between the look and the end: no signal comes between them.
            if self.state is before:
                self.state = after
                taken += (step,)
                if run is not None:
                    self.runs.append(run)

    def arrive(self, args: tuple[Any, ...], kwargs: dict[str, Any], state: State, now: float) -> Step:
        """Plan a call."""
        window, runs_now = arrive(self.rule, state.window, now)
        waiting, calls = state.next, state.calls + 1
        if not runs_now and not self.rule.trailing:
            since = state.since + 1
            after = state._replace(window=window, calls=calls, absorbed=state.absorbed + 1, since=since)
            return Step(after, answer=state.last() or self._cancelled(), absorbed=since)
        if waiting is None:
            since = 0
            run = Run(ItemFuture(None, self.owner), args, kwargs)
            after = state._replace(window=window, next=run, calls=calls)
        else:
            since = state.since + 1
            run = Run(waiting.future, args, kwargs)
            after = state._replace(window=window, next=run, calls=calls, absorbed=state.absorbed + 1, since=since)
        if runs_now:
            return self._begin(after, run)._replace(absorbed=since)
        return Step(after, answer=run.future, absorbed=since)

    def ring(self, state: State, now: float) -> Step | None:
        """Plan what the timer has to do."""
        due = state.window.due
        if due is None or due > now:
            return None
        window = ring(self.rule, state.window, now)
        if window.due is not None:
            return Step(state._replace(window=window))
        return self._close(state, now)

    def flush(self, state: State, now: float) -> Step | None:
        """Plan the trailing edge, here and now; None: the window is closed."""
        return None if state.window.due is None else self._close(state, now)

    def cancel(self, state: State, now: float) -> Step:  # noqa: ARG002 - every plan gets the time
        """Plan to forget the window and the run to come."""
        after = self._let_go(state._replace(window=CLOSED))
        if state.next is None:
            return Step(after)
        after = after._replace(next=None, cancelled=state.cancelled + 1, since=0)
        return Step(after, cancelled=state.next.future)

    def _close(self, state: State, now: float) -> Step:
        """Close the window, and begin the run to come."""
        if state.next is None:
            return Step(self._let_go(state._replace(window=state.window._replace(due=None))))
        window = state.window._replace(due=None, last_run=now)
        return self._begin(state._replace(window=window), state.next)

    def _begin(self, state: State, run: Run) -> Step:
        future = run.future
        after = state._replace(next=None, last=weakref.ref(future), kept=future, runs=state.runs + 1, since=0)
        return Step(self._let_go(after), run=run, answer=future)

    def _let_go(self, state: State) -> State:
        """Keep the last run's Future no longer than the window is open, if it must not be kept."""
        return state if self.keeps_last or state.window.due is not None else state._replace(kept=None)

    def _cancelled(self) -> ItemFuture[Any]:
        """Return the Future of a call that no run follows."""
        future: ItemFuture[Any] = ItemFuture(None, self.owner)
        future._state = cancelled_state(future)
        return future

    # Runs

    def look(self) -> float | None:
        """See to what is due, on the timer's thread; return when to look again."""
        self.take(self.ring)
        with self.owner.lock:
            is_idle = not self.is_working and bool(self.runs or self.untold)
            if is_idle:
                self.is_working = True
        if is_idle:
            self.timer.run(self.work)
        return self.state.window.due

    def work(self) -> None:
        """Do what there is to do, one after another, until nothing is left; on a worker."""
        while True:
            with self.owner.lock:
                self.owner.runner = threading.get_ident()
                cancelled = self.untold.popleft() if self.untold else None
                run = self.runs.popleft() if self.runs and cancelled is None else None
                if run is None and cancelled is None:
                    self.owner.runner = None
                    self.is_working = False
                    break
            if cancelled is not None:
                self.tell_cancelled(cancelled)
            if run is not None:
                self._run(run)
                check_process()
                if self.owner.is_forked:
                    break  # the function has forked and come back in the child: what is left is the parent's
            del run, cancelled  # between two runs nothing of the first is kept alive
        del self  # see `_call`

    def _run(self, run: Run) -> None:
        """Call the function, and settle the future."""
        claim_locked(run.future)  # nobody else moves it: `cancel` takes back only what isn't a run yet
        outcome = _call(self.function, run)
        failure = outcome if type(outcome) is Failure else None
        with self.owner.lock:
            self.succeeded += failure is None
            self.failed += failure is not None
            settle_locked(run.future, outcome)
            is_heard = is_watched(run.future)
        announce((run.future,))
        if failure is not None:
            if not is_heard:
                self.reporter.report("a debounced run failed and nobody listens", failure.error)
            free_frames(failure.error)
        del self, run, outcome, failure  # see `_call`

    def tell_cancelled(self, future: ItemFuture[Any]) -> None:
        """End a future whose run was taken back; may be repeated."""
        with self.owner.lock:
            if is_pending(future):
                future._state = cancelled_state(future)
        announce((future,))


def _call(function: Callable[..., Any], run: Run) -> Any:  # noqa: ANN401 - the result, or a Failure
    """Return what the function returns, or a Failure with what it raises.

    An error that somebody keeps refers to the function's frame, and that to the frames below it, ours: so
    they let go of what they know before they end.
    """
    try:
        return function(*run.args, **run.kwargs)
    except BaseException as error:  # noqa: BLE001 - SystemExit in a function must not end the worker
        return Failure(trim(error), shared=False)
    finally:
        del function, run
