"""OpenTelemetry's BatchProcessor: fire and forget, the newest export first, the oldest dropped when full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk import _shared_internal
from opentelemetry.sdk._shared_internal import BatchProcessor

from benchmarks.contender import MissingError

if TYPE_CHECKING:
    from benchmarks.contender import Contender, Handler, Pending, Settings


class _Exporter:
    def __init__(self, handler: Handler) -> None:
        self.export = handler

    def shutdown(self) -> None:
        """Nothing is open."""


def _metrics() -> tuple[Any, ...]:
    """Return what its newer versions want besides: an object that measures nothing, their own default."""
    kinds: Any = getattr(_shared_internal, "_processor_metrics", None)
    return () if kinds is None else (kinds.NoOpProcessorMetrics(),)


class _Processor:
    def __init__(self, handler: Handler, settings: Settings) -> None:
        delay = settings.max_delay * 1e3
        self._processor: Any = BatchProcessor(
            _Exporter(handler), delay, settings.max_batch_size, 30_000, settings.capacity, "Item", *_metrics()
        )
        self.put = self._processor.emit

    def add(self, item: object) -> Pending:
        raise MissingError(f"OpenTelemetry has no result for {type(item).__name__}")

    def close(self) -> None:
        self._processor.shutdown()


def make(handler: Handler, settings: Settings) -> Contender:
    """Make one whose queue holds all that the workload puts."""
    return _Processor(handler, settings)
