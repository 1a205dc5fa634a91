"""How long a caller waits, and how long the call that it shares may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Timeouts(NamedTuple):
    """A caller's limits in seconds; None: none."""

    connect: float | None = None
    read: float | None = None
    write: float | None = None
    pool: float | None = None

    def patience(self, max_delay: float | None) -> float | None:
        """Return the longest that a caller waits for its answer; None: without end."""
        if self.connect is None or self.read is None or max_delay is None:
            return None
        return max_delay + self.connect + self.read


def longest(timeouts: Iterable[Timeouts]) -> Timeouts:
    """Return the limits of a shared call: each the longest of its callers'."""
    return Timeouts(*(None if None in column else max(column) for column in zip(*timeouts, strict=True)))
