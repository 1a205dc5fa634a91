"""The three clients under one face, so that one test holds for all of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import httpx
import httpx2
import requests

from batcher.http import BatchAdapter, BatchTransport, Format

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

# A batch leaves when it is full, and not a moment earlier.
FULL: dict[str, Any] = {"max_delay": 20.0, "adaptive": False}


class Errors(NamedTuple):
    """What a client calls what can go wrong."""

    root: Any
    connect: Any
    read_timeout: Any
    reply: Any
    unsafe: Any
    no_room: Any


class Client(Protocol):
    """What a test asks of a client."""

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Send a request; `content` and `timeout` as httpx has them."""

    def get(self, path: str, **options: Any) -> Any:
        """Send a GET."""

    def post(self, path: str, **options: Any) -> Any:
        """Send a POST."""


class Kind(Protocol):
    """One kind of client."""

    errors: Errors

    def open(self, url: str, wire_format: Format, **options: Any) -> AbstractContextManager[Client]:
        """Open a client whose requests are batched, by what is `wrapped` already if that is given."""

    def inner(self) -> Any:
        """Return a transport that may be put underneath."""

    def wrap(self, wire_format: Format, **options: Any) -> BatchTransport | BatchAdapter:
        """Return what batches; `inner` is what goes underneath."""


class HttpxKind:
    """One line of httpx."""

    def __init__(self, line: Any) -> None:
        self.line = line
        self.errors = Errors(
            line.RequestError,
            line.ConnectError,
            line.ReadTimeout,
            line.RemoteProtocolError,
            line.LocalProtocolError,
            line.PoolTimeout,
        )

    @contextmanager
    def open(self, url: str, wire_format: Format, **options: Any) -> Iterator[Client]:
        """Open a client whose requests are batched."""
        transport = options.pop("wrapped", None) or self.wrap(wire_format, **options)
        with self.line.Client(transport=transport, base_url=url, timeout=30) as client:
            yield client

    def inner(self) -> Any:
        """Return a transport that may be put underneath."""
        return self.line.HTTPTransport()

    def wrap(self, wire_format: Format, *, inner: Any = None, **options: Any) -> BatchTransport:
        """Return what batches; `inner` is what goes underneath."""
        return BatchTransport(wire_format, transport=inner, **options)


class _Session:
    """A session of requests that speaks as httpx's client does."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self._url = url
        self._session = session

    def request(
        self, method: str, path: str, *, content: Any = None, follow_redirects: bool = False, **options: Any
    ) -> requests.Response:
        """Send a request."""
        options = {"timeout": 30, **options}
        url = path if "://" in path else self._url + path
        return self._session.request(method, url, data=content, allow_redirects=follow_redirects, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        """Send a GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        """Send a POST."""
        return self.request("POST", path, **options)


class RequestsKind:
    """Sessions of requests."""

    errors = Errors(
        requests.RequestException,
        requests.ConnectionError,
        requests.ReadTimeout,
        requests.ConnectionError,
        requests.exceptions.InvalidHeader,
        requests.Timeout,
    )

    @contextmanager
    def open(self, url: str, wire_format: Format, **options: Any) -> Iterator[Client]:
        """Open a session whose requests are batched."""
        with requests.Session() as session:
            session.trust_env = False
            for adapter in session.adapters.values():
                adapter.close()
            adapter = options.pop("wrapped", None) or self.wrap(wire_format, **options)
            session.adapters.clear()
            session.mount("http://", adapter)
            yield _Session(url, session)

    def inner(self) -> Any:
        """Return an adapter that may be put underneath."""
        return requests.adapters.HTTPAdapter()

    def wrap(self, wire_format: Format, *, inner: Any = None, **options: Any) -> BatchAdapter:
        """Return what batches; `inner` is what goes underneath."""
        return BatchAdapter(wire_format, adapter=inner, **options)


KINDS: dict[str, Kind] = {
    "httpx2": HttpxKind(httpx2),
    "httpx": HttpxKind(httpx),
    "requests": RequestsKind(),
}
