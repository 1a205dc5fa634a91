"""A throw-away prototype: the least that a thread, a queue and a future can cost in Python.

It keeps no promise at all: no bound, no close check, no errors, no timeouts, no cancelling, no counters,
no fork, no signals. It shows how much of what a batcher costs is the interpreter's and the machine's.
"""

from __future__ import annotations

import _thread
import threading
from collections import deque
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.contender import Handler, Settings


class _Slot:
    """A future that knows nothing but its result."""

    __slots__ = ("is_done", "lock", "value")

    def __init__(self, value: object) -> None:
        self.value: Any = value
        self.lock: Any = None
        self.is_done = False

    def result(self) -> Any:  # noqa: ANN401 - whatever the handler returned
        """Wait on a raw lock of this slot's own."""
        if not self.is_done:
            lock = _thread.allocate_lock()
            lock.acquire()
            self.lock = lock
            if not self.is_done:
                lock.acquire()
        return self.value


class Floor:
    """A deque, a raw lock, and one thread that lingers for the window unless a batch is full."""

    def __init__(self, handler: Handler, settings: Settings) -> None:
        """Start the thread."""
        self._handler = handler
        self._size = settings.max_batch_size
        self._delay = settings.max_delay
        self._queue: deque[Any] = deque()
        self._bell = _thread.allocate_lock()
        self._bell.acquire()
        self._rings_at = 1
        self._is_open = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, item: object) -> _Slot:
        """Queue the item with a slot."""
        slot = _Slot(item)
        self._queue.append(slot)
        if len(self._queue) >= self._rings_at:
            self._ring()
        return slot

    def put(self, item: object) -> None:
        """Queue the item."""
        self.add(item)

    def close(self) -> None:
        """Send what is queued and end the thread."""
        self._is_open = False
        self._ring()
        self._thread.join()

    def _ring(self) -> None:
        self._rings_at = 1 << 60
        try:
            self._bell.release()
        except RuntimeError:
            pass  # rung already

    def _run(self) -> None:
        queue = self._queue
        while self._is_open or queue:
            self._rings_at = 1
            if not queue and self._is_open:
                self._bell.acquire()
            if self._delay and self._is_open and len(queue) < self._size:
                self._rings_at = self._size
                if len(queue) < self._size:
                    self._bell.acquire(timeout=self._delay)
            batch = list(starmap(queue.popleft, repeat((), min(len(queue), self._size))))
            if not batch:
                continue
            results = self._handler([slot.value for slot in batch])
            for slot, result in zip(batch, results, strict=True):
                slot.value = result
                slot.is_done = True
                if slot.lock is not None:
                    slot.lock.release()
