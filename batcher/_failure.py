"""A handler's exception on its way to one or many callers.

Each future raises an exception object of its own, of the handler's own type: an object that a thousand
callers raised would grow a traceback of a thousand frames, and show each the others' frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batcher.errors import BatchError

if TYPE_CHECKING:
    from types import TracebackType


def twin_of(error: BaseException) -> BaseException:
    """Return a copy of an exception, made the way that its class says.

    Not by `copy.copy`: libraries that send exceptions between processes (tblib, and so Dask) register
    copiers of their own for all of them, which take the traceback along and don't ask the class.
    """
    copier = getattr(type(error), "__copy__", None)
    if copier is not None:
        return copier(error)  # type: ignore[no-any-return]
    reduced: Any = error.__reduce_ex__(4)
    make, arguments, *rest = reduced
    twin: BaseException = make(*arguments)
    if rest and rest[0] is not None:
        twin.__setstate__(rest[0])
    return twin


class Failure:
    """A handler's exception on its way to one or many callers."""

    __slots__ = ("error", "shared", "trace")

    def __init__(self, error: BaseException, *, shared: bool) -> None:
        """Take an exception; `shared` if more than one future will raise it."""
        if isinstance(error, StopIteration):
            # Raised inside a caller's generator it would end that loop silently (PEP 479).
            wrapped = RuntimeError("the handler raised StopIteration")
            wrapped.__cause__ = error
            error = wrapped
        self.error = error
        self.shared = shared
        self.trace: TracebackType | None = error.__traceback__

    def own_copy(self) -> BaseException:
        """Return an exception object for one future alone."""
        error = self.error
        if not self.shared:
            return error
        own: BaseException | None = None
        try:
            twin = twin_of(error)
            if type(twin) is type(error) and twin is not error and twin.args == error.args:
                own = twin
        except BaseException:  # noqa: BLE001, S110 - an exception's own __reduce__ or __init__: anything may come
            pass
        if own is None:
            own = BatchError(f"the handler raised {type(error).__name__}, which can't be copied for each caller")
            own.__cause__ = error
            return own.with_traceback(self.trace)
        own.__cause__, own.__context__ = error.__cause__, error.__context__
        own.__suppress_context__ = error.__suppress_context__
        if hasattr(error, "__notes__"):
            own.__notes__ = list(error.__notes__)
        return own.with_traceback(self.trace)
