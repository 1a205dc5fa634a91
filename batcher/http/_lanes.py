"""Lanes: calls to one host side by side, though a batcher keeps the batches of one key in a row.

A request needs no order among others, and one slow part must not hold up all that come after it. So a
sharing key has several lanes, each a batch key of its own. Requests gather in one lane until its batch
is full or has left, then in the next one that is free.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

# Beyond this many keys at once the oldest is forgotten; its requests only gather less well then.
_MOST_KEYS = 1_024


class _Key:
    """What is known of one sharing key."""

    __slots__ = ("busy", "gathered", "lane")

    def __init__(self) -> None:
        self.lane = 0
        self.gathered = 0
        self.busy: set[int] = set()


class Lanes:
    """Says in which lane a request gathers.

    Thread safety: may be used from any thread.
    """

    def __init__(self, count: int, batch_size: int) -> None:
        """Have `count` lanes a key, and `batch_size` requests a batch."""
        self._count = count
        self._batch_size = batch_size
        # Guards: _keys and all in it.
        self._lock = threading.Lock()
        self._keys: OrderedDict[Hashable, _Key] = OrderedDict()

    def enter(self, key: Hashable) -> int:
        """Return the lane for one more request."""
        with self._lock:
            state = self._keys.get(key)
            if state is None:
                state = self._keys[key] = _Key()
                if len(self._keys) > _MOST_KEYS:
                    self._keys.popitem(last=False)
            elif state.lane in state.busy or state.gathered >= self._batch_size:
                free = [(state.lane + step) % self._count for step in range(1, self._count + 1)]
                # Where none is free, the next one: its batch waits until the lane's call is over.
                state.lane = next((lane for lane in free if lane not in state.busy), free[0])
                state.gathered = 0
            state.gathered += 1
            return state.lane

    @contextmanager
    def running(self, key: Hashable, lane: int) -> Iterator[None]:
        """Mark a lane as busy while its batch is under way."""
        with self._lock:
            state = self._keys.setdefault(key, _Key())
            state.busy.add(lane)
        try:
            yield
        finally:
            with self._lock:
                state.busy.discard(lane)
                if not state.busy and self._keys.get(key) is state:
                    del self._keys[key]

    def __len__(self) -> int:
        """Return for how many keys something is known."""
        with self._lock:
            return len(self._keys)
