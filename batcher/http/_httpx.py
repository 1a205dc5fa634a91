"""Between the records and the requests, responses and exceptions of one line of httpx.

httpx2 and httpx are two packages with one interface. Both may be installed, and a response of the other
line breaks a client: its line is taken from the request itself.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from batcher._heirs import restart_in_child
from batcher._process import check_process
from batcher.errors import HandlerTimeoutError, ItemTimeoutError, QueueFullError
from batcher.http._errors import BatchReplyError, UnsafeRequestError
from batcher.http._records import HTTPRequest, HTTPResponse
from batcher.http._timeouts import Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import ModuleType

LINES = ("httpx2", "httpx")
# Whatever else a request brings along is meant for its own connection.
_KNOWN_EXTENSIONS = frozenset({"timeout", "caching"})
_EXCLUDED = ("content-encoding", "content-length", "transfer-encoding")


def preferred_line() -> ModuleType:
    """Return httpx2, or httpx where there is no httpx2.

    Raises:
        ImportError: Neither is installed.
    """
    for name in LINES:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise ImportError("batcher.http needs httpx2 or httpx: pip install 'thread-batcher[http]'")


def line_of(request: object) -> ModuleType:
    """Return the package that a request, or a class derived from one, comes from.

    Raises:
        TypeError: It comes from neither line.
    """
    for kind in type(request).__mro__:
        name = kind.__module__.partition(".")[0]
        if name in LINES:
            return import_module(name)
    raise TypeError(f"expected an httpx2 or httpx object, got a {type(request).__name__}")


def read_request(request: Any) -> HTTPRequest | None:  # noqa: ANN401 - of either line
    """Return a request's record, or None if its body streams, or it asks for more than HTTP."""
    if not _KNOWN_EXTENSIONS.issuperset(request.extensions) or request.url.scheme not in {"http", "https"}:
        return None
    line = line_of(request)
    try:
        body = request.content
    except line.RequestNotRead:
        if not isinstance(request.stream, line.ByteStream):
            return None
        body = request.read()  # all there, as after a redirect
    return replace(read_head(request), body=body)


def read_head(request: Any) -> HTTPRequest:  # noqa: ANN401
    """Return a request's record without its body."""
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw)
    origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
    return HTTPRequest(request.method, origin, request.url.raw_path.decode("latin-1"), headers)


def read_timeouts(request: Any) -> Timeouts:  # noqa: ANN401
    """Return the limits that the client has put on a request."""
    given = request.extensions.get("timeout", {})
    return Timeouts(given.get("connect"), given.get("read"), given.get("write"), given.get("pool"))


def make_response(request: Any, response: HTTPResponse) -> Any:  # noqa: ANN401
    """Return a response of the request's own line; unread, as a transport's are."""
    line = line_of(request)
    return line.Response(
        response.status,
        headers=[(name.encode("latin-1", "replace"), value.encode("utf-8")) for name, value in response.headers],
        stream=line.ByteStream(response.body),
        request=request,
        extensions={"http_version": b"HTTP/1.1", "reason_phrase": response.reason.encode("ascii", "replace")}
        if response.reason
        else {"http_version": b"HTTP/1.1"},
    )


def client_error(request: Any, error: Any) -> Exception:  # noqa: ANN401
    """Return what the caller's client raises for an exception, with the caller's own request on it."""
    line = line_of(request)
    own: Exception = error
    if isinstance(error, line.RequestError):
        error.request = request
        return own
    kind: Callable[..., Exception]
    if isinstance(error, (ItemTimeoutError, HandlerTimeoutError)):
        kind = line.ReadTimeout
    elif isinstance(error, QueueFullError):
        kind = line.PoolTimeout
    elif isinstance(error, BatchReplyError):
        kind = line.RemoteProtocolError
    elif isinstance(error, UnsafeRequestError):
        kind = line.LocalProtocolError
    else:
        return own
    own = kind(str(error), request=request)
    own.__cause__ = error
    return own


class HttpxRoute:
    """Sends shared calls through one transport of one line.

    Thread safety: that of the transport.
    """

    def __init__(self, line: ModuleType, transport: Any) -> None:  # noqa: ANN401
        self._line = line
        self.transport = transport

    @property
    def key(self) -> Hashable:
        """One transport: one set of connections, one certificate, one proxy."""
        return id(self)

    def send(self, request: HTTPRequest, timeouts: Timeouts) -> HTTPResponse:
        """Send a request and read its whole response."""
        message = self._line.Request(
            request.method,
            request.url,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers],
            content=request.body,
            extensions={"timeout": timeouts._asdict()},
        )
        response = self.transport.handle_request(message)
        try:
            body = response.read()
        finally:
            response.close()
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw)
        return HTTPResponse(response.status_code, headers, body, response.reason_phrase).without(_EXCLUDED)

    def never_sent(self, error: BaseException) -> bool:
        """Say whether there was no connection to send anything on."""
        return isinstance(error, (self._line.ConnectError, self._line.ConnectTimeout, self._line.PoolTimeout))

    def timed_out(self, error: BaseException) -> bool:
        """Say whether a time limit of the shared call has passed."""
        return isinstance(error, self._line.TimeoutException)


class Routes:
    """The transports underneath: the one that was given, or one for each line that asks, and for each process.

    A connection that a forked child inherits is still the parent's: two processes on one connection get
    each other's answers. So a child makes transports of its own; one that was given can't be made anew.

    Thread safety: may be used from any thread.
    """

    def __init__(self, transport: Any) -> None:  # noqa: ANN401
        """Send through `transport`: a transport, a function that makes one, or None for the line's own.

        Raises:
            TypeError: It is none of these.
        """
        if transport is not None and not callable(transport) and not hasattr(transport, "handle_request"):
            raise TypeError(f"transport must be a transport, a function that makes one, or None, got {transport!r}")
        self.given: Any = transport if hasattr(transport, "handle_request") else None
        self._make = None if self.given is not None else transport
        self._strangers: list[dict[str, HttpxRoute]] = []
        self._set_up()
        restart_in_child(self)

    def _set_up(self) -> None:
        """Make what belongs to one process."""
        # Guards: _by_line. Re-entrant, because a signal handler may send a request while it is held.
        self._lock = threading.RLock()
        self._by_line: dict[str, HttpxRoute] = {}

    def restart(self) -> None:
        """Start anew: this is a forked child."""
        self._strangers.append(self._by_line)  # kept: to collect a connection would be to close it
        self._set_up()

    def route(self, request: object) -> HttpxRoute:
        """Return the way that a request goes.

        Raises:
            TypeError: The request is of neither line, or the transport of the other one.
        """
        line = line_of(request)
        check_process()
        with self._lock:
            route = self._by_line.get(line.__name__)
            if route is None:
                # Under the lock: it takes a while, and the other threads would each make one.
                route = self._by_line[line.__name__] = HttpxRoute(line, self._transport(line))
            return route

    def _transport(self, line: ModuleType) -> Any:  # noqa: ANN401
        transport: Any = self.given
        if transport is None:
            transport = line.HTTPTransport() if self._make is None else self._make()
        modules = {kind.__module__.partition(".")[0] for kind in type(transport).__mro__}
        if line.__name__ not in modules and modules.intersection(LINES):
            raise TypeError(f"the client is of {line.__name__}, and its transport a {type(transport)!r}")
        return transport

    def close(self) -> None:
        """Close the transports of this process."""
        if self.given is not None:
            self.given.close()
            return
        check_process()
        for route in self._by_line.values():
            route.transport.close()
