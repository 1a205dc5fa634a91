"""What type checkers make of `batcher.http`; nobody runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

import httpx
import httpx2
import requests
from requests.adapters import HTTPAdapter

from batcher import BatcherStatus, CircuitBreaker, Retry
from batcher.http import (
    ApiClient,
    BatchAdapter,
    BatchTransport,
    BodyArray,
    Format,
    GraphQLArray,
    HTTPRequest,
    HTTPResponse,
    JSONBatch,
    JSONRPCBatch,
    MultipartBatch,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


formats: list[Format] = [JSONBatch(), MultipartBatch(relative=False), GraphQLArray(), JSONRPCBatch(), BodyArray("/b")]


def transports() -> None:
    """One transport fits the clients of both lines, and answers each in kind."""
    transport = BatchTransport(JSONBatch(), max_delay=None, retry=3, name="graph")
    httpx2.Client(transport=transport)
    httpx.Client(transport=transport)
    assert_type(transport.handle_request(httpx2.Request("GET", "http://h")), httpx2.Response)
    assert_type(transport.handle_request(httpx.Request("GET", "http://h")), httpx.Response)
    BatchTransport(JSONBatch(), transport=httpx2.HTTPTransport(http2=True))
    BatchTransport(JSONBatch(), transport=lambda: httpx.HTTPTransport(retries=1))
    BatchTransport(JSONBatch(), transport="http://h")  # type: ignore[arg-type]
    BatchTransport("/b")  # type: ignore[arg-type]


def adapters() -> None:
    """The adapter fits sessions of requests."""
    session = requests.Session()
    session.mount("https://", BatchAdapter(JSONBatch(), adapter=HTTPAdapter(max_retries=2)))
    assert_type(session.get("https://h"), requests.Response)


def clients() -> None:
    """An ApiClient is a client with the methods of its base."""
    client = ApiClient(
        "https://h", batch=JSONBatch(), retry=Retry(3), circuit_breaker=CircuitBreaker(), cache=True, timeout=7
    )
    assert_type(client.get("/x"), httpx2.Response)
    assert_type(client.status(), BatcherStatus)
    ApiClient("https://h")  # type: ignore[call-arg]


class Own(Format):
    """A format of a user's own."""

    def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
        """Return one request."""
        assert_type(requests[0].header("accept"), str | None)
        return self.envelope(requests, b"", "text/plain")

    def split(self, response: HTTPResponse, requests: Sequence[HTTPRequest]) -> list[HTTPResponse | Exception]:
        """Return a response for each."""
        assert_type(response.headers, tuple[tuple[str, str], ...])
        return [response for _ in requests]


def no_format(anything: Any) -> None:
    """What lacks a method can't be made."""

    class Half(Format):
        def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
            return anything  # type: ignore[no-any-return]

    Half("/b")  # type: ignore[abstract]
