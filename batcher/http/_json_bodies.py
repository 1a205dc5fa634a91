"""Which requests have a JSON body that can be put into another one as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher.http import _spans
from batcher.http._records import is_json, media_type

if TYPE_CHECKING:
    from batcher.http._records import HTTPRequest
    from batcher.http._spans import Value


def json_post(request: HTTPRequest, path: str) -> tuple[str, Value] | None:
    """Return the body of a POST of JSON to `path`, or None if the request is anything else."""
    if request.method != "POST" or request.target != path:
        return None
    return json_body(request)


def json_body(request: HTTPRequest) -> tuple[str, Value] | None:
    """Return the text and the value of a JSON body, or None if it isn't one."""
    if not is_json(media_type(request.headers)):
        return None
    try:
        return _spans.read(request.body)
    except ValueError:
        return None
