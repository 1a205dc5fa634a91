"""JSON-RPC 2.0: calls in an array, answers matched by id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher.http import _spans
from batcher.http._errors import BatchReplyError
from batcher.http._format import Format, IdMatcher, reply_headers
from batcher.http._json_bodies import json_post
from batcher.http._records import HTTPResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batcher.http._records import Headers, HTTPRequest
    from batcher.http._spans import Value

_NOTIFICATION_STATUS = 204


class JSONRPCBatch(Format):
    """JSON-RPC calls that are POSTed one by one become a batch of JSON-RPC 2.0 (its section 6).

    Callers number their calls as they like: inside a batch each call gets an id of its own, and the
    answer comes back with the caller's. A notification, a call without an id, has no answer: it gets the
    status 204. A body that is an array already goes unbatched. By default at most 100 calls.
    """

    def __init__(
        self, path: str = "/rpc", *, max_batch_size: int | None = None, max_part_bytes: int | None = None
    ) -> None:
        """Speak to the endpoint at `path`; options as in `Format`."""
        super().__init__(path, max_batch_size=max_batch_size, max_part_bytes=max_part_bytes)

    def accepts(self, request: HTTPRequest) -> bool:
        """Take POSTs of a JSON object to the endpoint."""
        body = json_post(request, self.path)
        return body is not None and isinstance(body[1].content, dict)

    def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
        """Put the calls into an array, numbered from 1."""
        calls = [_with_id(*_spans.read(request.body), str(number)) for number, request in enumerate(requests, start=1)]
        return self.envelope(requests, f"[{','.join(calls)}]".encode(), "application/json")

    def split(self, response: HTTPResponse, requests: Sequence[HTTPRequest]) -> list[HTTPResponse | Exception]:
        """Give each caller the answer to its id, under the id that it had itself."""
        ids = [_own_id(request) for request in requests]
        headers = reply_headers(response, requests)
        silence = HTTPResponse(_NOTIFICATION_STATUS, tuple(p for p in headers if p[0].lower() != "content-type"))
        if not response.body.strip():
            missing = BatchReplyError("the reply to the batch is empty")
            return [silence if own is None else missing for own in ids]
        text, reply = _spans.read(response.body)
        if isinstance(reply.content, dict):
            # The batch itself was refused: the answer is everybody's.
            return [silence if own is None else _answer(response, headers, _with_id(text, reply, own)) for own in ids]
        if not isinstance(reply.content, list):
            raise BatchReplyError(f"expected an array, got {type(reply.content).__name__}")
        places = {str(number): own for number, own in enumerate(ids, start=1) if own is not None}
        found = IdMatcher(list(places))
        for part in _spans.elements(text, reply):
            number = part.content.get("id") if isinstance(part.content, dict) else None
            own = places.get(number) if isinstance(number, str) else None
            if own is None:
                found.add(None, BatchReplyError("unknown"))
            else:
                found.add(number, _answer(response, headers, _with_id(text, part, own)))
        answers = iter(found.answers())
        return [silence if own is None else next(answers) for own in ids]


def _answer(response: HTTPResponse, headers: Headers, body: str) -> HTTPResponse:
    return HTTPResponse(response.status, headers, body.encode(), response.reason)


def _own_id(request: HTTPRequest) -> str | None:
    """Return the id that the caller gave its call, as it stands in the text; None for a notification."""
    text, call = _spans.read(request.body)
    return next((_spans.raw(text, value) for name, value in reversed(_spans.members(text, call)) if name == "id"), None)


def _with_id(text: str, obj: Value, new: str) -> str:
    """Return an object's text with another id, if it has one; a repeated one is replaced as often."""
    pieces = []
    position = obj.start
    for name, value in _spans.members(text, obj):
        if name == "id":
            pieces += [text[position : value.start], new]
            position = value.end
    return "".join(pieces) + text[position : obj.end]
