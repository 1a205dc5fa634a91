"""Lanes: calls to one host side by side, though a batcher keeps the batches of one key in a row.

A request needs no order among others: one slow part must not hold up all that come after it, nor one
that waits for its retry. So a sharing key has several lanes, each a batch key of its own. Requests
gather in one lane until its batch is full or has left, then in another one that is free. How many calls
of a key run at once is bounded, so that a slow host leaves the others room.

What is known here is only about where to gather: were it wrong, requests would wait a little longer.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batcher._heirs import restart_in_child

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from batcher.http._call import Call

# Beyond this many keys at once the oldest is forgotten.
_MOST_KEYS = 1_024


class _Key:
    """What is known of one sharing key."""

    __slots__ = ("busy", "full", "gathered", "held", "lane")

    def __init__(self) -> None:
        self.lane = 0
        self.gathered = 0
        self.busy: set[int] = set()
        # Lanes with a batch that is about to leave.
        self.full: set[int] = set()
        # How many calls of a lane wait for their retry.
        self.held: Counter[int] = Counter()


class Lanes:
    """Says in which lane a request gathers.

    Thread safety: may be used from any thread.
    """

    def __init__(self, most_busy: int, batch_size: int) -> None:
        """Let `most_busy` lanes of a key be busy, and have `batch_size` requests a batch."""
        self._most_busy = most_busy
        self._batch_size = batch_size
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """Know nothing: this is the beginning, or a forked child."""
        # Guards: _keys and all in it, and the marks that lanes leave on calls. Re-entrant, because a signal handler
        # may send a request while it is held.
        self._lock = threading.RLock()
        self._keys: OrderedDict[Hashable, _Key] = OrderedDict()

    def enter(self, key: Hashable) -> int:
        """Return the lane for one more request."""
        with self._lock:
            state = self._keys.get(key)
            if state is None:
                state = self._keys[key] = _Key()
                if len(self._keys) > _MOST_KEYS:
                    self._keys.popitem(last=False)
            if state.lane in state.busy or state.lane in state.full or state.held[state.lane]:
                state.lane = self._next_locked(state)
                state.gathered = 0
            state.gathered += 1
            if state.gathered >= self._batch_size:
                state.full.add(state.lane)
            return state.lane

    def _next_locked(self, state: _Key) -> int:
        """Return the lane to gather in from now on; the caller holds the lock."""
        taken = state.busy | state.full
        if len(taken) < self._most_busy:
            return next(lane for lane in itertools.count() if lane not in taken and not state.held[lane])
        # No more calls at once: what gathers now waits until one of them is over. They take turns.
        behind = sorted(lane for lane in taken if not state.held[lane]) or sorted(taken)
        return next((lane for lane in behind if lane > state.lane), behind[0])

    @contextmanager
    def running(self, key: Hashable, lane: int) -> Iterator[None]:
        """Mark a lane as busy while its batch is under way."""
        with self._lock:
            state = self._keys.setdefault(key, _Key())
            state.busy.add(lane)
            state.full.discard(lane)
        try:
            yield
        finally:
            with self._lock:
                state.busy.discard(lane)
                self._forget_locked(key, state)

    def hold(self, call: Call) -> None:
        """Gather no more where a call waits for its retry."""
        with self._lock:
            state = self._keys.get(call.sharing_key)
            if state is not None and not call.is_held and not call.is_over:
                call.is_held = True
                state.held[call.lane] += 1

    def leave(self, call: Call) -> None:
        """Note that nobody waits for a call any more."""
        with self._lock:
            call.is_over = True
            state = self._keys.get(call.sharing_key)
            if call.is_held and state is not None:
                state.held[call.lane] -= 1
                state.held += Counter()  # drops what is down to nothing
                self._forget_locked(call.sharing_key, state)

    def _forget_locked(self, key: Hashable, state: _Key) -> None:
        """Drop a key that nothing is known of any more; the caller holds the lock."""
        if not state.busy and not state.held and self._keys.get(key) is state:
            del self._keys[key]

    def __len__(self) -> int:
        """Return for how many keys something is known."""
        with self._lock:
            return len(self._keys)
