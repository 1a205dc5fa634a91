"""The way from a shared call to the wire, which each kind of client has its own of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable

    from batcher.http._records import HTTPRequest, HTTPResponse
    from batcher.http._timeouts import Timeouts


class Route(Protocol):
    """Sends records through one client's own connections."""

    @property
    def key(self) -> Hashable:
        """What is equal for two requests exactly if the same connections, certificate and proxy serve them."""
        ...

    def send(self, request: HTTPRequest, timeouts: Timeouts) -> HTTPResponse:
        """Send a request and read its whole response, or raise the client's own exception."""
        ...

    def never_sent(self, error: BaseException) -> bool:
        """Say whether such an error means that the server has seen nothing of the request."""
        ...

    def timed_out(self, error: BaseException) -> bool:
        """Say whether such an error means that a time limit has passed."""
        ...
