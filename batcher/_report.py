"""What goes to the log when nobody else listens.

Guarantees: at most one line a minute for each kind of trouble, so that a log handler which itself feeds
a batcher can't make a flood; type names and counts only, never an item, a result or an error's text.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batcher._clock import Clock

logger = logging.getLogger("batcher")
logger.addHandler(logging.NullHandler())

_PERIOD = 60.0
_MOST_KINDS = 256


class Reporter:
    """The log of one batcher.

    Thread safety: `report` may be called from any thread that holds no lock of the batcher.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        """Write for the batcher `name`, by `clock`."""
        self._name = name
        self._clock = clock
        # Guards: _next. Re-entrant, because a signal handler's add may end up here.
        self._lock = threading.RLock()
        self._next: dict[tuple[str, str], float] = {}

    def report(self, what: str, error: BaseException, count: int = 1) -> None:
        """Log that `what` happened to `count` items, unless the same was logged within a minute."""
        kind = type(error).__name__
        now = self._clock.monotonic()
        with self._lock:
            if self._next.get((what, kind), now) > now:
                return
            if len(self._next) >= _MOST_KINDS:
                self._next.clear()  # kinds without end are no kinds: start again rather than grow
            self._next[what, kind] = now + _PERIOD
        try:
            # %r: a name or a type name may hold control characters.
            logger.error("batcher %r: %s (%d items): %r", self._name, what, count, kind)
        except BaseException:  # noqa: BLE001, S110 - a log handler that raises must not end the flusher
            pass
