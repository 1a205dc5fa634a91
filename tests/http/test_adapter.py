"""BatchAdapter: what is special to requests."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests
from urllib3 import Timeout
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from batcher import QueueFullError
from batcher.errors import HandlerTimeoutError
from batcher.http import BatchAdapter, HTTPResponse, JSONBatch, _requests
from batcher.http._timeouts import Timeouts
from tests.forks import FORKS, in_child
from tests.http.batch_server import JSON_BATCH, BatchServer

if TYPE_CHECKING:
    from collections.abc import Callable


def prepared(url: str = "http://h/x", **options: Any) -> requests.PreparedRequest:
    """Return a request as a session prepares it."""
    return requests.Request("POST", url, **options).prepare()


def test_urls_are_taken_apart() -> None:
    """Origins are told by scheme, host and port, whatever else stands there; the path stays as it is."""
    for url, origin, target in (
        ("HTTP://Ada:secret@Host.example:80/a/b?c=d#e", "http://host.example", "/a/b?c=d"),
        ("https://h:443", "https://h", "/"),
        ("https://h:8443/x", "https://h:8443", "/x"),
    ):
        record = _requests.read_request(prepared(url))
        assert record is not None
        assert (record.origin, record.target) == (origin, target)


@pytest.mark.parametrize("body", [iter([b"x"]), object()], ids=["iterator", "object"])
def test_bodies_that_are_not_there_yet_go_alone(body: object) -> None:
    """Only bytes and text can be put into a batch."""
    request = prepared()
    request.body = body  # type: ignore[assignment]

    assert _requests.read_request(request) is None


def test_half_made_requests_go_alone() -> None:
    """What has no method or no HTTP address is for requests to judge."""
    assert _requests.read_request(requests.PreparedRequest()) is None
    request = prepared()
    request.method = None
    assert _requests.read_request(request) is None
    request = prepared()
    request.url = "file:///etc/passwd"
    assert _requests.read_request(request) is None


def test_text_and_bytes_are_the_same() -> None:
    """Headers and bodies may be text or bytes; a line break in an address is kept, for others to refuse."""
    request = prepared(data="ä", headers={"X-A": b"1"})
    request.url = "http://h/x\r\ny"
    record = _requests.read_request(request)

    assert record is not None
    assert (record.body, record.header("x-a"), record.target) == ("ä".encode(), "1", "/x\r\ny")


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (None, Timeouts()),
        (3, Timeouts(3.0, 3.0)),
        ((1, 2), Timeouts(1.0, 2.0)),
        ((None, 2), Timeouts(None, 2.0)),
        (Timeout(connect=1, read=2), Timeouts(1.0, 2.0)),
        (Timeout(total=5), Timeouts(5.0, 5.0)),
        (Timeout(connect=1), Timeouts(1.0, None)),
        ((1, 2, 3), None),
        ("soon", None),
        (-1, None),
    ],
)
def test_timeouts_in_every_form(timeout: object, expected: Timeouts | None) -> None:
    """A number, a pair, and urllib3's own; what is none of these is for requests to refuse."""
    found = _requests.read_timeouts(timeout)

    # What urllib3 has left of a total counts down from here on.
    assert found == (None if expected is None else pytest.approx(expected, abs=0.5))


def test_nonsense_is_refused_by_requests_itself(server: BatchServer) -> None:
    """A timeout that means nothing is the error that requests has for it."""
    with requests.Session() as session:
        session.mount("http://", BatchAdapter(JSONBatch(JSON_BATCH)))
        with pytest.raises(ValueError, match="timeout"):
            session.get(f"{server.url}/v1/x", timeout=(1, 2, 3))  # type: ignore[arg-type]
    assert not server.calls


def test_certificates_and_proxies_split() -> None:
    """Requests with another certificate, another verification or another proxy are other calls (fault 36)."""
    adapter = requests.adapters.HTTPAdapter()

    def key(*, verify: Any = True, cert: Any = None, proxies: Any = None) -> object:
        return _requests.RequestsRoute(adapter, verify=verify, cert=cert, proxies=proxies).key

    keys = {
        key(),
        key(verify=False),
        key(verify="/ca"),
        key(cert="/a.pem"),
        key(cert=["/a.pem", "/a.key"]),
        key(proxies={"http": "http://ada:1@proxy"}),
        key(proxies={"http": "http://bob:2@proxy"}),
    }
    assert len(keys) == 7
    assert key(cert=["/a", "/b"]) == key(cert=("/a", "/b"))


def test_what_was_never_sent() -> None:
    """Only where no connection came about has the server seen nothing."""
    route = _requests.RequestsRoute(requests.adapters.HTTPAdapter(), verify=True, cert=None, proxies=None)
    refused = MaxRetryError(None, "/", NewConnectionError(None, "refused"))  # type: ignore[arg-type]

    assert route.never_sent(requests.ConnectTimeout())
    assert route.never_sent(requests.ConnectionError(refused))
    assert not route.never_sent(requests.ConnectionError(ProtocolError("reset")))
    assert not route.never_sent(requests.ConnectionError())
    assert not route.never_sent(requests.ReadTimeout())


def test_what_the_batcher_decides_has_a_name_in_requests() -> None:
    """No room is a Timeout, a handler that hangs a ReadTimeout; errors of nobody stay what they are."""
    request = prepared()
    for error, kind in (
        (QueueFullError("full"), requests.Timeout),
        (HandlerTimeoutError("late"), requests.ReadTimeout),
    ):
        found = _requests.client_error(request, error)
        assert type(found) is kind
        assert isinstance(found, requests.RequestException)
        assert (found.request, found.__cause__) == (request, error)
    stranger = KeyError("x")
    assert _requests.client_error(request, stranger) is stranger


def test_answers_are_like_any_other() -> None:
    """An answer can be streamed, closed, and asked for its cookies and repeated headers."""
    answer = _requests.make_response(
        requests.adapters.HTTPAdapter(),
        requests.Request("GET", "http://h/x").prepare(),
        HTTPResponse(200, (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-A", "1")), b"body", "Fine"),
    )

    assert dict(answer.cookies) == {"a": "1", "b": "2"}
    assert (answer.reason, answer.headers["x-a"], answer.raw.version) == ("Fine", "1", 11)
    assert list(answer.iter_content(2)) == [b"bo", b"dy"]
    answer.close()


@pytest.mark.parametrize("fork", FORKS)
def test_a_forked_child_has_connections_of_its_own(server: BatchServer, fork: Callable[[], int]) -> None:
    """Parent and child go on after a fork, each on connections of its own."""
    with requests.Session() as session:
        batching = BatchAdapter(JSONBatch(JSON_BATCH))
        session.mount(server.url, batching)
        session.get(f"{server.url}/v1/before")
        before = id(batching._adapter)

        def ask() -> tuple[int, Any, bool]:
            answer = session.get(f"{server.url}/v1/child").json()["path"]
            is_inherited = id(batching._adapter) == before
            session.close()
            return os.getpid(), answer, is_inherited

        pid, path, is_inherited = in_child(ask, fork)
        assert (pid != os.getpid(), path, is_inherited) == (True, "/v1/child", False)
        assert session.get(f"{server.url}/v1/after").json()["path"] == "/v1/after"
        assert id(batching._adapter) == before


def test_a_forked_child_keeps_an_adapter_that_was_given(server: BatchServer) -> None:
    """What somebody else has made can't be made anew."""
    given = requests.adapters.HTTPAdapter()
    batching = BatchAdapter(JSONBatch(JSON_BATCH), adapter=given)
    try:
        assert in_child(lambda: batching._own_adapter() is given)
    finally:
        batching.close()


def test_without_requests_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where requests isn't installed, the error says what to install."""
    monkeypatch.setitem(sys.modules, "requests", None)
    monkeypatch.delitem(sys.modules, "batcher.http._requests")
    monkeypatch.delitem(sys.modules, "batcher.http._adapter")
    monkeypatch.delattr("batcher.http._requests")
    with pytest.raises(ImportError, match=r"pip install 'thread-batcher\[requests\]'"):
        importlib.import_module("batcher.http._adapter")
