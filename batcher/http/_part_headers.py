"""The headers of a part, on its way to the server and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher.http._sharing import ENVELOPE_HEADERS, MESSAGE_HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batcher.http._records import Headers, HTTPRequest

# Without it an OData server stops at the first part that fails, and leaves the rest unanswered. 4.01 has
# dropped the prefix that 4.0 gave the word.
CONTINUE_ON_ERROR = "continue-on-error, odata.continue-on-error"

_LOWEST_STATUS, _HIGHEST_STATUS = 100, 599


def part_headers(request: HTTPRequest) -> Headers:
    """Return the headers that go onto a part: neither credentials nor what belongs to the connection."""
    elsewhere = ENVELOPE_HEADERS | MESSAGE_HEADERS
    return tuple(pair for pair in request.headers if pair[0].lower() not in elsewhere)


def reply_part_headers(pairs: Iterable[tuple[str, str]], body: bytes, dropped: Iterable[str] = ()) -> Headers:
    """Return the headers that a part's answer has for its caller, with the length that the body really has."""
    gone = MESSAGE_HEADERS.union(dropped, {"content-id"})
    if not body:
        gone -= {"content-length"}  # the answer to a HEAD says how long a GET's would be
    kept = tuple(pair for pair in pairs if pair[0].lower() not in gone)
    return (*kept, ("Content-Length", str(len(body)))) if body else kept


def is_status(value: object) -> bool:
    """Say whether a value read from a reply is a status code; numbers come as text."""
    return isinstance(value, str) and value.isdecimal() and _LOWEST_STATUS <= int(value[:9]) <= _HIGHEST_STATUS
