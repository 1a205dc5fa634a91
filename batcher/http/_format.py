"""What a wire format has to say; everything else about batching HTTP is the same for all of them."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from batcher._options import check_count
from batcher.http._errors import BatchReplyError
from batcher.http._records import HTTPRequest, HTTPResponse
from batcher.http._sharing import MESSAGE_HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batcher.http._records import Headers

_logger = logging.getLogger("batcher")

# What a reply's headers say of the envelope, and of no part.
_REPLY_ENVELOPE = ("connection", "content-encoding", "content-length", "keep-alive", "trailer", "transfer-encoding")


class Format(ABC):
    r"""One wire format: how requests become one, and its reply one reply each.

    To write one of your own, say what `accepts` lets in and implement `combine` and `split`. You get
    requests that may share a call: they go to one origin, with equal headers but for `part_headers`, and
    nothing in their methods, paths and headers can end a line. A reply whose status isn't 2xx never comes
    to `split`: it is everybody's reply.

    Thread safety: `combine` and `split` are called by several threads at once.

    Attributes:
        path: The path of the batch endpoint, absolute on the origin.
        max_batch_size: The most requests of one call.
        max_part_bytes: A request with a longer body goes alone.
        part_headers: Lower-case names of the headers that travel on a part, and so may differ within
            a call. Empty for formats whose parts have no headers.

    Example:
        >>> from batcher.http import Format, HTTPRequest, HTTPResponse
        >>> class Lines(Format):
        ...     '''GETs of /one/<word> become one POST of words, one a line.'''
        ...
        ...     def accepts(self, request):
        ...         return request.method == "GET" and request.path.startswith("/one/")
        ...
        ...     def combine(self, requests):
        ...         words = "\n".join(request.path.removeprefix("/one/") for request in requests)
        ...         return self.envelope(requests, words.encode(), "text/plain")
        ...
        ...     def split(self, response, requests):
        ...         return [HTTPResponse(200, body=line) for line in response.body.splitlines()]
        >>> lines = Lines("/many", max_batch_size=50)
        >>> lines.combine([HTTPRequest("GET", "http://h", "/one/a"), HTTPRequest("GET", "http://h", "/one/b")]).body
        b'a\nb'
    """

    max_batch_size: int = 100
    max_part_bytes: int = 65_536
    part_headers: frozenset[str] = frozenset()

    def __init__(self, path: str, *, max_batch_size: int | None = None, max_part_bytes: int | None = None) -> None:
        """Speak to the endpoint at `path`.

        Args:
            path: Absolute on the origin, without a query.
            max_batch_size: The most requests of one call. None: what known servers of the format take.
            max_part_bytes: The longest body, in bytes, that is batched. None: 65,536.

        Raises:
            TypeError: An option has the wrong type.
            ValueError: An option is out of range, or `path` isn't absolute.
        """
        if not isinstance(path, str):
            raise TypeError(f"path must be a str, got {path!r}")
        if not path.startswith("/") or path.startswith("//") or "?" in path:
            raise ValueError(f"path must start with one slash and have no query, got {path!r}")
        self.path = path
        if max_batch_size is not None:
            self.max_batch_size = check_count("max_batch_size", max_batch_size)
        if max_part_bytes is not None:
            self.max_part_bytes = check_count("max_part_bytes", max_part_bytes)

    def accepts(self, request: HTTPRequest) -> bool:
        """Say whether the request can travel in this format; one that can't goes alone, unchanged."""
        return request.path != self.path

    @abstractmethod
    def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
        """Return the one request that carries all of `requests`, which are one or more."""

    @abstractmethod
    def split(self, response: HTTPResponse, requests: Sequence[HTTPRequest]) -> Sequence[HTTPResponse | Exception]:
        """Return one response for each of `requests`, in their order.

        An exception in a response's place fails that request alone; `BatchReplyError` is for one that
        the reply doesn't answer. Raising fails all.
        """

    def envelope(
        self, requests: Sequence[HTTPRequest], body: bytes, content_type: str, headers: Headers = ()
    ) -> HTTPRequest:
        """Return a POST to `path` with the headers that the requests share, credentials included.

        Args:
            requests: What the body carries.
            body: The body.
            content_type: Its Content-Type.
            headers: More headers; they replace shared ones of the same name.
        """
        first = requests[0]
        extra = (("Content-Type", content_type), *headers)
        # Which compressions the reply may have is a matter between the client and the server.
        own = MESSAGE_HEADERS - {"accept-encoding"}
        replaced = own | self.part_headers | {name.lower() for name, _ in extra}
        shared = tuple((name, value) for name, value in first.headers if name.lower() not in replaced)
        return HTTPRequest("POST", first.origin, self.path, (*shared, *extra), body)


class IdMatcher:
    """Matches answers to requests by id, whatever their order."""

    def __init__(self, ids: Sequence[str]) -> None:
        """Wait for an answer to each of `ids`."""
        self._ids = ids
        self._found: dict[str, HTTPResponse | Exception] = dict.fromkeys(ids, _MISSING)
        self._ignored = 0

    def add(self, answer_id: object, answer: HTTPResponse | Exception) -> None:
        """Take an answer; one that nobody, or that somebody who has one already, waits for is ignored."""
        if isinstance(answer_id, str) and self._found.get(answer_id) is _MISSING:
            self._found[answer_id] = answer
        else:
            self._ignored += 1

    def answers(self) -> list[HTTPResponse | Exception]:
        """Return the answers in the order of the ids, and log how many had no place."""
        if self._ignored:
            _logger.warning(
                "a reply to a batch of %d requests has %d answers with an unknown or repeated id; they are ignored",
                len(self._ids),
                self._ignored,
            )
        found = (self._found[wanted] for wanted in self._ids)
        return [
            BatchReplyError("the reply to the batch has no answer for this request") if a is _MISSING else a
            for a in found
        ]


_MISSING = BatchReplyError("missing")


def reply_headers(response: HTTPResponse, requests: Sequence[HTTPRequest]) -> Headers:
    """Return the headers of a reply whose parts have none of their own, for each of the parts.

    A cookie in it is nobody's in particular, unless there is only one caller.
    """
    dropped = _REPLY_ENVELOPE if len(requests) == 1 else (*_REPLY_ENVELOPE, "set-cookie")
    if len(requests) > 1 and response.header("set-cookie") is not None:
        _logger.warning(
            "a reply to a batch of %d requests sets a cookie for none of them; it is ignored", len(requests)
        )
    return response.without(dropped).headers


def each(response: HTTPResponse, requests: Iterable[HTTPRequest]) -> list[HTTPResponse]:
    """Return one reply for all as the reply of each, without its cookies if there are several."""
    wanted = list(requests)
    return [HTTPResponse(response.status, reply_headers(response, wanted), response.body, response.reason)] * len(
        wanted
    )
