"""Records: what every client and every format can read."""

from batcher.http import HTTPRequest, HTTPResponse
from batcher.http._records import is_json, media_type

SECRET = "unseen"  # noqa: S105 - of nothing


def test_repr_shows_no_content() -> None:
    """What users send and receive doesn't get into a log by way of repr, and control characters are escaped."""
    request = HTTPRequest("GE\r\nT", "http://h", f"/{SECRET}", (("Authorization", SECRET),), SECRET.encode())
    response = HTTPResponse(200, (("Set-Cookie", SECRET),), SECRET.encode())

    assert repr(request) == r"<HTTPRequest 'GE\r\nT', 1 headers, 6 bytes>"
    assert repr(response) == "<HTTPResponse 200, 1 headers, 6 bytes>"


def test_headers_are_found_in_any_case() -> None:
    """A header is found whatever its case; several of one name come joined."""
    request = HTTPRequest("GET", "http://h", "/a?b=c", (("Accept", "x"), ("accept", "y")))

    assert request.header("ACCEPT") == "x, y"
    assert request.header("Host") is None
    assert (request.path, request.url) == ("/a", "http://h/a?b=c")


def test_headers_are_left_out_in_any_case() -> None:
    """A response without some headers keeps the others in order."""
    response = HTTPResponse(200, (("A", "1"), ("Set-Cookie", "x"), ("B", "2"), ("set-cookie", "y")))

    assert response.without(["set-cookie"]) == HTTPResponse(200, (("A", "1"), ("B", "2")))


def test_media_types() -> None:
    """Parameters and case don't count, and "+json" is JSON."""
    assert media_type((("Content-Type", "Application/JSON; charset=utf-8"),)) == "application/json"
    assert media_type(()) == ""
    assert [is_json(kind) for kind in ("application/json", "application/problem+json", "text/json")] == [
        True,
        True,
        False,
    ]
