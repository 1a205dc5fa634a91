"""multipart/mixed batches as OData 4 and Google's APIs have them (OData 4.01 part 1, section 11.7.7)."""

from __future__ import annotations

import re
import secrets
from email.message import Message
from typing import TYPE_CHECKING

from batcher._options import check_flag
from batcher.http._errors import BatchReplyError
from batcher.http._format import Format, IdMatcher
from batcher.http._part_headers import CONTINUE_ON_ERROR, is_status, part_headers, reply_part_headers
from batcher.http._paths import folder_of, relative_target, rooted_target
from batcher.http._records import HTTPResponse, find_header
from batcher.http._sharing import PART_HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batcher.http._records import Headers, HTTPRequest

_STATUS_LINE = re.compile(r"HTTP/\d(?:\.\d)? +(?P<status>\d{3})(?: +(?P<reason>.*))?\Z")
_LINE_END = re.compile(rb"\r?\n")


class MultipartBatch(Format):
    """Requests become the parts of a multipart/mixed body, as OData 4 and Google's APIs understand it.

    Parts are written relative to the folder of `path`: with "/service/$batch" a GET of
    "/service/users/1" is "users/1", and what lies outside the folder goes alone. Google's endpoints lie
    beside what they serve: `MultipartBatch("/batch/drive/v3", relative=False)` writes "/drive/v3/files",
    and takes every path of the origin. By default at most 100 parts, as Google has it.
    """

    part_headers = PART_HEADERS

    def __init__(
        self,
        path: str = "/batch",
        *,
        relative: bool = True,
        max_batch_size: int | None = None,
        max_part_bytes: int | None = None,
    ) -> None:
        """Speak to the endpoint at `path`.

        Args:
            path: As in `Format`.
            relative: Write parts relative to the folder of `path`. False: write absolute paths.
            max_batch_size: As in `Format`.
            max_part_bytes: As in `Format`.
        """
        super().__init__(path, max_batch_size=max_batch_size, max_part_bytes=max_part_bytes)
        check_flag("relative", relative)
        self._folder = folder_of(path) if relative else None
        # OData reads "$<id>" in a path or body as what another part has made: no caller can know this one.
        self._mark = secrets.token_hex(8)

    def accepts(self, request: HTTPRequest) -> bool:
        """Take what lies in the folder."""
        return request.path != self.path and self._reference(request) is not None

    def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
        """Write all parts into one body."""
        parts = [self._part(number, request) for number, request in enumerate(requests)]
        boundary = f"batch_{secrets.token_hex(16)}"
        while any(boundary.encode() in part for part in parts):
            boundary = f"batch_{secrets.token_hex(16)}"
        delimiter = f"--{boundary}".encode()
        body = b"".join(b"%b\r\n%b\r\n" % (delimiter, part) for part in parts) + delimiter + b"--\r\n"
        accept = (("Accept", "multipart/mixed"), ("Prefer", CONTINUE_ON_ERROR))
        return self.envelope(requests, body, f"multipart/mixed; boundary={boundary}", accept)

    def split(self, response: HTTPResponse, requests: Sequence[HTTPRequest]) -> list[HTTPResponse | Exception]:
        """Find each part's answer by its Content-ID."""
        found = IdMatcher([self._id(number) for number in range(len(requests))])
        for part in _parts(response):
            outer, content = _read_headers(_cut_line(part)[1])
            line, rest = _cut_line(content.lstrip(b"\r\n"))
            inner, body = _read_headers(rest)
            found.add(_content_id(outer) or _content_id(inner), _read_answer(line, inner, body))
        return found.answers()

    def _id(self, number: int) -> str:
        return f"{self._mark}{number}"

    def _reference(self, request: HTTPRequest) -> str | None:
        if self._folder is None:
            return rooted_target(request.target)
        return relative_target(request.target, self._folder)

    def _part(self, number: int, request: HTTPRequest) -> bytes:
        """Return one part without the boundaries around it."""
        lines = [
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            f"Content-ID: {self._id(number)}",
            "",
            f"{request.method} {self._reference(request)} HTTP/1.1",
            *(f"{name}: {value}" for name, value in part_headers(request)),
        ]
        if request.body:
            lines.append(f"Content-Length: {len(request.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


def _parts(response: HTTPResponse) -> Iterator[bytes]:
    """Yield what stands between two boundaries: a part that the end cuts off isn't one."""
    head = Message()
    head["Content-Type"] = response.header("content-type") or ""
    boundary = head.get_boundary()
    if head.get_content_maintype() != "multipart" or not boundary:
        raise BatchReplyError("the reply to the batch isn't multipart")
    delimiter = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary.encode()) + rb"(?P<last>--)?[ \t]*(?=\r?\n|\Z)")
    begin = None
    for found in delimiter.finditer(response.body):
        if begin is not None:
            yield response.body[begin : found.start()]
        if found["last"]:
            return
        begin = found.end()


def _read_headers(data: bytes) -> tuple[Headers, bytes]:
    """Return the headers that data begins with, and what follows the blank line after them."""
    pairs = []
    while data:
        line, data = _cut_line(data)
        if not line:
            break
        name, _, value = line.partition(":")
        pairs.append((name.strip(), value.strip()))
    return tuple(pairs), data


def _cut_line(data: bytes) -> tuple[str, bytes]:
    """Return the first line as text, and the rest."""
    found = _LINE_END.search(data)
    if found is None:
        return data.decode("latin-1"), b""
    return data[: found.start()].decode("latin-1"), data[found.end() :]


def _content_id(headers: Headers) -> str | None:
    """Return the id that a part has; Google puts brackets around it and a word in front."""
    value = find_header(headers, "content-id")
    return None if value is None else value.strip("<> ").removeprefix("response-")


def _read_answer(line: str, headers: Headers, body: bytes) -> HTTPResponse | Exception:
    """Return the response that a part holds."""
    found = _STATUS_LINE.match(line.strip())
    if found is None or not is_status(found["status"]):
        return BatchReplyError("the answer to this request has no status line")
    length = find_header(headers, "content-length")
    if length is not None and length.isdecimal() and not body[int(length[:18]) :].strip(b"\r\n"):
        body = body[: int(length[:18])]  # without a line break more than the boundary has in front
    return HTTPResponse(int(found["status"]), reply_part_headers(headers, body), body, found["reason"] or "")
