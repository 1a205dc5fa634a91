"""The library `ubatch`: callers block by polling, so there are no futures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ubatch import UBatch

from benchmarks.contender import MissingError

if TYPE_CHECKING:
    from benchmarks.contender import Contender, Handler, Settings


class _Call:
    """A call that is made when its result is asked for, which is at once in the workloads that measure it."""

    __slots__ = ("_call", "_item")

    def __init__(self, call: Any, item: object) -> None:  # noqa: ANN401 - of a library without types
        self._call = call
        self._item = item

    def result(self) -> Any:  # noqa: ANN401
        return self._call(self._item)


class _UBatch:
    def __init__(self, handler: Handler, settings: Settings) -> None:
        self._batch: Any = UBatch(settings.max_batch_size, settings.max_delay)
        # It takes a handler's arguments apart: one list for each parameter.
        self._batch.set_handler(handler)
        self._batch.start()

    def add(self, item: object) -> _Call:
        return _Call(self._batch.ubatch, item)

    def put(self, item: object) -> None:
        raise MissingError(f"ubatch can't take {type(item).__name__} and go on")

    def close(self) -> None:
        self._batch.stop()


def make(handler: Handler, settings: Settings) -> Contender:
    """Make one whose items live as long as the window."""
    return _UBatch(handler, settings)
