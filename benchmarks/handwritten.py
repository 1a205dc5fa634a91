"""The batchers that people write by hand in forty lines: what every library has to beat.

They have none of a library's guarantees: no timeouts, no errors, no fork, no exit, and a cancelled
future ends their thread.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.contender import Handler, Settings

_END = object()


class _HandWritten:
    """A queue, a thread, and a stock Future for each item."""

    def __init__(self, handler: Handler, settings: Settings, line: Any) -> None:  # noqa: ANN401 - both kinds of queue
        self._queue = line
        self._handler = handler
        self._max_batch_size = settings.max_batch_size
        self._max_delay = settings.max_delay
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, item: object) -> Future[Any]:
        """Queue the item with a new future."""
        future: Future[Any] = Future()
        self._queue.put((item, future))
        return future

    def put(self, item: object) -> None:
        """Queue the item."""
        self.add(item)

    def close(self) -> None:
        """Send what is queued and end the thread."""
        self._queue.put(_END)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            entry = self._queue.get()
            if entry is _END:
                return
            batch, end = [entry], time.monotonic() + self._max_delay
            while len(batch) < self._max_batch_size:
                try:
                    entry = self._queue.get(timeout=max(end - time.monotonic(), 0))
                except queue.Empty:
                    break
                if entry is _END:
                    is_open = False
                    break
                batch.append(entry)
            results = self._handler([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)


class QueueBatcher(_HandWritten):
    """On `queue.Queue`, with its bound."""

    def __init__(self, handler: Handler, settings: Settings) -> None:
        """Start the thread."""
        super().__init__(handler, settings, queue.Queue(settings.capacity))


class SimpleQueueBatcher(_HandWritten):
    """On `queue.SimpleQueue`, which is written in C and has no bound."""

    def __init__(self, handler: Handler, settings: Settings) -> None:
        """Start the thread."""
        super().__init__(handler, settings, queue.SimpleQueue())
