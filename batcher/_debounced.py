"""The decorator `debounced`."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypedDict, TypeVar, overload

from batcher._debounce import Debounce

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Required, Self, Unpack

    from batcher._debounce import DebounceStatus

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")


class DebounceOptions(TypedDict, total=False):
    """The options of `Debounce`, as `debounced` takes them."""

    wait: Required[float]
    max_wait: float | None
    leading: bool
    trailing: bool
    on_debounce: Callable[[int], object] | None


class Debounced(Generic[P, R]):
    """A debounced function, or a debounced method of one instance.

    Called, it returns the Future of the run that the call ends up in; see `Debounce`.

    Thread safety: as `Debounce`.

    Attributes:
        function: The plain function, or bound method.
    """

    def __init__(self, function: Callable[P, R], make: Callable[[], Debounce[..., R]], *bound: object) -> None:
        """Debounce `function` by what `make` returns; `bound` stands before the arguments of each call."""
        self.function: Callable[P, R] = function
        self._make = make
        self._bound = bound
        functools.update_wrapper(self, function)

    @property
    def debounce(self) -> Debounce[..., R]:
        """The debounce behind this function; made on first use, not at import."""
        return self._make()

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call the function, sooner or later, and return the Future of its run; as `Debounce`."""
        return self._make()(*self._bound, *args, **kwargs)

    def flush(self) -> Future[R | None]:
        """Close the window, and run now what would have run then; as `Debounce.flush`."""
        return self._make().flush()

    def cancel(self) -> bool:
        """Close the window without a run; as `Debounce.cancel`."""
        return self._make().cancel()

    @property
    def pending(self) -> bool:
        """Whether the window is open; as `Debounce.pending`."""
        return self._make().pending

    def status(self) -> DebounceStatus:
        """Return a frozen snapshot; as `Debounce.status`."""
        return self._make().status()


class DebouncedFunction(Debounced[P, R]):
    """What `debounced` makes of a function: debounced itself, and as a method for each instance.

    The debounce of an instance doesn't keep it alive; a call whose run is to come does. The instances must
    allow weak references: a class with `__slots__` needs "__weakref__" among them.

    Thread safety: as `Debounce`.
    """

    def __init__(self, function: Callable[P, R], options: DebounceOptions, *, of_class: bool = False) -> None:
        """Wrap a function, or what a class method wraps if `of_class`."""
        super().__init__(function, _Once(function, options))
        self._options = options
        self._of_class = of_class
        # By id, because instances need not be hashable. Changed by single dict operations only.
        self._debounces: dict[int, tuple[weakref.ref[Any], Debounce[..., R]]] = {}

    def __set_name__(self, owner: type[Any], name: str) -> None:
        """Be a method: without an instance there is no debounce."""
        self._make = self._refuse

    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(self: DebouncedFunction[Concatenate[S, Q], R], instance: S, owner: type[S], /) -> Debounced[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> Debounced[P, R]: ...
    def __get__(self, instance: object, owner: type[Any], /) -> object:
        """Return the instance's (or class's) own `Debounced`."""
        home = owner if self._of_class else instance
        if home is None:
            return self
        function: Callable[..., R] = self.function
        bound = functools.partial(function, home)
        functools.update_wrapper(bound, self.function)
        return Debounced(bound, functools.partial(self._debounce_of, home), home)

    def _refuse(self) -> Debounce[..., R]:
        raise TypeError(
            f"{self.function.__qualname__} is debounced for each instance and was used without one. "
            "Above a classmethod or staticmethod, @debounced must be the outermost decorator"
        )

    def _debounce_of(self, home: object) -> Debounce[..., R]:
        key = id(home)
        found = self._debounces.get(key)
        if found is None:
            try:
                ref = weakref.ref(home, functools.partial(_forget, self._debounces, key))
            except TypeError:
                raise TypeError(
                    f"{type(home).__qualname__} allows no weak references, which @debounced needs: "
                    'add "__weakref__" to its __slots__'
                ) from None
            # The instance goes with each call as its first argument: so it lives as long as one waits.
            debounce: Debounce[..., R] = _OfInstance(self.function, **self._options)
            found = self._debounces.setdefault(key, (ref, debounce))
        return found[1]


class _OfInstance(Debounce[P, R]):
    """The debounce of an instance, which the last result may refer to."""

    _keeps_last = False


class _Once(Generic[R]):
    """Makes one debounce, when it is first asked for."""

    def __init__(self, function: Callable[..., R], options: DebounceOptions) -> None:
        self._function = function
        self._options = options

    def __call__(self) -> Debounce[..., R]:
        made: Any = self.__dict__.get("made")
        if made is None:
            # Two threads may both make one; the dict keeps the first, and the other was never called.
            made = self.__dict__.setdefault("made", Debounce(self._function, **self._options))
        return made  # type: ignore[no-any-return]


def _forget(debounces: dict[int, Any], key: int, ref: weakref.ref[Any]) -> None:
    """Let the debounce of a collected instance go, unless the id has a new owner."""
    found = debounces.get(key)
    if found is not None and found[0] is ref:
        del debounces[key]


class _DebounceDecorator(Protocol):
    """What `debounced(...)` returns. A checker takes a class method for a function of the class."""

    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self, function: Callable[Concatenate[type[S], Q], R], /
    ) -> Debounced[Q, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> DebouncedFunction[P, R]: ...


def debounced(**options: Unpack[DebounceOptions]) -> _DebounceDecorator:
    """Debounce a function: `f(x)` returns the Future of the run that the call ends up in.

    `f.flush()`, `f.cancel()`, `f.pending` and `f.status()` are those of the `Debounce` behind it, which is
    `f.debounce` and made on first use; `f.function` is the plain function. On a method there is one debounce
    for each instance; see `DebouncedFunction`. Above `@classmethod` or `@staticmethod`, this must be the
    outermost decorator.

    Args:
        **options: Those of `Debounce`; `wait` is required.

    Raises:
        TypeError: An option has the wrong type, or what is decorated is no plain function or method.
        ValueError: As `Debounce`.

    Example:
        >>> @debounced(wait=0.01)
        ... def save(text: str) -> str:
        ...     return f"saved {text}"
        >>> first, second = save("dra"), save("draft")
        >>> first.result()
        'saved draft'
    """
    return functools.partial(_debounce, options)


def _debounce(options: DebounceOptions, function: Any, /) -> Any:  # noqa: ANN401 - the overloads have the types
    """Return `function`, debounced."""
    is_static, is_of_class = isinstance(function, staticmethod), isinstance(function, classmethod)
    plain = function.__func__ if is_static or is_of_class else function
    Debounce(plain, **options)  # now, and not at the first call, is when to complain
    if is_static:
        return Debounced(plain, _Once(plain, options))
    return DebouncedFunction(plain, options, of_class=is_of_class)
