"""Bulk endpoints: JSON bodies in one array."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher.http import _spans
from batcher.http._errors import BatchReplyError
from batcher.http._format import Format, each, reply_headers
from batcher.http._json_bodies import json_post
from batcher.http._records import HTTPResponse, is_json, media_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batcher.http._records import HTTPRequest


class BodyArray(Format):
    """POSTs of JSON to one path become one: a body that is an array gives its values, any other body itself.

    The reply is an array as long as all values together, of which each caller gets its own: an array if
    it sent one, else a single value. Or it is anything but an array: then it is everybody's. An array of
    another length fails all.
    """

    def accepts(self, request: HTTPRequest) -> bool:
        """Take POSTs of JSON to the endpoint."""
        return json_post(request, self.path) is not None

    def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
        """Put all values into one array."""
        values = [value for request in requests for value in _values(request)]
        return self.envelope(requests, f"[{','.join(values)}]".encode(), "application/json")

    def split(self, response: HTTPResponse, requests: Sequence[HTTPRequest]) -> list[HTTPResponse | Exception]:
        """Give each caller as many results as it sent values, or all of them the one reply."""
        if not response.body or not is_json(media_type(response.headers)):
            return list(each(response, requests))
        text, reply = _spans.read(response.body)
        if not isinstance(reply.content, list):
            return list(each(response, requests))
        results = [_spans.raw(text, value) for value in _spans.elements(text, reply)]
        counts = [len(_values(request)) for request in requests]
        if len(results) != sum(counts):
            raise BatchReplyError(f"expected {sum(counts)} results, got {len(results)}")
        headers = reply_headers(response, requests)
        answers: list[HTTPResponse | Exception] = []
        for request, count in zip(requests, counts, strict=True):
            own, results = results[:count], results[count:]
            body = f"[{','.join(own)}]" if _is_array(request) else own[0]
            answers.append(HTTPResponse(response.status, headers, body.encode(), response.reason))
        return answers


def _values(request: HTTPRequest) -> list[str]:
    """Return the values that a request's body gives to the array."""
    text, body = _spans.read(request.body)
    if isinstance(body.content, list):
        return [_spans.raw(text, value) for value in _spans.elements(text, body)]
    return [_spans.raw(text, body)]


def _is_array(request: HTTPRequest) -> bool:
    return request.body.lstrip().startswith(b"[")
