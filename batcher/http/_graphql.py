"""GraphQL: operations in an array."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher.http import _spans
from batcher.http._errors import BatchReplyError
from batcher.http._format import Format, reply_headers
from batcher.http._json_bodies import json_post
from batcher.http._records import HTTPResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batcher.http._records import HTTPRequest


class GraphQLArray(Format):
    """GraphQL operations that are POSTed as JSON objects become one array; the reply is an array as long.

    Answers have no ids, so a reply of another length fails all. Servers that take arrays have to be told:
    strawberry by `batching_config`, Apollo by `allowBatchedHttpRequests`. Each operation's errors are in
    its own answer, whose status is that of the whole. By default at most 10 operations a call.
    """

    max_batch_size = 10

    def __init__(
        self, path: str = "/graphql", *, max_batch_size: int | None = None, max_part_bytes: int | None = None
    ) -> None:
        """Speak to the endpoint at `path`; options as in `Format`."""
        super().__init__(path, max_batch_size=max_batch_size, max_part_bytes=max_part_bytes)

    def accepts(self, request: HTTPRequest) -> bool:
        """Take POSTs of a JSON object to the endpoint."""
        body = json_post(request, self.path)
        return body is not None and isinstance(body[1].content, dict)

    def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
        """Put the operations into an array."""
        return self.envelope(requests, b"[%b]" % b",".join(r.body for r in requests), "application/json")

    def split(self, response: HTTPResponse, requests: Sequence[HTTPRequest]) -> list[HTTPResponse | Exception]:
        """Take the array apart."""
        text, reply = _spans.read(response.body)
        if not isinstance(reply.content, list):
            raise BatchReplyError(f"expected an array of {len(requests)} results, got {type(reply.content).__name__}")
        if len(reply.content) != len(requests):
            raise BatchReplyError(f"expected {len(requests)} results, got {len(reply.content)}")
        headers = reply_headers(response, requests)
        return [
            HTTPResponse(response.status, headers, _spans.raw(text, part).encode(), response.reason)
            for part in _spans.elements(text, reply)
        ]
