"""`batcher.Batcher` as a contender: with its defaults, and in the variants that a workload compares."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from batcher import Batcher

if TYPE_CHECKING:
    from benchmarks.contender import Contender, Handler, Make, Settings

_OPTIONS = inspect.signature(Batcher).parameters


def ours(**options: Any) -> Make:  # noqa: ANN401 - whatever Batcher takes
    """Return a factory of batchers with `options` beside the workload's settings."""
    # Options that this version doesn't have yet are its only behaviour.
    known = {name: value for name, value in options.items() if name in _OPTIONS}

    def make(handler: Handler, settings: Settings) -> Contender:
        fixed: dict[str, Any] = {
            "max_batch_size": settings.max_batch_size,
            "max_delay": settings.max_delay,
            "max_pending": settings.capacity,
            "batch_key": settings.batch_key,
        }
        return Batcher(handler, **(fixed | known))

    return make


is_adaptive = "adaptive" in _OPTIONS
