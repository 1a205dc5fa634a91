"""`BatchTransport`: batching for clients of httpx2 and httpx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batcher._options import check_callable
from batcher.http import _httpx
from batcher.http._exchange import DEFAULT_DELAY, Exchange

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, overload

    import httpx
    import httpx2

    from batcher import BatcherStatus
    from batcher.http._format import Format
    from batcher.http._records import HTTPResponse

    AnyRequest = httpx2.Request | httpx.Request
    AnyTransport = httpx2.BaseTransport | httpx.BaseTransport

    class _Base(httpx2.BaseTransport, httpx.BaseTransport):  # type: ignore[misc]
        """A transport to the clients of both lines."""
else:
    _Base = _httpx.preferred_line().BaseTransport


class BatchTransport(_Base):
    """A transport for clients of httpx2 and httpx that sends concurrent requests as few batches.

    `httpx2.Client(transport=BatchTransport(JSONBatch("/$batch")))` is all: calls that several threads
    make at once travel as one call to the batch endpoint, and each gets its own response or exception,
    as if it had been alone. Only requests to one origin with equal headers share a call; see `Format`
    for the few headers that may differ. A request that can't travel in a batch goes through `transport`
    unchanged: one with a streaming body, a long body, or a path outside the endpoint's folder, say.

    A caller waits for its answer at most `max_delay` and its own connect and read timeouts.

    It takes every origin that it is mounted on for one that has the endpoint. For a client that talks to
    others as well, mount it on the one: `httpx2.Client(mounts={"https://api.example.com": ...})`.

    Thread safety: as the client's. After a fork the child makes a transport of its own, unless a finished
    `transport` was given: give a function that makes it. Closing the client sends what waits and closes
    the transport underneath.

    Example:
        >>> import httpx2
        >>> from batcher.http import BatchTransport, JSONBatch
        >>> with httpx2.Client(transport=BatchTransport(JSONBatch("/v1.0/$batch"))) as graph:
        ...     pass  # graph.get("https://graph.microsoft.com/v1.0/me") from any number of threads
    """

    def __init__(
        self,
        format: Format,  # noqa: A002 - the word for it
        *,
        transport: AnyTransport | Callable[[], AnyTransport] | None = None,
        should_batch: Callable[[Any], object] | None = None,
        deduplicate: bool = True,
        compress: bool = False,
        max_batch_size: int | None = None,
        max_delay: float | None = DEFAULT_DELAY,
        **batcher_options: Any,  # noqa: ANN401 - those of Batcher
    ) -> None:
        """Make a transport; no connection is made before the first request.

        Args:
            format: The wire format, and where its endpoint is.
            transport: What sends the calls, with the certificates, proxies and HTTP/2 of your choice, or a
                function that makes it; it is closed with this one. None: an HTTPTransport of the client's
                line.
            should_batch: Called with each request; what it declines goes alone.
            deduplicate: Let GETs and HEADs that are equal, headers included, share one answer while it
                is under way.
            compress: Send bodies of batches that are longer than 1 KiB in gzip. The server has to know it.
            max_batch_size: The most requests of one call. None: what the format says.
            max_delay: Seconds that a request waits for others; with `adaptive=True`, at most.
            **batcher_options: Further options of `Batcher`. By default `adaptive` is False here, and
                `max_concurrent` 8, of which one sharing key gets half: a slow host leaves the others room.
                `retry` tries again what may be done twice; see `ApiClient`. Hooks get items whose `request`
                is an `HTTPRequest`.

        Raises:
            TypeError: An option has the wrong type.
            ValueError: An option is out of range.
        """
        check_callable("should_batch", should_batch)
        self._should_batch = should_batch
        self._routes = _httpx.Routes(transport)
        self._exchange = Exchange(
            format,
            deduplicate=deduplicate,
            compress=compress,
            max_batch_size=max_batch_size,
            max_delay=max_delay,
            options=batcher_options,
        )

    if TYPE_CHECKING:

        @overload
        def handle_request(self, request: httpx2.Request) -> httpx2.Response: ...
        @overload
        def handle_request(self, request: httpx.Request) -> httpx.Response: ...

    def handle_request(self, request: Any) -> Any:
        """Send a request with others, and return its own response.

        Raises:
            httpx2.TransportError: As without batching; of the request's own line.
            TypeError: The request is of neither line.
            BatcherError: The batcher is closed, say.
        """
        route = self._routes.route(request)
        try:
            response = self._answer(request, route)
        except Exception as error:  # noqa: BLE001 - raised again, as the client's own where it has one
            # It has its cause already; and in a variable it would hold this frame, which holds it.
            raise _httpx.client_error(request, error)  # noqa: B904
        if response is None:
            return route.transport.handle_request(request)
        return _httpx.make_response(request, response)

    def _answer(self, request: object, route: _httpx.HttpxRoute) -> HTTPResponse | None:
        """Return what a batch brings back, or None for a request that goes alone."""
        record = _httpx.read_request(request)
        if record is None or (self._should_batch is not None and not self._should_batch(request)):
            return None
        if not self._exchange.takes(record):
            return None
        return self._exchange.answer(record, route, _httpx.read_timeouts(request))

    def status(self) -> BatcherStatus:
        """Return what waits, what is under way and what has become of all that was batched."""
        return self._exchange.status()

    def close(self) -> None:
        """Send what waits, then close the transport underneath."""
        try:
            self._exchange.close()
        finally:
            self._routes.close()

    def __enter__(self) -> Self:
        """Enter the transport underneath too, if one was given."""
        if self._routes.given is not None:
            self._routes.given.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Close."""
        self.close()
