"""HTTP: many requests become one.

A client of httpx2, httpx or requests changes one line, and calls that several threads make at once
travel in one call to a batch endpoint:

- `BatchTransport` for clients of httpx2 and httpx, `BatchAdapter` for sessions of requests;
- `ApiClient`, a client with batching, retries, a circuit breaker and a cache wired up;
- the formats `JSONBatch`, `MultipartBatch`, `GraphQLArray`, `JSONRPCBatch` and `BodyArray`, and `Format`
  for one of your own.

Needs the extra `http`, or the client that you have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batcher.http._body_array import BodyArray
from batcher.http._errors import BatchReplyError, UnsafeRequestError
from batcher.http._format import Format
from batcher.http._graphql import GraphQLArray
from batcher.http._json_batch import JSONBatch
from batcher.http._jsonrpc import JSONRPCBatch
from batcher.http._multipart import MultipartBatch
from batcher.http._records import HTTPRequest, HTTPResponse

if TYPE_CHECKING:
    from batcher.http._adapter import BatchAdapter
    from batcher.http._api_client import ApiClient
    from batcher.http._transport import BatchTransport

__all__ = [
    "ApiClient",
    "BatchAdapter",
    "BatchReplyError",
    "BatchTransport",
    "BodyArray",
    "Format",
    "GraphQLArray",
    "HTTPRequest",
    "HTTPResponse",
    "JSONBatch",
    "JSONRPCBatch",
    "MultipartBatch",
    "UnsafeRequestError",
]

# These import a client, and nobody has all of them.
_CLIENTS = {"ApiClient": "_api_client", "BatchAdapter": "_adapter", "BatchTransport": "_transport"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whichever is asked for
    """Import what needs a client when it is first asked for."""
    if name not in _CLIENTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only here

    return getattr(import_module(f"{__name__}.{_CLIENTS[name]}"), name)
