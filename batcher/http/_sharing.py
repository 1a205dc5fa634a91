"""Who may share a call, and whose GET may be answered by another's.

Two requests share a call only if they go to one origin with equal headers, but for those that travel on
the part itself. So a header that nobody here has heard of keeps requests apart: it may be a credential.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from batcher.http._records import Headers, HTTPRequest

# They belong to one message on one connection: the envelope and each reply get their own.
MESSAGE_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding"}
)
# They say who is asking: for the envelope, never for a part.
CREDENTIAL_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})
# They say where the envelope goes and who wrote it.
ENVELOPE_HEADERS = CREDENTIAL_HEADERS | {"host", "user-agent"}
# Known to say nothing about who is asking: in formats whose parts have headers, each part brings its own.
PART_HEADERS = frozenset(
    {
        "accept",
        "accept-charset",
        "accept-language",
        "cache-control",
        "client-request-id",
        "consistencylevel",
        "content-language",
        "content-type",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "odata-maxversion",
        "odata-version",
        "pragma",
        "prefer",
        "range",
        "return-client-request-id",
        "traceparent",
        "tracestate",
        "x-correlation-id",
        "x-request-id",
    }
)
# They would change what the envelope, or another part, means.
LONE_HEADERS = frozenset(
    {
        "content-encoding",
        "content-id",
        "expect",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
    }
)
_SHAREABLE_METHODS = frozenset({"GET", "HEAD"})


def sharing_key(request: HTTPRequest, part_headers: frozenset[str]) -> Hashable:
    """Return what is equal for two requests exactly if they may travel in one call."""
    return request.origin, shared_headers(request, part_headers)


def shared_headers(request: HTTPRequest, part_headers: frozenset[str]) -> Headers:
    """Return the headers that all requests of a call have in common: lower-case names, sorted by them."""
    own = MESSAGE_HEADERS | part_headers
    shared = [(name.lower(), value) for name, value in request.headers if name.lower() not in own]
    # By name alone: the order of equal names has a meaning.
    return tuple(sorted(shared, key=lambda pair: pair[0]))


def single_flight_key(request: HTTPRequest) -> Hashable | None:
    """Return what is equal for two requests if one answer serves both; None: this one is never shared."""
    if request.method not in _SHAREABLE_METHODS or request.body:
        return None
    headers = sorted(((name.lower(), value) for name, value in request.headers), key=lambda pair: pair[0])
    return request.method, request.origin, request.target, tuple(headers)


def must_go_alone(request: HTTPRequest) -> bool:
    """Say whether the request means something else inside a batch, or isn't HTTP as a batch knows it."""
    if request.method.upper() in {"CONNECT", "TRACE"}:
        return True
    return any(
        name.lower() in LONE_HEADERS or (name.lower() == "connection" and "upgrade" in value.lower())
        for name, value in request.headers
    )
