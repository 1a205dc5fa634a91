"""`Debounce`: many calls in quick succession become one run of a function."""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import weakref
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from batcher._bursts import Bursts
from batcher._clock import current_clock, monotonic
from batcher._edges import Rule
from batcher._future import is_ctrl_c
from batcher._lifecycle import on_exit
from batcher._options import check_callable, check_flag, check_seconds, require_seconds
from batcher._process import alive, check_process, on_fork
from batcher._timer import close_all, restart_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._bursts import Step

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class DebounceStatus:
    """A consistent snapshot of a debounce: `calls == runs + absorbed + cancelled + waiting`.

    Attributes:
        pending: Whether the window is open; see `Debounce.pending`.
        waiting: Calls whose run is to come: 1 or 0.
        running: Whether the function runs.
        queued: Runs that have come to their edge and wait for their turn.
        calls: All calls so far.
        runs: Calls whose run has come to its edge.
        succeeded: Runs that returned.
        failed: Runs that raised.
        absorbed: Calls whose place a later one took, or that no run was to follow.
        cancelled: Waiting calls that `cancel` took back.
    """

    pending: bool
    waiting: int
    running: bool
    queued: int
    calls: int
    runs: int
    succeeded: int
    failed: int
    absorbed: int
    cancelled: int


class Debounce(Generic[P, R]):
    """Runs a function when its calls come to rest, once for all of them, with the arguments of the last.

    The semantics are those of lodash's `debounce` (https://lodash.com/docs#debounce). A call opens a
    window, which closes `wait` seconds after the last call in it. With `trailing` the function runs when
    the window closes, with `leading` at the call that opens it. With both, it runs at the close only if
    there was a second call. `max_wait` bounds how long calls without a pause can put off a run.

    Each call returns at once, with the Future of the run that it ends up in; calls that share a run share
    the Future. It ends with the run's result, with its error, or cancelled: by `cancel` of the debounce.
    Its own `cancel()` returns False, since it may be others' as well. Without `trailing`, a call that starts
    no run gets the Future of the last run, as lodash returns the last result; where there was none (neither
    `leading` nor `trailing`: nothing runs) one that is cancelled already.

    Runs go to daemon threads, which have an empty context. Those of one debounce never overlap: a run that
    comes to its edge while another goes on waits for its turn. At normal interpreter exit a window that
    is open is flushed, and its run waited for, five seconds at most for all debounces; after that a call
    raises BatcherClosedError. A forked child starts with a closed window, and the futures that it inherits
    fail with ForkedError. Dropping a debounce takes nothing back: a run to come comes.

    Thread safety: everything may be called from any thread, from signal handlers and from destructors.
    The function, `on_debounce` and callbacks of futures may call the debounce; waiting there, on its own
    thread, for a future of it that isn't done raises ReentrantCallError.

    Example:
        >>> def save(text):
        ...     return f"saved {text}"
        >>> saving = Debounce(save, 0.01)
        >>> drafts = [saving("d"), saving("dr"), saving("draft")]
        >>> [draft.result() for draft in drafts]
        ['saved draft', 'saved draft', 'saved draft']
    """

    # Whether the Future of the last run is kept when the window is closed. See `_debounced`.
    _keeps_last = True

    def __init__(
        self,
        fn: Callable[P, R],
        wait: float,
        *,
        max_wait: float | None = None,
        leading: bool = False,
        trailing: bool = True,
        on_debounce: Callable[[int], object] | None = None,
    ) -> None:
        """Make a debounce; no thread is started before the first call.

        Args:
            fn: Called on a worker thread.
            wait: Seconds without a call after which the window closes.
            max_wait: The most seconds from the call that opens a window, or from the last run in it, to
                the next run; no less than `wait`, to which it is raised. None: no limit.
            leading: Whether `fn` runs at the call that opens a window.
            trailing: Whether `fn` runs when the window closes.
            on_debounce: Called as `on_debounce(absorbed)` when a call is absorbed: when a later call takes
                its place, or when no run follows it. `absorbed` is how many were since the last run. It
                runs on the thread of the later call, before that returns; what it raises is logged.

        Raises:
            TypeError: An option has the wrong type, or `fn` is a coroutine or generator function, which
                does nothing when it is called.
            ValueError: An option is out of range.
        """
        check_callable("fn", fn, optional=False)
        if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"fn must be a function that does its work when it is called, got {fn!r}")
        check_flag("leading", leading)
        check_flag("trailing", trailing)
        check_callable("on_debounce", on_debounce)
        seconds = require_seconds("wait", wait)
        limit = check_seconds("max_wait", max_wait)
        rule = Rule(seconds, None if limit is None else max(limit, seconds), leading, trailing)
        self._on_debounce = on_debounce
        self._set_up(Bursts(fn, rule, current_clock(), keeps_last=self._keeps_last))

    def _set_up(self, bursts: Bursts) -> None:
        self._bursts = bursts
        key = id(bursts)
        _registry[key] = (weakref.ref(bursts, lambda _: _registry.pop(key, None)), weakref.ref(self))

    def restart(self) -> None:
        """Start anew: this is a forked child, and a run to come is the parent's."""
        self._set_up(self._bursts.renewed())

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call the function, sooner or later, and return the Future of its run; never blocks.

        Returns:
            A future that raises the function's own exception, or CancelledError.

        Raises:
            BatcherClosedError: The interpreter is shutting down, and nothing would run the call.
        """
        if not alive[0]:
            check_process()
        bursts = self._bursts
        bursts.timer.ensure()
        step = bursts.take(functools.partial(bursts.arrive, args, kwargs))
        assert step is not None  # noqa: S101 - a call is always taken
        assert step.answer is not None  # noqa: S101
        if step.absorbed and self._on_debounce is not None:
            self._tell(self._on_debounce, step.absorbed)
        return step.answer

    def _tell(self, hook: Callable[[int], object], absorbed: int) -> None:
        try:
            hook(absorbed)
        except BaseException as error:
            self._bursts.reporter.report("on_debounce raised", error)
            if is_ctrl_c(error):
                raise

    def flush(self) -> Future[R | None]:
        """Close the window: run now what would have run then. Never blocks, never raises the run's error.

        Returns:
            The Future of that run. If nothing was to run, that of the last run; if there was none, one
            that is done with None.
        """
        if not alive[0]:
            check_process()
        bursts = self._bursts
        step = bursts.take(bursts.flush)
        run: Future[R | None] | None = bursts.state.last() if step is None or step.answer is None else step.answer
        if run is not None:
            return run
        nothing: Future[R | None] = Future()
        nothing.set_result(None)
        return nothing

    def cancel(self) -> bool:
        """Close the window without a run; the futures of its calls are cancelled. The next call opens a new one.

        A run that has come to its edge is not taken back.

        Returns:
            Whether there was a run to come.
        """
        if not alive[0]:
            check_process()
        bursts = self._bursts
        taken: list[Step] = []
        try:
            bursts.take(bursts.cancel, taken)
            future = taken[0].cancelled
            if future is not None:
                bursts.tell_cancelled(future)
        except BaseException:
            # Ctrl-C: a worker tells those who wait for the future.
            bursts.untold.extend(step.cancelled for step in taken if step.cancelled is not None)
            bursts.timer.attend(bursts)
            raise
        return future is not None

    @property
    def pending(self) -> bool:
        """Whether the window is open.

        As lodash's `pending()`: with `leading` that is so after a leading run too, although a run follows
        only if there is another call; `status().waiting` tells.
        """
        if not alive[0]:
            check_process()
        return self._bursts.state.window.due is not None

    def status(self) -> DebounceStatus:
        """Return a frozen snapshot."""
        if not alive[0]:
            check_process()
        bursts = self._bursts
        with bursts.owner.lock:
            state, queued, succeeded, failed = bursts.state, len(bursts.runs), bursts.succeeded, bursts.failed
        return DebounceStatus(
            pending=state.window.due is not None,
            waiting=int(state.next is not None),
            running=state.runs > queued + succeeded + failed,
            queued=queued,
            calls=state.calls,
            runs=state.runs,
            succeeded=succeeded,
            failed=failed,
            absorbed=state.absorbed,
            cancelled=state.cancelled,
        )

    def __repr__(self) -> str:
        """Show the state and the counts, never arguments."""
        status = self.status()
        state = "pending" if status.pending else "idle"
        return f"<Debounce {self._bursts.name!r} {state} calls={status.calls} runs={status.runs}>"


# What all debounces together may take at exit, as one batcher by default; and what is left of it.
_EXIT_SECONDS = 5.0
_exit_budget = [_EXIT_SECONDS]

# All bursts that are alive, and whose they are. Changed by single dict operations, which are atomic.
_registry: dict[int, tuple[weakref.ref[Bursts], weakref.ref[Debounce[..., Any]]]] = {}


def _restart_all() -> None:
    """In a forked child: have every debounce start anew, and the inherited futures fail."""
    _exit_budget[0] = _EXIT_SECONDS
    for key, (ref, debounce_ref) in list(_registry.items()):
        bursts, debounce = ref(), debounce_ref()
        _registry.pop(key, None)
        if debounce is not None:
            debounce.restart()
        elif bursts is not None:
            bursts.renewed()
    restart_all()  # last: a debounce that was dropped lives by its timer alone


class _Delivery:
    """What the debounces do at exit."""

    def is_nested(self) -> bool:
        """Say whether this thread was interrupted while it held a lock that a run needs."""
        return any(bursts.is_nested for bursts in _all_bursts())

    def begin(self, *, is_last: bool) -> Callable[[float], None]:
        """Flush every window, and return what waits for the runs. If `is_last`, no call is taken any more."""
        if is_last:
            close_all()
        runs = []
        for bursts in _all_bursts():
            bursts.take(bursts.flush)
            last = bursts.state.last()
            if last is not None:
                runs.append(last)

        def wait(began: float) -> None:
            seconds = began + _exit_budget[0] - monotonic()
            concurrent.futures.wait(runs, timeout=max(seconds, 0.0))
            _exit_budget[0] -= monotonic() - began

        return wait


def _all_bursts() -> list[Bursts]:
    return [bursts for ref, _ in list(_registry.values()) if (bursts := ref()) is not None]


on_exit(_Delivery())
on_fork(_restart_all)
