"""Results that are kept: a user's mapping, under a lock of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from batcher._failure import Failure

if TYPE_CHECKING:
    from collections.abc import Hashable, MutableMapping

    from batcher._group import Batch
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
        # lock held. Not re-entrant, and never waited for on top of itself.
        self._lock = threading.Lock()
        self._owner = 0  # the thread that has the lock

    def look_up(self, key: Hashable) -> Any:  # noqa: ANN401 - a result, or MISS
        """Return the result of `key`, or MISS."""
        try:
            return self._locked(lambda: self._mapping[key], MISS)
        except KeyError:
            return MISS
        except Exception as error:  # noqa: BLE001 - the user's mapping
            self._reporter.report("the cache raised", error)
            return MISS

    def keep(self, batch: Batch, outcomes: list[Any]) -> None:
        """Keep what a batch's items came to, errors excepted."""
        for ticket, outcome in zip(batch.entries, outcomes, strict=True):
            if ticket.shared_key is None or type(outcome) is Failure:
                continue
            try:
                self._locked(self._mapping.__setitem__, None, ticket.shared_key, outcome)
            except BaseException as error:  # noqa: BLE001 - the user's mapping, on a thread of ours
                self._reporter.report("the cache raised", error)

    def _locked(self, call: Any, otherwise: object, *args: Any) -> Any:  # noqa: ANN401
        """Make a call that the lock guards, unless this thread is inside one."""
        if self._owner == threading.get_ident():
            return otherwise
        with self._lock:
            self._owner = threading.get_ident()
            try:
                return call(*args)
            finally:
                self._owner = 0
