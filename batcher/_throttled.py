"""The decorator that shapes calls: `throttled`."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypedDict, TypeVar, overload

from batcher._throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, Unpack

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

# A call of these does nothing yet: to limit calls wouldn't limit what they do.
_LATER = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)


class ThrottleOptions(TypedDict, total=False):
    """The options of `Throttle`, as `throttled` takes them."""

    max_concurrent: int | None
    max_per_second: float | None
    max_burst: int | None
    cooldown: float
    on_throttle: Callable[[int], object] | None


class Throttled(Protocol[P, R_co]):
    """A throttled function or method, of the same type as before."""

    @property
    def throttle(self) -> Throttle:
        """The throttle that its calls go through."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function when it may start."""
        ...

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None, /) -> Self: ...
    @overload
    def __get__(
        self: Throttled[Concatenate[S, Q], R], instance: S, owner: type[Any] | None = None, /
    ) -> Throttled[Q, R]: ...


class _Decorator(Protocol):
    """What `throttled(...)` returns. A checker takes a class method for a function of the class."""

    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self, function: Callable[Concatenate[type[S], Q], R], /
    ) -> Throttled[Q, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Throttled[P, R]: ...


@overload
def throttled(throttle: Throttle, /) -> _Decorator: ...
@overload
def throttled(**options: Unpack[ThrottleOptions]) -> _Decorator: ...
def throttled(throttle: Any = None, /, **options: Any) -> Any:
    """Make each call of a function go through a throttle, which is the function's `throttle`.

    On a method there is one throttle for all instances. To have several functions share one, give it in
    place of the options. Goes above or below `@classmethod` and `@staticmethod`; type checkers expect it below
    the latter.

    Args:
        throttle: A throttle that exists.
        **options: Those of `Throttle`, for one of the function's own.

    Raises:
        TypeError: What is decorated is no function, or a coroutine or generator function; or both a
            throttle and options were given, or something else.
        ValueError: As `Throttle`.

    Example:
        >>> @throttled(max_per_second=100)
        ... def square(number: int) -> int:
        ...     return number * number
        >>> square(7)
        49
        >>> square.throttle.status().per_second
        1
    """
    if throttle is None:
        throttle = Throttle(**options)
    elif options or not isinstance(throttle, Throttle):
        raise TypeError(f"throttled needs a Throttle or its options, got {throttle!r} and {options!r}")
    return functools.partial(_throttle, throttle)


def _throttle(throttle: Throttle, function: Any, /) -> Any:  # noqa: ANN401 - the overloads have the types
    """Return `function` as one whose calls go through `throttle`."""
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(_throttle(throttle, function.__func__))
    if not callable(function):
        raise TypeError(f"throttled needs a function, got {function!r}")
    if any(is_later(function) for is_later in _LATER):
        raise TypeError(f"throttled needs a function that does its work when it is called, got {function!r}")

    @functools.wraps(function)
    def start_when_allowed(*args: object, **kwargs: object) -> object:
        return throttle.execute(function, *args, **kwargs)

    start_when_allowed.throttle = throttle  # type: ignore[attr-defined]
    return start_when_allowed
