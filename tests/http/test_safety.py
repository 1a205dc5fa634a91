"""Injection: what could end its own place in a batch is refused before anything is built."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.http import HTTPRequest, UnsafeRequestError
from batcher.http._safety import check_request

EVIL = ["\r", "\n", "\0", "\r\nX: 1", "\x7f", "\x0b", "\u2028", "\u0100"]


def request(
    method: str = "GET", origin: str = "http://h", target: str = "/", name: str = "A", value: str = "b"
) -> HTTPRequest:
    """Return a request that is fine but for what is given."""
    return HTTPRequest(method, origin, target, ((name, value),))


def test_usual_requests_pass() -> None:
    """Tokens, printable paths, and values with spaces, tabs and latin-1 are fine."""
    check_request(request("M-SEARCH", "https://[::1]:8443", "/a%20b/$batch?x='{y}'", "X-A_b.c", "a\tb c \xe9"))
    check_request(HTTPRequest("GET", "http://h", "/"))


@pytest.mark.parametrize("evil", EVIL)
def test_line_ends_and_controls_are_refused_everywhere(evil: str) -> None:
    """CR, LF, NUL and their like are refused in a method, a name, a value and a path, and not shown (fault 42)."""
    for bad in (
        request(method=f"GET{evil}"),
        request(name=f"A{evil}"),
        request(value=f"b{evil}"),
        request(target=f"/x{evil}"),
        request(origin=f"http://h{evil}"),
    ):
        with pytest.raises(UnsafeRequestError) as caught:
            check_request(bad)
        assert evil not in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        request(method=""),
        request(method="GET /x HTTP/1.1"),
        request(name=""),
        request(name="A:"),
        request(target=""),
        request(target="x"),
        request(target="/a b"),
        request(origin="h"),
        request(origin="http://"),
        request(origin="http://h/x"),
    ],
    ids=["no-method", "spaces", "no-name", "colon", "no-path", "relative", "space", "no-scheme", "no-host", "path"],
)
def test_shapes_that_are_none_are_refused(bad: HTTPRequest) -> None:
    """A method or name that is no token, and a path or origin of another shape, are refused."""
    with pytest.raises(UnsafeRequestError):
        check_request(bad)


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_what_passes_stays_on_its_line(method: str, target: str, name: str, value: str) -> None:
    """Whatever passes can be written on one line of its own in latin-1, and is read back from there."""
    given_request = request(method=method, target=target, name=name, value=value)
    try:
        check_request(given_request)
    except UnsafeRequestError:
        return
    lines = f"{method} {target} HTTP/1.1\r\n{name}: {value}".encode("latin-1").splitlines()
    assert len(lines) == 2
    assert lines[0].decode("latin-1").split(" ") == [method, target, "HTTP/1.1"]
    assert lines[1].decode("latin-1").partition(": ")[::2] == (name, value)
