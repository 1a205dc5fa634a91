"""`batched`: a bulk function becomes one for single items."""

from __future__ import annotations

import functools
import inspect
import weakref
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypedDict, TypeVar, overload

from batcher._batcher import Batcher
from batcher._line import nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping, Sequence
    from concurrent.futures import Executor, Future
    from contextlib import AbstractContextManager
    from typing import Literal, Self, Unpack

    from batcher._breaker import CircuitBreaker
    from batcher._retry import RetryPolicy
    from batcher._status import BatchRecord
    from batcher._throttle import Throttle

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
if TYPE_CHECKING:
    # What a bulk function returns that returns something.
    Answer = Sequence[R | Exception] | Mapping[Any, R | Exception]


class BatcherOptions(TypedDict, total=False):
    """The options of `Batcher`, as `batched` takes them."""

    max_batch_size: int
    max_delay: float | None
    adaptive: bool
    max_batch_weight: float | None
    weigh: Callable[[Any], float] | None
    batch_key: Callable[[Any], Hashable] | None
    dedup_key: Callable[[Any], Hashable] | Literal[True] | None
    cache: MutableMapping[Any, Any] | None
    max_pending: int
    max_pending_weight: float | None
    overflow: str
    max_concurrent: int
    executor: Executor | None
    handler_timeout: float | None
    retry: RetryPolicy | int | None
    split_failed: bool
    circuit_breaker: CircuitBreaker | None
    throttle: Throttle | None
    around_batch: Callable[[], AbstractContextManager[object]] | None
    on_error: Callable[[BaseException, list[Any]], object] | None
    on_batch: Callable[[BatchRecord], object] | None
    on_drop: Callable[[Any, BaseException], object] | None
    exit_timeout: float
    name: str | None


class Batched(Generic[T, R]):
    """A bulk function, callable with single items.

    Thread safety: may be called from any thread; that is what it is for.

    Attributes:
        bulk: The plain function, which takes a list.
    """

    def __init__(self, bulk: Callable[[list[T]], Any], make: Callable[[], Batcher[T, R]]) -> None:
        """Wrap `bulk`; `make` returns the batcher, and is called on first use."""
        self.bulk: Callable[[list[T]], Any] = bulk
        self._make = make
        functools.update_wrapper(self, bulk)

    @property
    def batcher(self) -> Batcher[T, R]:
        """The batcher behind this function; made on first use, not at import."""
        return self._make()

    def __call__(self, item: T) -> R:
        """Add `item` and return its result; blocks until its batch is done, and raises its error."""
        return self._make().add(item).result()

    def submit(self, item: T) -> Future[R]:
        """Add `item` and return its Future at once; as `Batcher.add`."""
        return self._make().add(item)

    def map(self, items: Iterable[T], *, timeout: float | None = None) -> Iterator[R]:
        """Yield the results of `items` in order; as `Batcher.map`."""
        return self._keep(self._make().map(items, timeout=timeout))

    def _keep(self, results: Iterator[R]) -> Iterator[R]:
        """Pass the results on; the frame keeps this, and so a method's instance, until the last one."""
        yield from results


class _Once(Generic[T, R]):
    """Makes one batcher, when it is first asked for."""

    def __init__(self, bulk: Callable[[list[T]], object], options: BatcherOptions) -> None:
        self._bulk = bulk
        self._options = options

    def __call__(self) -> Batcher[T, R]:
        made: Any = self.__dict__.get("made")
        if made is None:
            # Two threads may both make one; the dict keeps the first, and the other was never started.
            # (A lock here might be held by a thread that a forked child doesn't have.)
            made = self.__dict__.setdefault("made", _make(self._bulk, self._options))
        return made  # type: ignore[no-any-return]


class BatchedMethod(Generic[S, T, R]):
    """A bulk method, callable with single items: `obj.method` is a `Batched` of its own for each object.

    There is one batcher for each instance (for each class, of a class method). It doesn't keep the
    instance alive; items that wait or run do. When the instance is collected, its batcher's thread ends.
    The instances must allow weak references: a class with `__slots__` needs "__weakref__" among them.

    Thread safety: as `Batched`.
    """

    def __init__(self, function: Callable[[Any, list[T]], object], options: BatcherOptions, *, of_class: bool) -> None:
        """Wrap a method, or what a class method wraps if `of_class`."""
        self._function = function
        self._options = options
        self._of_class = of_class
        # By id, because instances need not be hashable. Changed by single dict operations only.
        self._batchers: dict[int, tuple[weakref.ref[Any], Batcher[T, R]]] = {}
        functools.update_wrapper(self, self._function)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, instance: S, owner: type[Any] | None = None) -> Batched[T, R]: ...
    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:  # the overloads have the types
        """Return the instance's (or class's) own `Batched`."""
        home = owner if self._of_class else instance
        if home is None:
            return self
        bulk = functools.partial(self._function, home)
        functools.update_wrapper(bulk, self._function)
        return Batched(bulk, functools.partial(self._batcher_of, home))

    def __call__(self, *args: object) -> object:
        """Refuse: without an instance there is no batcher.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"{self._function.__qualname__} is batched for each instance and was called without one, with {len(args)} "
            "arguments. Above a classmethod or staticmethod, @batched must be the outermost decorator"
        )

    def _batcher_of(self, home: object) -> Batcher[T, R]:
        key = id(home)
        found = self._batchers.get(key)
        if found is None:
            try:
                ref = weakref.ref(home, functools.partial(_forget, self._batchers, key))
            except TypeError:
                raise TypeError(
                    f"{type(home).__qualname__} allows no weak references, which @batched needs: "
                    'add "__weakref__" to its __slots__'
                ) from None
            function = self._function

            def handler(items: list[T]) -> object:
                return function(ref(), items)

            functools.update_wrapper(handler, function)
            batcher: Batcher[T, R] = _make(handler, self._options, ref)
            found = self._batchers.setdefault(key, (ref, batcher))
        return found[1]


def _forget(batchers: dict[int, Any], key: int, ref: weakref.ref[Any]) -> None:
    """Let the batcher of a collected instance go, unless the id has a new owner."""
    found = batchers.get(key)
    if found is not None and found[0] is ref:
        del batchers[key]


def _make(
    bulk: Callable[[list[Any]], Any], options: BatcherOptions, instance: Callable[[], object] = nothing
) -> Batcher[Any, Any]:
    named: BatcherOptions = {"name": getattr(bulk, "__qualname__", None)}
    named.update(options)
    batcher = Batcher(bulk, **named)
    batcher.belong_to(instance)
    return batcher


class _Decorator(Protocol):
    """What `batched(...)` returns; the overloads are those of `batched`."""

    @overload
    def __call__(self, function: Callable[[list[T]], Answer[R]], /) -> Batched[T, R]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], None], /) -> Batched[T, None]: ...
    @overload
    def __call__(self, function: Callable[[type[S], list[T]], Answer[R]], /) -> Batched[T, R]: ...
    @overload
    def __call__(self, function: Callable[[type[S], list[T]], None], /) -> Batched[T, None]: ...
    @overload
    def __call__(self, function: Callable[[S, list[T]], Answer[R]], /) -> BatchedMethod[S, T, R]: ...
    @overload
    def __call__(self, function: Callable[[S, list[T]], None], /) -> BatchedMethod[S, T, None]: ...


# A function that returns Any matches the first overload that fits: so those with results stand before those
# without. A checker takes a class method for a function of the class, and its `Batched` is there on class and
# instance alike.
@overload
def batched(function: Callable[[list[T]], Answer[R]], /) -> Batched[T, R]: ...
@overload
def batched(function: Callable[[list[T]], None], /) -> Batched[T, None]: ...
@overload
def batched(function: Callable[[type[S], list[T]], Answer[R]], /) -> Batched[T, R]: ...
@overload
def batched(function: Callable[[type[S], list[T]], None], /) -> Batched[T, None]: ...
@overload
def batched(function: Callable[[S, list[T]], Answer[R]], /) -> BatchedMethod[S, T, R]: ...
@overload
def batched(function: Callable[[S, list[T]], None], /) -> BatchedMethod[S, T, None]: ...
@overload
def batched(**options: Unpack[BatcherOptions]) -> _Decorator: ...
def batched(function: Any = None, /, **options: Any) -> Any:
    """Make a bulk function callable with single items; calls at the same time become one.

    `f(x)` blocks and returns x's result, `f.submit(x)` returns its Future, `f.map(xs)` yields results in
    order, `f.bulk(xs)` is the plain function, `f.batcher` the `Batcher` behind it, made on first use.

    On a method there is one batcher for each instance; see `BatchedMethod`. Above `@classmethod` or
    `@staticmethod`, this must be the outermost decorator.

    Args:
        function: Takes a list and returns what a `Batcher`'s handler returns. A function of two
            parameters is taken for a method.
        **options: Those of `Batcher`.

    Raises:
        TypeError: `function` isn't callable, or an option has the wrong type (that on first use).

    Example:
        >>> @batched(max_delay=0.01)
        ... def square(numbers: list[int]) -> list[int]:
        ...     return [n * n for n in numbers]
        >>> square(7)
        49
        >>> list(square.map([1, 2, 3]))
        [1, 4, 9]
    """
    if function is None:
        return functools.partial(batched, **options)
    checked: BatcherOptions = options  # type: ignore[assignment]  # what the overloads take
    if isinstance(function, staticmethod):
        function = function.__func__
    is_classmethod = isinstance(function, classmethod)
    if is_classmethod:
        function = function.__func__
    if is_classmethod or _is_method(function):
        return BatchedMethod(function, checked, of_class=is_classmethod)
    return Batched(function, _Once(function, checked))


def _is_method(function: Any) -> bool:  # noqa: ANN401
    """Say whether the function takes two arguments by position: self, and the items."""
    if not callable(function):
        raise TypeError(f"batched needs a function that takes a list, got {function!r}")
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return False  # a built-in without a signature
    two = 2
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in parameters) == two
