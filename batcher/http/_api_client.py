"""`ApiClient`: a client with batching, retries, a breaker and a cache wired up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

from batcher._options import check_callable
from batcher.http import _httpx
from batcher.http._transport import BatchTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx2
    from httpx2 import Client

    from batcher import BatcherStatus, CircuitBreaker, RetryPolicy
    from batcher.http._format import Format
else:
    Client = _httpx.preferred_line().Client

# What a client would make its own transport of.
_TRANSPORT_OPTIONS = ("verify", "cert", "trust_env", "http1", "http2", "limits", "proxy")


class ApiClient(Client):
    """A client of httpx2 (of httpx where there is no httpx2) for one API that has a batch endpoint.

    `get`, `post`, `request`, `stream` and the rest are those of its base class. Requests that several
    threads make at once travel together, see `BatchTransport`. What goes to another origin than that of
    `base_url`, as after a redirect, goes alone.

    Thread safety: as its base class: made to be shared by threads.

    Example:
        >>> from batcher import CircuitBreaker, Retry
        >>> from batcher.http import ApiClient, JSONBatch
        >>> with ApiClient(
        ...     "https://graph.microsoft.com/v1.0",
        ...     batch=JSONBatch("/v1.0/$batch"),
        ...     retry=Retry(3),
        ...     circuit_breaker=CircuitBreaker(),
        ...     headers={"Authorization": "Bearer ..."},
        ... ) as graph:
        ...     pass  # graph.get("/me") from any number of threads
    """

    def __init__(
        self,
        base_url: httpx2.URL | str,
        *,
        batch: Format,
        retry: RetryPolicy | int | None = None,
        circuit_breaker: CircuitBreaker | None = None,
        cache: object = None,
        compress: bool = False,
        batch_options: Mapping[str, Any] | None = None,
        **client_options: Any,  # noqa: ANN401 - those of the base class
    ) -> None:
        """Make a client; no connection is made before the first request.

        Args:
            base_url: What paths are relative to.
            batch: The wire format, and where its endpoint is on the origin.
            retry: What is done about failures, as for `Batcher`. A part's 429 or 503 with a Retry-After
                is tried again, and so is a whole one; connection errors and other 5xx of the whole only for
                idempotent methods, or where nothing was sent. A caller still waits no longer than its
                own timeouts.
            circuit_breaker: Fails requests at once with `CircuitOpenError` while the API keeps failing.
            cache: True, or a hishel storage (extra `http-cache`): keep answers as RFC 9111 allows,
                apart for each set of credentials. What is in the cache never enters a batch.
            compress: As for `BatchTransport`.
            batch_options: Further options of `BatchTransport`: `max_delay`, `should_batch`, `throttle`.
            **client_options: Options of the base class. `transport`, `verify`, `cert`, `proxy`, `http2` and
                their like are about what sends the calls.

        Raises:
            ImportError: The cache needs hishel, or another one.
            TypeError: An option has the wrong type.
            ValueError: An option is out of range.
        """
        line = _httpx.preferred_line()
        url = line.URL(base_url)
        batch_options = dict(batch_options or {})
        given = client_options.pop("transport", None)
        options = {name: client_options[name] for name in _TRANSPORT_OPTIONS if name in client_options}
        # The client would put a transport of its own beside this one.
        client_options.pop("proxy", None)
        if client_options.get("trust_env", True):
            options.setdefault("proxy", _environment_proxy(url))
        self._batching = BatchTransport(
            batch,
            transport=partial(line.HTTPTransport, **options) if given is None else given,
            retry=retry,
            circuit_breaker=circuit_breaker,
            compress=compress,
            should_batch=_Here(url, batch_options.pop("should_batch", None)),
            **batch_options,
        )
        try:
            transport: Any = self._batching
            if cache is not None:
                from batcher.http._cache import CacheFront  # noqa: PLC0415 - not everybody has hishel and sqlite3

                transport = CacheFront(line, transport, cache=cache)
            super().__init__(base_url=base_url, transport=transport, **client_options)
        except BaseException:
            self._batching.close()
            raise

    def status(self) -> BatcherStatus:
        """Return what waits, what is under way and what has become of all that was batched."""
        return self._batching.status()


class _Here:
    """Declines what goes to another origin, and what the user declines."""

    def __init__(self, url: Any, should_batch: Callable[[Any], object] | None) -> None:  # noqa: ANN401
        check_callable("should_batch", should_batch)
        self._origin = (url.scheme, url.netloc)
        self._should_batch = should_batch

    def __call__(self, request: Any) -> bool:  # noqa: ANN401 - of either line
        """Say whether the request may be batched."""
        if (request.url.scheme, request.url.netloc) != self._origin:
            return False
        return self._should_batch is None or bool(self._should_batch(request))


def _environment_proxy(url: Any) -> str | None:  # noqa: ANN401 - of either line
    """Return the proxy that the environment has for an address, as a client without a transport would use."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.netloc.decode("ascii")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
