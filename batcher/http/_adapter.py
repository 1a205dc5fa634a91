"""`BatchAdapter`: batching for sessions of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batcher._heirs import restart_in_child
from batcher._options import check_callable
from batcher._process import check_process
from batcher.http import _requests
from batcher.http._exchange import DEFAULT_DELAY, Exchange
from batcher.http._requests import BaseAdapter, HTTPAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from requests import PreparedRequest, Response

    from batcher import BatcherStatus
    from batcher.http._format import Format
    from batcher.http._records import HTTPResponse


class BatchAdapter(BaseAdapter):
    """An adapter for sessions of requests that sends concurrent requests as few batches.

    `session.mount("https://api.example.com/", BatchAdapter(JSONBatch("/$batch")))` is all; the rest is as
    in `BatchTransport`. Requests of a call have the same certificates, verification and proxies too.

    Thread safety: many threads may use it at once, each with a session of its own or all with one. After
    a fork the child makes connections of its own, except for an `adapter` that was given. Closing the
    session sends what waits and closes the adapter underneath.
    """

    def __init__(
        self,
        format: Format,  # noqa: A002 - the word for it
        *,
        adapter: BaseAdapter | None = None,
        should_batch: Callable[[PreparedRequest], object] | None = None,
        deduplicate: bool = True,
        compress: bool = False,
        max_batch_size: int | None = None,
        max_delay: float | None = DEFAULT_DELAY,
        **batcher_options: Any,  # noqa: ANN401 - those of Batcher
    ) -> None:
        """Make an adapter; no connection is made before the first request.

        Args:
            format: The wire format, and where its endpoint is.
            adapter: What sends the calls; it is closed with this one. None: an HTTPAdapter.
            should_batch: As in `BatchTransport`.
            deduplicate: As in `BatchTransport`.
            compress: As in `BatchTransport`.
            max_batch_size: As in `BatchTransport`.
            max_delay: As in `BatchTransport`.
            **batcher_options: As in `BatchTransport`.

        Raises:
            TypeError: An option has the wrong type.
            ValueError: An option is out of range.
        """
        super().__init__()
        check_callable("should_batch", should_batch)
        self._should_batch = should_batch
        self._is_given = adapter is not None
        self._adapter = HTTPAdapter() if adapter is None else adapter
        self._strangers: list[BaseAdapter] = []
        self._exchange = Exchange(
            format,
            deduplicate=deduplicate,
            compress=compress,
            max_batch_size=max_batch_size,
            max_delay=max_delay,
            options=batcher_options,
        )
        restart_in_child(self)

    def send(  # noqa: PLR0917 - the signature of every adapter
        self,
        request: PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002
        timeout: Any = None,  # noqa: ANN401 - a number, a pair, a urllib3 Timeout
        verify: bool | str = True,  # noqa: FBT001, FBT002
        cert: Any = None,  # noqa: ANN401 - a path or a pair of them
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request with others, and return its own response.

        Raises:
            requests.RequestException: As without batching.
            BatcherError: The batcher is closed, say.
        """
        adapter = self._own_adapter()
        route = _requests.RequestsRoute(adapter, verify=verify, cert=cert, proxies=proxies)
        try:
            response = self._answer(request, timeout, route)
        except Exception as error:  # noqa: BLE001 - raised again, as the client's own where it has one
            # It has its cause already; and in a variable it would hold this frame, which holds it.
            raise _requests.client_error(request, error)  # noqa: B904
        if response is None:
            return adapter.send(
                request, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=dict(proxies or {})
            )
        return _requests.make_response(self, request, response)

    def _answer(
        self,
        request: PreparedRequest,
        timeout: object,
        route: _requests.RequestsRoute,
    ) -> HTTPResponse | None:
        """Return what a batch brings back, or None for a request that goes alone."""
        record = _requests.read_request(request)
        timeouts = _requests.read_timeouts(timeout)
        if record is None or timeouts is None:
            return None
        if self._should_batch is not None and not self._should_batch(request):
            return None
        if not self._exchange.takes(record):
            return None
        return self._exchange.answer(record, route, timeouts)

    def _own_adapter(self) -> BaseAdapter:
        """Return the adapter underneath, which a forked child makes anew."""
        check_process()
        return self._adapter

    def restart(self) -> None:
        """Start anew: this is a forked child.

        A connection that it inherits is still the parent's: two processes on one connection get each
        other's answers.
        """
        if not self._is_given:
            self._strangers.append(self._adapter)  # kept: to collect a connection would be to close it
            self._adapter = HTTPAdapter()

    def status(self) -> BatcherStatus:
        """Return what waits, what is under way and what has become of all that was batched."""
        return self._exchange.status()

    def close(self) -> None:
        """Send what waits, then close the adapter underneath."""
        try:
            self._exchange.close()
        finally:
            self._own_adapter().close()
