"""The library `batched`: a priority queue and a thread that polls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batched import BatchProcessor

if TYPE_CHECKING:
    from benchmarks.contender import Contender, Handler, Pending, Settings


class _Batched:
    def __init__(self, handler: Handler, settings: Settings) -> None:
        # The call blocks; what it calls first is the one way to a future.
        self._processor: Any = BatchProcessor(handler, settings.max_batch_size, settings.max_delay * 1e3)
        self._schedule = self._processor._schedule  # noqa: SLF001

    def add(self, item: object) -> Pending:
        pending: Pending = self._schedule([item])[0]
        return pending

    def put(self, item: object) -> None:
        self._schedule([item])

    def close(self) -> None:
        self._processor.shutdown()


def make(handler: Handler, settings: Settings) -> Contender:
    """Make one whose polling pause is the window."""
    return _Batched(handler, settings)
