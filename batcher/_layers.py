"""The layers that a run of an `Optimizer` goes through: `Debouncing` over `Batching` over `Throttling`.

A layer knows the one below it and nothing above: so neither the batcher's thread nor a debounce keeps a
dropped optimizer alive. A layer that is off, or not asked for, calls the next one as it is.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from dataclasses import dataclass
from types import BuiltinMethodType, MethodType, MethodWrapperType
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from batcher import _reentry
from batcher._batcher import Batcher
from batcher._debounce import Debounce
from batcher._failure import Failure
from batcher._options import check_callable
from batcher._throttle import Throttle
from batcher.errors import BatcherClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from batcher._metrics import Monitor
    from batcher._reentry import Token

P = ParamSpec("P")
R = TypeVar("R")

OPERATIONS = OPTIMIZED, DEBOUNCED, BATCHED, THROTTLED = (
    "optimized_operation",
    "debounced_operation",
    "batched_operation",
    "throttled_operation",
)
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebouncingStatus:
    """A snapshot of the debounces of an optimizer.

    Attributes:
        functions: Functions that have been debounced and are still alive.
        pending: Functions whose window is open.
        running: Functions that run.
    """

    functions: int
    pending: int
    running: int


class Wishes(NamedTuple):
    """What a run asks for."""

    debounce: bool
    batch: bool
    throttle: bool


class Throttling:
    """The innermost layer: starts functions when the limits allow."""

    def __init__(self, options: dict[str, Any] | None, monitor: Monitor | None) -> None:
        self.throttle = None if options is None else Throttle(**options)
        self._monitor = monitor

    def run(self, fn: Callable[[], R], wishes: Wishes) -> R:
        """Call `fn`, throttled if it is to be."""
        if not wishes.throttle or self.throttle is None:
            return fn()
        return measured(self._monitor, THROTTLED, self.throttle.execute, fn)


class _Returned(NamedTuple):
    """What a function in a batch returned: in a box, because a bare exception would be taken for a failure."""

    value: Any


class _Died(NamedTuple):
    """What ended a function in a batch that is no Exception."""

    error: BaseException


class _Bulk:
    """The handler of the batcher: runs the functions of a batch, each with an ending of its own."""

    def __init__(self, inner: Throttling, token: Token) -> None:
        self._inner = inner
        self._token = token

    def __call__(self, items: list[tuple[Callable[[], Any], Wishes]]) -> list[_Returned | _Died | Exception]:
        here = _reentry.here
        before = here.running
        here.running = (*before, self._token)
        try:
            return [self._ending(fn, wishes) for fn, wishes in items]
        finally:
            here.running = before

    def _ending(self, fn: Callable[[], Any], wishes: Wishes) -> _Returned | _Died | Exception:
        try:
            return _Returned(self._inner.run(fn, wishes))
        except Exception as error:  # noqa: BLE001 - the batcher hands it to its own caller
            return error
        except BaseException as error:  # noqa: BLE001 - SystemExit is its own caller's too, and not the batch's
            return _Died(error)


class Batching:
    """The middle layer: runs functions in batches."""

    def __init__(self, options: dict[str, Any] | None, inner: Throttling, monitor: Monitor | None) -> None:
        self._inner = inner
        self._monitor = monitor
        self._token = _reentry.new_token()
        self.batcher: Batcher[Any, Any] | None = None
        if options is not None:
            # on_error: every function has a caller, who gets its error; without the hook a batch that fails
            # before that caller waits would be logged as one that nobody listens to.
            bulk = _Bulk(inner, self._token)
            self.batcher = Batcher(bulk, on_error=_heard, name=f"optimizer-{next(_numbers)}", **options)

    @property
    def is_inside(self) -> bool:
        """Whether this thread runs a function in a batch."""
        return self._token in _reentry.here.running

    def run(self, fn: Callable[[], R], wishes: Wishes) -> R:
        """Call `fn` on the layer below, in a batch if it is to be."""
        if not wishes.batch or self.batcher is None or self.is_inside:
            return self._inner.run(fn, wishes)
        return measured(self._monitor, BATCHED, self._run_in_batch, self.batcher, fn, wishes)

    def _run_in_batch(self, batcher: Batcher[Any, Any], fn: Callable[[], R], wishes: Wishes) -> R:
        try:
            future = batcher.add((fn, wishes))
        except BatcherClosedError:
            return self._inner.run(fn, wishes)  # it began before the optimizer was closed, and comes late
        try:
            ending: _Returned | _Died = future.result()
        except BaseException:
            future.cancel()  # Ctrl-C: nobody waits for it any more
            raise
        finally:
            del future  # else an error and this frame would keep each other alive
        if isinstance(ending, _Died):
            raise ending.error
        value: R = ending.value
        return value


class Debouncing:
    """The outermost layer: a debounce for each function, as long as the function lives."""

    def __init__(self, options: dict[str, Any] | None, inner: Batching, monitor: Monitor | None) -> None:
        self.options = options
        self._inner = inner
        self._monitor = monitor
        # By id, because callables need not be hashable. Changed by single dict operations only.
        self._debounces: dict[tuple[int, object], tuple[weakref.ref[Any], Debounce[..., Any]]] = {}
        if options is not None:
            Debounce(_heard, **options)  # checks them: the first one that is used may be made much later
            weakref.finalize(self, _close_windows, self._debounces).atexit = False
        self._token = _reentry.new_token()

    @property
    def is_inside(self) -> bool:
        """Whether this thread runs a function that was debounced."""
        return self._token in _reentry.here.running

    def run(self, fn: Callable[[], R], wishes: Wishes) -> R:
        """Call `fn` on the layer below, debounced if it is to be."""
        if not wishes.debounce or self.options is None:
            return self._inner.run(fn, wishes)
        return measured(self._monitor, DEBOUNCED, self._run_debounced, fn, wishes)

    def _run_debounced(self, fn: Callable[[], R], wishes: Wishes) -> R:
        # All goes through the debounce as arguments: so it is kept alive by calls that wait, and not by a
        # window that is open.
        future = self._debounce_of(fn)(self._inner, self._token, fn, wishes)
        error = future.exception()
        if error is None:
            result: R = future.result()
            return result
        # Callers share the future, and the debounce keeps it: each one raises an error of its own.
        try:
            raise _copied(error)
        finally:
            del error, future  # else the error and this frame would keep each other alive

    def _debounce_of(self, fn: Callable[[], object]) -> Debounce[..., Any]:
        check_callable("fn", fn, optional=False)
        home, part = _anatomy(fn)
        key = (id(home), part)
        found = self._debounces.get(key)
        if found is None:
            try:
                ref = weakref.ref(home, functools.partial(_forget, weakref.ref(self), key))
            except TypeError:
                raise TypeError(
                    f"{type(home).__qualname__} allows no weak references, which debounce=True needs; "
                    f"a function that calls it would do, got {fn!r}"
                ) from None
            found = self._debounces.setdefault(key, (ref, self._make(fn)))
        return found[1]

    def forget(self, key: tuple[int, object], ref: weakref.ref[Any]) -> None:
        """Let the debounce of a collected function go, unless the id has a new owner."""
        found = self._debounces.get(key)
        if found is not None and found[0] is ref:
            del self._debounces[key]
            found[1].cancel()  # nobody waits for a run, but the window may still be open

    def _make(self, fn: object) -> Debounce[..., Any]:
        assert self.options is not None  # noqa: S101 - seen by `run`
        named = functools.partial(_run_inside)
        # The log calls a debounce by its function's name; `update_wrapper` would keep the function alive.
        named.__qualname__ = getattr(fn, "__qualname__", type(fn).__name__)  # type: ignore[attr-defined]
        return Debounce(named, **self.options)

    def _all(self) -> list[Debounce[..., Any]]:
        return [debounce for _, debounce in list(self._debounces.values())]

    def status(self) -> DebouncingStatus | None:
        """Return a snapshot, None if this layer is off."""
        if self.options is None:
            return None
        seen = [debounce.status() for debounce in self._all()]
        return DebouncingStatus(
            functions=len(seen),
            pending=sum(each.pending for each in seen),
            running=sum(each.running for each in seen),
        )

    def flush(self) -> list[Future[Any]]:
        """Have all that waits run now; return the futures of all runs that haven't ended."""
        runs = [debounce.flush() for debounce in self._all()]
        return [run for run in runs if run is not None and not run.done()]

    def let_go(self) -> None:
        """Drop the debounces that have nothing more to do: they keep a thread."""
        for key, (_, debounce) in list(self._debounces.items()):
            run = debounce.flush()
            if run is None or run.done():
                self._debounces.pop(key, None)


def _run_inside(inner: Batching, token: Token, fn: Callable[[], R], wishes: Wishes) -> R:
    here = _reentry.here
    before = here.running
    here.running = (*before, token)
    try:
        return inner.run(fn, wishes)
    finally:
        here.running = before


def _copied(error: BaseException) -> BaseException:
    """Return a copy of the error; itself, if it can't be copied."""
    own = Failure(error, shared=True).own_copy()
    return error if own.__cause__ is error else own.with_traceback(error.__traceback__)


def _anatomy(fn: Any) -> tuple[object, object]:  # noqa: ANN401 - any callable
    """Return what a callable lives as long as, and which part of that it is.

    A bound method is made anew each time it is looked up: it lives as long as its object.
    """
    if isinstance(fn, MethodType):
        return fn.__self__, id(fn.__func__)
    if isinstance(fn, (BuiltinMethodType, MethodWrapperType)):
        return fn.__self__, fn.__name__
    return fn, None


def _forget(layer: weakref.ref[Debouncing], key: tuple[int, object], ref: weakref.ref[Any]) -> None:
    """Let the debounce of a collected function go."""
    debouncing = layer()
    if debouncing is not None:
        debouncing.forget(key, ref)


def _close_windows(debounces: Mapping[Any, tuple[object, Debounce[..., Any]]]) -> None:
    """Close what a dropped optimizer leaves open: nobody waits for a run, but an open window keeps a thread."""
    for _, debounce in debounces.values():
        debounce.cancel()


def _heard(*_: object) -> None:
    """Do nothing."""


def measured(monitor: Monitor | None, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call the function, measured if there is a monitor."""
    if monitor is None:
        return function(*args, **kwargs)
    return monitor.measured(name, function, *args, **kwargs)
