"""Starts at a throttle that blocks when it is asked, for somebody who must not block.

A turn at such a throttle doesn't ask itself. It sends a thread, which waits in the line, asks, and rings
when it has an answer.
"""

from __future__ import annotations

import threading
from math import inf
from typing import TYPE_CHECKING

from batcher._clock import Bell
from batcher._places import Place
from batcher._process import check_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._clock import Clock
    from batcher._places import Books, Rings


class _Errand:
    """One wait for a start, on a thread of its own."""

    def __init__(
        self, place: Place, ask: Callable[[Place, Rings], float | None], end: Callable[[Place], None], clock: Clock
    ) -> None:
        """Be for `place`; nothing is done before `run`."""
        place.owner = object()  # no thread's; and not the errand itself, which with it would await the collector
        self.place = place
        self.error: BaseException | None = None
        self._ask = ask
        self._end = end
        self._clock = clock
        self._bell = Bell()
        # Guards: has_ended, _is_over. Re-entrant, because a signal handler may come in while it is held.
        self._lock = threading.RLock()
        self.has_ended = False
        self._is_over = False

    def run(self, ring: Callable[[], object]) -> None:
        """Wait for the start, or for the end of the turn."""
        try:
            while not self._is_over and (moment := self._ask(self.place, self._bell)) is not None:
                self._clock.wait(self._bell, None if moment == inf else moment)
        except BaseException as error:  # noqa: BLE001 - it is for whoever asks
            self.error = error
        with self._lock:
            self.has_ended = True
            is_wanted = not self._is_over and self.error is None
        if not is_wanted:
            self._end(self.place)
        ring()

    def end(self) -> None:
        """End the call, or stop waiting for it."""
        with self._lock:
            self._is_over = True
            has_ended = self.has_ended
        if has_ended:
            self._end(self.place)
        else:
            self._bell.ring()


class Errands:
    """What a turn does in place of asking itself: one errand after another.

    Thread safety: to be used by one thread at a time.
    """

    def __init__(
        self,
        books: Callable[[], Books],
        ring: Callable[[], object],
        ask: Callable[[Place, Rings], float | None],
        end: Callable[[Place], None],
        clock: Clock,
    ) -> None:
        """Ask by `ask` and give back by `end`; `books` tells those of this process."""
        self._books = books
        self._ring = ring
        self._ask = ask
        self._end = end
        self._clock = clock
        self._errand: _Errand | None = None

    def ask(self, own: Place, bell: Rings) -> float | None:
        """Say how the errand stands, and begin one if there is none; `own` is the turn's own place."""
        check_process()
        books = self._books()
        errand = self._errand
        if own.is_started and own.books is books:
            return None
        if errand is None or errand.place.books is not books:  # or it was the parent's
            return self._send(own, bell, Place(books))
        if not errand.has_ended:
            return inf
        if errand.error is not None:
            self._errand = None
            error, errand.error = errand.error, None  # whose traceback refers to the errand
            try:
                raise error
            finally:
                del error
        return None

    def _send(self, own: Place, bell: Rings, place: Place) -> float | None:
        errand = _Errand(place, self._ask, self._end, self._clock)
        # Daemon: a server may hang, which must not hold up the exit. Nobody joins it: it ends with the start or
        # the turn. After a fork it isn't there, and the child sends another.
        thread = threading.Thread(target=errand.run, args=(self._ring,), name="batcher-throttle-errand", daemon=True)
        self._errand = errand  # before it starts: Ctrl-C must not lose it
        try:
            thread.start()
        except RuntimeError:
            self._errand = None
            return self._ask(own, bell)  # no thread can be started, at exit for one; the answer may still be quick
        return inf

    def end(self, own: Place) -> None:
        """End the call, or stop waiting for it."""
        check_process()
        errand, self._errand = self._errand, None
        if errand is not None and errand.place.books is self._books():
            errand.end()
        self._end(own)
