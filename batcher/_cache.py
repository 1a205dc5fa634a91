"""Results that are kept: a user's mapping, under a lock of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from batcher import _reentry
from batcher._failure import Failure

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, MutableMapping

    from batcher._group import Ticket
    from batcher._report import Reporter

MISS = object()


class ResultCache:
    """What a batcher knows already, by dedup key.

    A mapping that raises is a miss, and is logged: a cache is a convenience, and fails nobody's item.

    Thread safety: may be used from any thread; a call on top of a call, by a signal handler or a
    destructor, finds nothing and keeps nothing.
    """

    def __init__(self, mapping: MutableMapping[Any, Any], reporter: Reporter) -> None:
        """Keep results in `mapping`."""
        self._mapping = mapping
        self._reporter = reporter
        # Guards: the mapping, which few are that may be used from several threads. Taken with no other
        # lock held. Re-entrant only so that a call on top of a call can tell that it is one.
        self._lock = threading.RLock()

    @property
    def is_nested(self) -> bool:
        """Whether this thread was interrupted while it used the mapping, or the mapping calls back."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]  # noqa: SLF001

    def look_up(self, key: Hashable) -> Any:  # noqa: ANN401 - a result, or MISS
        """Return the result of `key`, or MISS."""
        try:
            return self._locked(self._mapping.get, MISS, key, MISS)
        except KeyError:  # a mapping that goes by time may lose it between two steps of its own
            return MISS
        except Exception as error:  # noqa: BLE001 - the user's mapping
            self._reporter.report("the cache raised", error)
            return MISS

    def keep(self, tickets: Iterable[Ticket], outcomes: Iterable[Any]) -> None:
        """Keep what tickets came to, errors excepted."""
        for ticket, outcome in zip(tickets, outcomes, strict=False):
            key = ticket.shared_key  # once: the flusher may give the batch up at any moment
            if key is None or type(outcome) is Failure:
                continue
            try:
                self._locked(self._mapping.__setitem__, None, key, outcome)
            except BaseException as error:  # noqa: BLE001 - the user's mapping, on a thread of ours
                self._reporter.report("the cache raised", error)

    def _locked(self, call: Any, otherwise: object, *args: Any) -> Any:  # noqa: ANN401
        """Make a call that the lock guards, unless this thread is inside one."""
        if self.is_nested:
            return otherwise
        here = _reentry.here
        here.waits += 1  # what is added on top of this must not wait: the flusher may need the mapping
        try:
            with self._lock:
                return call(*args)
        finally:
            here.waits -= 1
