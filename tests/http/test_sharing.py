"""Keys: who may share a call, and whose answer may be another's (fault 36)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.http import HTTPRequest
from batcher.http._sharing import PART_HEADERS, must_go_alone, sharing_key, single_flight_key

NAMES = st.sampled_from(["Authorization", "Cookie", "X-API-Key", "Accept", "X-New", "authorization", "Prefer"])
HEADERS = st.lists(st.tuples(NAMES, st.sampled_from("ab")), max_size=3).map(tuple)


def get(*headers: tuple[str, str], origin: str = "http://h", target: str = "/x") -> HTTPRequest:
    """Return a GET with headers."""
    return HTTPRequest("GET", origin, target, headers)


@pytest.mark.parametrize(
    "name", ["Authorization", "Cookie", "Proxy-Authorization", "X-API-Key", "X-Never-Heard-Of", "User-Agent", "Host"]
)
def test_other_values_of_such_a_header_split(name: str) -> None:
    """Credentials, and any header that isn't known to be harmless, keep requests apart."""
    keys = {
        sharing_key(request, PART_HEADERS) for request in (get((name, "a")), get((name, "b")), get(), get((name, "")))
    }

    assert len(keys) == 4


@pytest.mark.parametrize("name", ["Accept", "If-None-Match", "traceparent", "Content-Length", "Accept-Encoding"])
def test_other_values_of_a_harmless_header_share(name: str) -> None:
    """What travels on the part, or belongs to the message, keeps nobody apart."""
    assert sharing_key(get((name, "a")), PART_HEADERS) == sharing_key(get(), PART_HEADERS)


def test_parts_without_headers_share_only_with_equal_headers() -> None:
    """Where a part has no headers of its own, Accept splits as well."""
    assert sharing_key(get(("Accept", "a")), frozenset()) != sharing_key(get(("Accept", "b")), frozenset())


def test_other_origins_split() -> None:
    """Another host, scheme or port is another call."""
    origins = ["http://h", "https://h", "http://h:81", "http://i"]

    assert len({sharing_key(get(origin=origin), PART_HEADERS) for origin in origins}) == 4


def test_order_counts_within_a_name_only() -> None:
    """Headers of different names may come in any order; equal names mean something by theirs."""
    one, two = ("X-A", "1"), ("X-B", "1")

    assert sharing_key(get(one, two), PART_HEADERS) == sharing_key(get(two, one), PART_HEADERS)
    assert sharing_key(get(one, ("x-a", "2")), PART_HEADERS) != sharing_key(get(("X-A", "2"), one), PART_HEADERS)


@given(HEADERS, HEADERS)
def test_who_shares_has_equal_credentials(one: tuple[tuple[str, str], ...], two: tuple[tuple[str, str], ...]) -> None:
    """Whatever the headers: requests that share a call agree in every header but the harmless ones."""

    def told(headers: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, value in headers:
            if name.lower() not in {"accept", "prefer"}:
                found.setdefault(name.lower(), []).append(value)
        return found

    share = sharing_key(get(*one), PART_HEADERS) == sharing_key(get(*two), PART_HEADERS)
    assert share == (told(one) == told(two))


def test_single_flight_is_for_equal_gets_and_heads() -> None:
    """One answer serves equal GETs or HEADs, headers included; nothing else, and none that has a body."""
    assert single_flight_key(get(("A", "1"), ("b", "2"))) == single_flight_key(get(("B", "2"), ("a", "1")))
    assert single_flight_key(get(("Accept", "1"))) != single_flight_key(get(("Accept", "2")))
    assert single_flight_key(get(target="/y")) != single_flight_key(get())
    assert single_flight_key(HTTPRequest("HEAD", "http://h", "/x")) not in {None, single_flight_key(get())}
    assert single_flight_key(HTTPRequest("POST", "http://h", "/x")) is None
    assert single_flight_key(HTTPRequest("GET", "http://h", "/x", (), b"{}")) is None


@pytest.mark.parametrize(
    "request_",
    [
        HTTPRequest("CONNECT", "http://h", "/x"),
        HTTPRequest("trace", "http://h", "/x"),
        get(("Connection", "keep-alive, Upgrade")),
        get(("Upgrade", "websocket")),
        get(("Content-ID", "1")),
        get(("X-HTTP-Method-Override", "DELETE")),
        get(("Content-Encoding", "gzip")),
    ],
    ids=["connect", "trace", "connection", "upgrade", "content-id", "override", "compressed"],
)
def test_what_means_something_else_in_a_batch_goes_alone(request_: HTTPRequest) -> None:
    """An upgrade, another method in a header, or an id of the caller's own never gets into a batch."""
    assert must_go_alone(request_)
    assert not must_go_alone(get(("Connection", "keep-alive")))
