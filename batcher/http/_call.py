"""One request on its way through the Batcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from batcher.http._records import HTTPRequest
    from batcher.http._route import Route
    from batcher.http._timeouts import Timeouts


class Call:
    """One caller's request: the item of the Batcher.

    Attributes:
        request: The request.
        route: How the shared call gets to the server.
        timeouts: The caller's own.
        sharing_key: What callers of one call have in common.
        lane: Where the call gathers; with the sharing key it is the batch key.
        flight_key: What callers of one answer have in common; None: this one is for its caller alone.
        is_held: Whether it waits for its retry; a mark of the lanes.
        is_sent: Whether it was in a batch itself; one that shares another's answer wasn't.
        is_over: Whether its caller waits no more; a mark of the lanes.
    """

    __slots__ = ("flight_key", "is_held", "is_over", "is_sent", "lane", "request", "route", "sharing_key", "timeouts")

    def __init__(
        self,
        request: HTTPRequest,
        route: Route,
        timeouts: Timeouts,
        *,
        sharing_key: Hashable,
        lane: int,
        flight_key: Hashable | None,
    ) -> None:
        self.request = request
        self.route = route
        self.timeouts = timeouts
        self.sharing_key = sharing_key
        self.lane = lane
        self.flight_key = flight_key
        self.is_sent = False
        self.is_held = False
        self.is_over = False

    def __repr__(self) -> str:
        """Show what the request shows."""
        return f"<Call of {self.request!r}>"


def batch_key(call: Call) -> Hashable:
    """Return what is equal for calls that may be one."""
    return call.sharing_key, call.lane


def flight_key(call: Call) -> Hashable | None:
    """Return what is equal for calls that one answer serves."""
    return call.flight_key
