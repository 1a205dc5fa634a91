"""`CircuitBreaker`: stop calling what keeps failing, and try again after a while.

The vocabulary is pybreaker's. Two things are done otherwise than in most breakers: no lock is held while a
call runs, and half-open lets a counted number of probes through, not everybody.

All that a breaker knows is one immutable `Circuit`. A step computes the next one, then swaps it in if
nobody was faster, else starts again. So a signal handler may call a breaker on top of itself, and a fork
finds no half-made state. While the circuit is closed and calls succeed, no lock is touched at all.
"""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from batcher._circuit import Circuit, CircuitState, Permit, Rules
from batcher._clock import current_clock
from batcher._heirs import restart_in_child
from batcher._options import check_callable, check_count, require_seconds
from batcher._process import alive, check_process
from batcher._report import Reporter
from batcher.errors import CircuitOpenError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from batcher._circuit import CircuitBreakerStatus

P = ParamSpec("P")
R = TypeVar("R")


class Listener(Protocol):
    """Somebody who waits until a breaker may let a call through."""

    def ring(self) -> object:
        """Ask the breaker again, soon; called from any thread, a signal handler and a destructor too."""
        ...


class CircuitBreaker:
    """Refuses calls at once while what they need keeps failing.

    - Closed: every call passes. `failure_threshold` failures in a row open the circuit.
    - Open: every call is refused with `CircuitOpenError`, for `reset_timeout` seconds.
    - Half-open: exactly `half_open_calls` probes pass, all others are refused. When all of them have
      succeeded, the circuit closes; when one fails, it opens again. A probe that isn't reported within
      `reset_timeout` has failed.

    An Exception is a failure, unless `ignore` names its class: then whatever was called is up and gave
    its answer, which counts as a success. What isn't an Exception (Ctrl-C, SystemExit) is neither, and a
    probe that ends so gives its place back. A result that comes after the circuit changed its state
    counts for nothing.

    Use `call`, `with breaker.calling():`, or the breaker itself as a decorator; or `allow` and the
    `record_` methods where call and result are apart. The breaker isn't re-entrant: a function that calls
    itself through its own breaker finds its probe's place taken, by itself.

    Thread safety: every method may be called from any thread, and by signal handlers and destructors. No
    lock is held while a function or hook runs. A forked child starts with the parent's circuit, and calls
    that were under way at the fork count for nothing there.

    Example:
        >>> breaker = CircuitBreaker(failure_threshold=2, reset_timeout=30.0)
        >>> @breaker
        ... def load(user_id: int) -> str:
        ...     raise ConnectionError("no route")
        >>> for user_id in range(3):
        ...     try:
        ...         load(user_id)
        ...     except Exception as error:
        ...         print(type(error).__name__)
        ConnectionError
        ConnectionError
        CircuitOpenError
    """

    def __init__(
        self,
        *,
        failure_threshold: int = 5,
        reset_timeout: float = 30.0,
        half_open_calls: int = 1,
        ignore: type[Exception] | Iterable[type[Exception]] = (),
        on_change: Callable[[str, str], object] | None = None,
    ) -> None:
        """Make a breaker whose circuit is closed.

        Args:
            failure_threshold: Failures in a row that open the circuit.
            reset_timeout: Seconds that the circuit stays open, and that a probe may take to report.
            half_open_calls: Probes that half-open lets through.
            ignore: Exception classes, one or several, that count as success.
            on_change: Called as `on_change(old, new)` after each change of state, by the thread that
                found it; one call at a time, in order. Time alone changes nothing before somebody asks.
                What it raises is logged.

        Raises:
            TypeError: An option has the wrong type.
            ValueError: An option is out of range.
        """
        check_callable("on_change", on_change)
        self._rules = Rules(
            check_count("failure_threshold", failure_threshold),
            require_seconds("reset_timeout", reset_timeout, positive=True),
            check_count("half_open_calls", half_open_calls),
        )
        self._ignore = _check_ignore(ignore)
        self._on_change = _nobody if on_change is None else on_change
        self._clock = current_clock()
        self._circuit = Circuit(object())
        self._listeners: tuple[weakref.ref[Listener], ...] = ()  # swapped as a whole, under the lock
        self._set_up()
        restart_in_child(self)

    def _set_up(self) -> None:
        """Make what a fork may have left in the hands of a thread that isn't here."""
        # Guards: the swap of _circuit, _teller, and a permit's is_reported together with it. Re-entrant, because
        # a signal handler may come in while it is held. _circuit is read without it: it is immutable, and a swap
        # finds out whether it was stale.
        self._lock = threading.RLock()
        self._teller: object = None  # the mark of the call that is telling on_change, if any
        self._reporter = Reporter("CircuitBreaker", self._clock)

    def restart(self) -> None:
        """Go on in this process, a forked child: what is under way is the parent's."""
        self._circuit = self._circuit._replace(era=object(), probes=(), untold=())
        self._set_up()

    # Calls

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `function(*args, **kwargs)`, and count how it ended.

        Raises:
            CircuitOpenError: The call was refused; `retry_after` says when to ask again.
            BaseException: Whatever the function raises.
        """
        with _Calling(self, self._ignore):
            return function(*args, **kwargs)

    def calling(self) -> _Calling:
        """Return a context manager that makes one call of its block; it raises as `call` does."""
        return _Calling(self, self._ignore)

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Decorate `function`: each call of it goes through `call`.

        On a method, one breaker serves all instances. Above it may stand `@staticmethod` or
        `@classmethod`, not below.

        Raises:
            TypeError: `function` is no plain function: a call of a coroutine or generator function ends
                before it can fail.
        """
        if not callable(function) or isinstance(function, staticmethod) or _runs_later(function):
            raise TypeError(f"a circuit breaker decorates plain functions, got {function!r}")

        @functools.wraps(function)
        def protected(*args: P.args, **kwargs: P.kwargs) -> R:
            with _Calling(self, self._ignore):
                return function(*args, **kwargs)

        return protected

    # Permits

    def allow(self) -> Permit | None:
        """Return a permit for one call, or None if it must not be made.

        Report how it went by `record_success` or `record_failure`; `release` gives it back unused.
        """
        permit = self.admit()
        return permit if isinstance(permit, Permit) else None

    def admit(self) -> Permit | float:
        """Return a permit for one call, or the seconds after which it makes sense to ask again."""
        if not alive[0]:
            check_process()
        before = self._circuit
        if before.state is CircuitState.CLOSED:
            return Permit(before.era)
        answer = self._admit_slowly()
        self._tell()
        return answer

    def _admit_slowly(self) -> Permit | float:
        while True:
            before = self._circuit
            now = self._clock.monotonic()
            after = self._rules.at(before, now)
            answer: Permit | float = self._rules.wait(after, now)
            if not answer:
                after, answer = self._rules.admit(after, now)
            if after is before or self._swap(before, after):
                return answer

    def record_success(self, permit: Permit) -> None:
        """Report that the call of `permit` succeeded."""
        _check_permit(permit)
        circuit = self._circuit
        if circuit.state is CircuitState.CLOSED and not circuit.failures:
            permit.is_reported = True  # whatever era it is of: there is nothing to change
        else:
            self._report(permit, self._rules.succeeded)

    def record_failure(self, permit: Permit) -> None:
        """Report that the call of `permit` failed."""
        _check_permit(permit)
        self._report(permit, self._rules.failed)

    def release(self, permit: Permit) -> None:
        """Give `permit` back: the call was not made, or came to no result. A probe's place is free again."""
        _check_permit(permit)
        self._report(permit, self._rules.released)

    def listen(self, listener: Listener) -> None:
        """Ring `listener` whenever a probe has ended, or was given back: who was refused may ask again.

        The breaker keeps nobody alive who listens.
        """
        with self._lock:
            living = tuple(ref for ref in self._listeners if ref() is not None)
            self._listeners = (*living, weakref.ref(listener))

    def is_failure(self, error: BaseException | None) -> bool | None:
        """Say whether a call that ended with `error`, or with None, has failed; None if it says nothing."""
        if error is None or isinstance(error, self._ignore):
            return False
        return True if isinstance(error, Exception) else None

    def status(self) -> CircuitBreakerStatus:
        """Return a frozen snapshot. Looking changes nothing, and tells `on_change` nothing."""
        if not alive[0]:
            check_process()
        before = self._circuit
        now = self._clock.monotonic()
        return self._rules.status(self._rules.at(before, now), now)

    def __repr__(self) -> str:
        """Show the state and the counts."""
        status = self.status()
        return f"<CircuitBreaker {status.state} failures={status.failures} probes={status.probes}>"

    # Changes

    def _report(self, permit: Permit, judge: Callable[[Circuit, Permit, float], Circuit]) -> None:
        """Let `judge` say what the report makes of the circuit, unless it comes too late."""
        if not alive[0]:
            check_process()
        is_probe = self._circuit.state is not CircuitState.CLOSED
        while not permit.is_reported:
            before = self._circuit
            now = self._clock.monotonic()
            after = self._rules.at(before, now)
            if after.era is permit.era:
                after = judge(after, permit, now)
            self._swap(before, after, permit)
        self._tell()
        for ref in self._listeners if is_probe else ():
            listener = ref()
            if listener is not None:
                listener.ring()

    def _swap(self, before: Circuit, after: Circuit, reported: Permit | None = None) -> bool:
        """Make `after` the circuit if `before` still is; say whether it was."""
        with self._lock:
            # No call stands between the look and the assignments: no signal comes between them.
            if self._circuit is not before:
                return False
            self._circuit = after
            if reported is not None:
                reported.is_reported = True
            return True

    def _tell(self) -> None:
        """Tell on_change what it hasn't heard of, unless another call is at it: that one goes on."""
        mine = object()
        try:
            while self._circuit.untold and self._is_teller(mine):
                self._tell_all()
                self._teller = None  # then look again: a change in between found the place taken
        finally:
            if self._teller is mine:  # Ctrl-C
                self._teller = None

    def _is_teller(self, mine: object) -> bool:
        """Become the one that tells, unless there is one; say who it is."""
        with self._lock:
            if self._teller is None:
                self._teller = mine
            return self._teller is mine

    def _tell_all(self) -> None:
        while (before := self._circuit).untold:
            if self._swap(before, before._replace(untold=before.untold[1:])):
                old, new = before.untold[0]
                try:
                    self._on_change(old.value, new.value)
                except BaseException as error:  # noqa: BLE001 - a hook must not end the call that found the change
                    self._reporter.report("on_change raised", error)


class _Calling:
    """One call through a breaker, as a context manager."""

    __slots__ = ("_breaker", "_ignore", "_permit")

    def __init__(self, breaker: CircuitBreaker, ignore: tuple[type[Exception], ...]) -> None:
        """Call through `breaker`; errors of `ignore` are successes."""
        self._breaker = breaker
        self._ignore = ignore

    def __enter__(self) -> None:
        """Get a permit, or raise CircuitOpenError."""
        permit = self._breaker.admit()
        if not isinstance(permit, Permit):
            raise CircuitOpenError(permit)
        self._permit = permit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Report how the block ended."""
        if error is None or isinstance(error, self._ignore):
            self._breaker.record_success(self._permit)
        elif isinstance(error, Exception):
            self._breaker.record_failure(self._permit)
        else:
            self._breaker.release(self._permit)


def _nobody(_old: str, _new: str) -> None:
    """Listen in place of an on_change that wasn't given."""


def _check_permit(permit: object) -> None:
    """Raise TypeError unless it is a permit: None is easily handed on."""
    if not isinstance(permit, Permit):
        raise TypeError(f"permit must be what allow() returned, got {permit!r}")


def _check_ignore(ignore: Any) -> tuple[type[Exception], ...]:  # noqa: ANN401 - whatever was given
    """Return the exception classes as a tuple."""
    classes = tuple(ignore) if isinstance(ignore, Iterable) else (ignore,)
    if not all(isinstance(each, type) and issubclass(each, Exception) for each in classes):
        raise TypeError(f"ignore must be an Exception class or several, got {ignore!r}")
    return classes


def _runs_later(function: object) -> bool:
    """Say whether a call of it returns before its body has run."""
    return (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or inspect.isgeneratorfunction(function)
    )
