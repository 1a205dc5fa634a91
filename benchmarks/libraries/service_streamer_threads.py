"""The library `service-streamer`, in its form with threads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from service_streamer import ThreadedStreamer

if TYPE_CHECKING:
    from benchmarks.contender import Contender, Handler, Pending, Settings


class _Streamer:
    def __init__(self, handler: Handler, settings: Settings) -> None:
        logging.getLogger("service_streamer.service_streamer").setLevel(logging.WARNING)  # else a line for each batch
        self._streamer: Any = ThreadedStreamer(handler, settings.max_batch_size, settings.max_delay)

    def add(self, item: object) -> Pending:
        pending: Pending = self._streamer.submit([item])
        return pending

    def put(self, item: object) -> None:
        self._streamer.submit([item])

    def close(self) -> None:
        # It gives its worker's thread twenty seconds to end, and takes one; nothing more is measured here.
        pass


def make(handler: Handler, settings: Settings) -> Contender:
    """Make one with one worker thread."""
    return _Streamer(handler, settings)
