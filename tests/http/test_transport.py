"""BatchTransport: what is special to the two lines of httpx."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from batcher import QueueFullError
from batcher.errors import HandlerTimeoutError
from batcher.http import BatchTransport, JSONBatch, _httpx
from tests.forks import FORKS, in_child
from tests.http.batch_server import JSON_BATCH, BatchServer, Reply
from tests.http.kinds import FULL
from tests.integration.clients import crowd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Self

LINES = [httpx2, httpx]


@pytest.fixture(params=LINES, ids=lambda line: line.__name__)
def line(request: pytest.FixtureRequest) -> Any:
    """Each line in turn."""
    return request.param


def test_both_lines_in_one_process(server: BatchServer) -> None:
    """One transport serves clients of both lines at once: each gets responses and errors of its own line."""
    with BatchTransport(JSONBatch(JSON_BATCH), max_batch_size=2, **FULL) as transport:

        def ask(number: int) -> Any:
            made = LINES[number % 2]
            return transport.handle_request(made.Request("GET", f"{server.url}/v1/{number}"))

        answers = crowd(4, ask)
        assert [type(answer) for answer in answers] == [httpx2.Response, httpx.Response] * 2
        assert [answer.read() and answer.json()["path"] for answer in answers] == [f"/v1/{n}" for n in range(4)]
    assert len(server.calls) == 2


def test_derived_requests_are_of_their_line(server: BatchServer, line: Any) -> None:
    """A class that somebody derives from a line's own belongs to that line."""
    derived = type("Derived", (line.Request,), {})
    with BatchTransport(JSONBatch(JSON_BATCH)) as transport:
        answer = transport.handle_request(derived("GET", f"{server.url}/v1/x"))

    assert type(answer) is line.Response


def test_strangers_are_refused() -> None:
    """What is of neither line can't be answered."""
    with BatchTransport(JSONBatch()) as transport, pytest.raises(TypeError, match="httpx2 or httpx object, got a str"):
        transport.handle_request("GET /")  # type: ignore[call-overload]


def test_is_a_transport_to_the_client() -> None:
    """It is a BaseTransport of the line that is tried first."""
    assert issubclass(BatchTransport, httpx2.BaseTransport)


def test_httpx_is_taken_where_there_is_no_httpx2(monkeypatch: pytest.MonkeyPatch) -> None:
    """httpx2 is tried first, then httpx; without both the error names the extra."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    assert _httpx.preferred_line() is httpx
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ImportError, match=r"pip install 'thread-batcher\[http\]'"):
        _httpx.preferred_line()


def test_a_broken_installation_is_not_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where httpx2 is there but lacks what it needs itself, that is what the error says."""

    def fail(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'httpcore2'", name="httpcore2")

    monkeypatch.setattr(_httpx, "import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="httpcore2"):
        _httpx.preferred_line()


def test_clients_are_imported_on_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the package needs no client, and what it doesn't have is an AttributeError."""
    package = importlib.import_module("batcher.http")

    assert package.BatchTransport is BatchTransport
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = package.Nonsense
    assert all(hasattr(package, name) for name in package.__all__)
    assert package.__all__ == sorted(package.__all__)


def test_a_request_with_extensions_of_its_own_goes_alone(server: BatchServer, line: Any) -> None:
    """A trace or another server name is meant for the request's own connection."""
    seen = []
    extensions = {"trace": lambda name, info: seen.append(name)}
    with line.Client(transport=BatchTransport(JSONBatch(JSON_BATCH))) as client:
        client.get(f"{server.url}/v1/x", extensions=extensions)

    assert seen
    assert [call.path for call in server.calls] == ["/v1/x"]


def test_errors_of_a_lone_request_are_untouched(server: BatchServer, line: Any) -> None:
    """What goes alone fails as it would without batching."""
    with (
        line.Client(transport=BatchTransport(JSONBatch("/folder/$batch"))) as client,
        pytest.raises(line.UnsupportedProtocol),
    ):
        client.get("ftp://127.0.0.1/x")


def test_answers_can_be_streamed(server: BatchServer, line: Any) -> None:
    """A caller may read its answer in pieces, as any other."""
    with (
        line.Client(transport=BatchTransport(JSONBatch(JSON_BATCH))) as client,
        client.stream("GET", f"{server.url}/v1/x") as answer,
    ):
        assert not answer.is_stream_consumed
        assert json.loads(b"".join(answer.iter_raw()))["path"] == "/v1/x"
    assert answer.http_version == "HTTP/1.1"


def test_words_of_a_status_are_kept(server: BatchServer, line: Any) -> None:
    """The words after a status are those that the server chose, and the usual ones where there are none."""
    server.whole = lambda call: Reply(503, b"")
    with line.Client(transport=BatchTransport(JSONBatch(JSON_BATCH))) as client:
        whole = client.get(f"{server.url}/v1/x")
        server.whole = lambda call: None
        part = client.get(f"{server.url}/v1/x")

    assert (whole.reason_phrase, part.reason_phrase) == ("Some Words", "OK")


def test_a_transport_that_is_given_is_entered_and_closed(server: BatchServer, line: Any) -> None:
    """Somebody's own transport is entered with the client, does the sending, and is closed with it."""

    class Given(line.BaseTransport):  # type: ignore[misc]
        def __init__(self) -> None:
            self.events: list[str] = []
            self.inner = line.HTTPTransport()

        def __enter__(self) -> Self:
            self.events.append("enter")
            return self

        def handle_request(self, request: Any) -> Any:
            self.events.append(request.url.path)
            return self.inner.handle_request(request)

        def close(self) -> None:
            self.events.append("close")
            self.inner.close()

    given = Given()
    with line.Client(transport=BatchTransport(JSONBatch(JSON_BATCH), transport=given)) as client:
        client.get(f"{server.url}/v1/x")
        client.get(f"{server.url}/elsewhere")

    assert given.events == ["enter", JSON_BATCH, "/elsewhere", "close"]


def test_what_the_batcher_decides_has_a_name_in_the_client(line: Any) -> None:
    """No room is a PoolTimeout, a handler that hangs a ReadTimeout; errors of nobody stay what they are."""
    request = line.Request("GET", "http://h/")

    for error, kind in ((QueueFullError("full"), line.PoolTimeout), (HandlerTimeoutError("late"), line.ReadTimeout)):
        found: Any = _httpx.client_error(request, error)
        assert type(found) is kind
        assert (found.request, found.__cause__) == (request, error)
    stranger = KeyError("x")
    assert _httpx.client_error(request, stranger) is stranger


def test_no_room_in_the_queue_is_no_room_in_the_pool(server: BatchServer, line: Any) -> None:
    """Where the queue has no room, a caller is told as by a full pool; one that is in it waits its time."""
    limits = {"timeout": {"connect": 0.1, "read": 0.1}}
    with BatchTransport(JSONBatch(JSON_BATCH), max_pending=1, overflow="raise", max_delay=0.1) as transport:
        transport._exchange._batcher.pause()

        def ask(number: int) -> type:
            try:
                transport.handle_request(line.Request("GET", f"{server.url}/v1/{number}", extensions=limits))
            except line.TimeoutException as error:
                return type(error)
            raise AssertionError("there was an answer")

        answers = crowd(2, ask)
    assert {*answers} == {line.PoolTimeout, line.ReadTimeout}
    assert not server.calls


@pytest.mark.parametrize("fork", FORKS)
def test_a_forked_child_has_connections_of_its_own(server: BatchServer, line: Any, fork: Callable[[], int]) -> None:
    """Parent and child go on after a fork, each on connections of its own, whichever lock was held (fault 1)."""
    transport = BatchTransport(JSONBatch(JSON_BATCH))
    with line.Client(transport=transport, base_url=server.url) as client:
        client.get("/v1/before")
        before = transport._routes.route(client.build_request("GET", "/"))

        def ask() -> tuple[int, Any, bool]:
            answer = client.get("/v1/child").json()["path"]
            own = transport._routes.route(client.build_request("GET", "/"))
            client.close()
            return os.getpid(), answer, own is before

        with held(transport._exchange._lanes._lock), held(transport._routes._lock):
            pid, path, is_inherited = in_child(ask, fork)
        assert (pid != os.getpid(), path, is_inherited) == (True, "/v1/child", False)
        assert client.get("/v1/after").json()["path"] == "/v1/after"
        assert transport._routes.route(client.build_request("GET", "/")) is before


@contextmanager
def held(lock: Any) -> Iterator[None]:
    """Have another thread hold a lock."""
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            is_held.set()
            is_over.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert is_held.wait(30)
        yield
    finally:
        is_over.set()
        thread.join()


def test_a_forked_child_that_closes_first_closes_nothing_of_the_parents(server: BatchServer) -> None:
    """Closing in the child leaves the parent's connections alone."""
    with httpx2.Client(transport=BatchTransport(JSONBatch(JSON_BATCH)), base_url=server.url) as client:
        client.get("/v1/before")
        in_child(client.close)
        assert client.get("/v1/after").status_code == 200
