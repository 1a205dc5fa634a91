"""JSON batches as Microsoft Graph and OData 4.01 have them (OData-JSON 4.01, section 19)."""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING

from batcher.http import _spans
from batcher.http._errors import BatchReplyError
from batcher.http._format import Format, IdMatcher
from batcher.http._json_bodies import json_body
from batcher.http._part_headers import CONTINUE_ON_ERROR, is_status, part_headers, reply_part_headers
from batcher.http._paths import folder_of, relative_target
from batcher.http._records import HTTPResponse, find_header, is_json, media_type
from batcher.http._sharing import PART_HEADERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batcher.http._records import HTTPRequest
    from batcher.http._spans import Value


class JSONBatch(Format):
    """Requests become one JSON object, as Microsoft Graph and OData 4.01 understand it.

    Parts are written relative to the folder of `path`: with "/v1.0/$batch" a GET of "/v1.0/users/1" is
    "users/1". What lies outside the folder goes alone, and so does a body that is neither JSON nor text.
    By default at most 20 parts, as Graph has it.
    """

    max_batch_size = 20
    part_headers = PART_HEADERS

    def __init__(
        self, path: str = "/$batch", *, max_batch_size: int | None = None, max_part_bytes: int | None = None
    ) -> None:
        """Speak to the endpoint at `path`; options as in `Format`."""
        super().__init__(path, max_batch_size=max_batch_size, max_part_bytes=max_part_bytes)
        self._folder = folder_of(path)
        # OData reads "$<id>" in a path or body as what another part has made: no caller can know this one.
        self._mark = secrets.token_hex(8)

    def accepts(self, request: HTTPRequest) -> bool:
        """Take what lies in the folder, with a body that is JSON or text."""
        if request.path == self.path or relative_target(request.target, self._folder) is None:
            return False
        return not request.body or _written_body(request) is not None

    def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
        """Write all parts as one object."""
        parts = [self._part(number, request) for number, request in enumerate(requests)]
        body = f'{{"requests":[{",".join(parts)}]}}'.encode()
        return self.envelope(
            requests, body, "application/json", (("Accept", "application/json"), ("Prefer", CONTINUE_ON_ERROR))
        )

    def split(self, response: HTTPResponse, requests: Sequence[HTTPRequest]) -> list[HTTPResponse | Exception]:
        """Find each part's answer by its id."""
        text, reply = _spans.read(response.body)
        answers = None
        if isinstance(reply.content, dict):
            answers = next((v for name, v in _spans.members(text, reply) if name.lower() == "responses"), None)
        if answers is None or not isinstance(answers.content, list):
            raise BatchReplyError('the reply to the batch has no array "responses"')
        found = IdMatcher([self._id(number) for number in range(len(requests))])
        for part in _spans.elements(text, answers):
            if isinstance(part.content, dict):
                found.add(part.content.get("id"), _read_part(text, part))
            else:
                found.add(None, BatchReplyError("no object"))
        return found.answers()

    def _id(self, number: int) -> str:
        return f"{self._mark}{number}"

    def _part(self, number: int, request: HTTPRequest) -> str:
        """Return one part as JSON text."""
        members: dict[str, object] = {
            "id": self._id(number),
            "method": request.method,
            "url": relative_target(request.target, self._folder),
        }
        headers = part_headers(request)
        if headers:
            names = dict.fromkeys(name.lower() for name, _ in headers)
            members["headers"] = {name: find_header(headers, name) for name in names}
        text = json.dumps(members)
        # As it stands: JSON that is decoded and encoded again is other JSON.
        return f'{text[:-1]},"body":{_written_body(request)}}}' if request.body else text


def _written_body(request: HTTPRequest) -> str | None:
    """Return a body as it stands in the JSON, or None if it can't."""
    kind = media_type(request.headers)
    if is_json(kind):
        body = json_body(request)
        return None if body is None else _spans.raw(*body)
    if not kind.startswith("text/"):
        return None
    try:
        return json.dumps(request.body.decode("utf-8"))
    except UnicodeDecodeError:
        return None


def _read_part(text: str, part: Value) -> HTTPResponse | Exception:
    """Return the response that one member of the array stands for."""
    content = part.content
    if not is_status(content.get("status")):
        return BatchReplyError("the answer to this request has no status")
    given = content.get("headers")
    headers = given if isinstance(given, dict) else {}
    pairs = [
        (str(name), str(value))
        for name, values in headers.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    body = next((value for name, value in _spans.members(text, part) if name == "body"), None)
    kind = media_type(tuple(pairs))
    if not kind and body is not None and body.content is not None:
        pairs.append(("Content-Type", "application/json"))
        kind = "application/json"
    data = b"" if body is None or body.content is None else _body_bytes(text, body, kind)
    # What was compressed isn't any more.
    return HTTPResponse(int(content["status"]), reply_part_headers(pairs, data, {"content-encoding"}), data)


def _body_bytes(text: str, body: Value, kind: str) -> bytes:
    """Return a body: JSON as it stands, text as text, anything else from the base64 that stands for it."""
    if is_json(kind) or not isinstance(body.content, str):
        return _spans.raw(text, body).encode()
    plain = body.content.encode()
    if kind.startswith("text/"):
        return plain
    try:
        # Graph writes base64 as it is, OData the variant for URLs without padding.
        padded = plain.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
        return base64.b64decode(padded + b"=" * (-len(padded) % 4), validate=True)
    except ValueError:
        return plain
