"""What holds for every client when something goes wrong: each caller has its own error, in its own time."""

from __future__ import annotations

import gc
import socket
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event, Thread
from traceback import TracebackException
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.http.batch_server import (
    HANG_UP,
    BatchServer,
    Received,
    Reply,
)
from tests.http.kinds import FULL, Client, Kind
from tests.integration.clients import crowd

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher.http import Format


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returns or raises."""
    try:
        return call()
    except Exception as error:
        return error


def test_shuffled_dropped_and_repeated_answers(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """Whatever a server does with the order: each caller gets its own answer, or an error of its own (fault 37)."""
    server.disturb = lambda answers: [*reversed(answers), answers[3], ("stranger", answers[0][1])][1:]
    with kind.open(server.url, wire_format, max_batch_size=8, **FULL) as client:
        answers = crowd(8, lambda n: outcome(lambda: client.get(f"/v1/{n}")))

    lost = [n for n in range(8) if isinstance(answers[n], Exception)]
    assert len(lost) == 1
    error: Any = answers[lost[0]]
    assert error.__class__ is kind.errors.reply
    assert "no answer for this request" in str(error)
    assert str(error.request.url) == f"{server.url}/v1/{lost[0]}"
    assert [answers[n].json()["path"] for n in range(8) if n not in lost] == [
        f"/v1/{n}" for n in range(8) if n not in lost
    ]


def test_a_whole_503_is_everybodys(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """An error of the endpoint is each caller's response, without cookies that were meant for nobody."""
    server.whole = lambda call: Reply(503, b"busy", [("Retry-After", "7"), ("Set-Cookie", "a=1")])
    with kind.open(server.url, wire_format, max_batch_size=3, **FULL) as client:
        answers = crowd(3, lambda n: client.get(f"/v1/{n}"))

    for answer in answers:
        assert (answer.status_code, answer.content, answer.headers["Retry-After"]) == (503, b"busy", "7")
        assert "set-cookie" not in answer.headers
    assert len({id(answer) for answer in answers}) == 3


@pytest.mark.parametrize(
    "whole",
    [Reply(307, b"", [("Location", "/elsewhere")]), Reply(200, b"<html>", [("Content-Type", "text/html")])],
    ids=["redirect", "html"],
)
def test_a_whole_reply_that_is_none(server: BatchServer, kind: Kind, wire_format: Format, whole: Reply) -> None:
    """A redirect of the endpoint, or a reply of another kind, is an error to all: nobody is sent elsewhere."""
    server.whole = lambda call: whole
    with kind.open(server.url, wire_format, max_batch_size=3, **FULL) as client:
        errors = crowd(3, lambda n: outcome(lambda: client.get(f"/v1/{n}", follow_redirects=True)))

    assert [type(error) for error in errors] == [kind.errors.reply] * 3
    assert [str(error.request.url) for error in errors] == [f"{server.url}/v1/{n}" for n in range(3)]
    assert len(server.calls) == 1


def test_connection_errors_are_each_callers_own(kind: Kind, wire_format: Format) -> None:
    """A refused connection is the client's own exception for each, with its own request on it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with kind.open(url, wire_format, max_batch_size=3, **FULL) as client:
        errors = crowd(3, lambda n: outcome(lambda: client.get(f"/v1/{n}")))

    assert [type(error) for error in errors] == [kind.errors.connect] * 3
    assert [str(error.request.url) for error in errors] == [f"{url}/v1/{n}" for n in range(3)]


def test_an_error_shows_nobody_the_others(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """No frame of an error's tracebacks has another caller's request."""
    server.whole = lambda call: HANG_UP
    with kind.open(server.url, wire_format, max_batch_size=2, **FULL) as client:
        errors = crowd(2, lambda n: outcome(lambda: client.get(f"/v1/secret-{n}")))

    for number, error in enumerate(errors):
        shown = "".join(TracebackException.from_exception(error, capture_locals=True).format())
        assert f"secret-{number}" in shown
        assert f"secret-{1 - number}" not in shown


def test_an_error_is_gone_when_its_caller_is_done_with_it(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """No cycle keeps an error, and the frames and connections behind it, for the garbage collector (fault 30)."""
    server.disturb = lambda answers: []
    with kind.open(server.url, wire_format) as client:
        gc.disable()
        try:
            missing = weakref.ref(outcome(lambda: client.get("/v1/x")))
            server.whole = lambda call: HANG_UP
            lost = weakref.ref(outcome(lambda: client.get("/v1/x")))
            assert (missing(), lost()) == (None, None)
        finally:
            gc.enable()


def test_each_caller_has_its_own_timeout(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """The impatient one of two who share a call gets its timeout, the other one its answer."""
    server.gate.clear()
    limits = [0.05, 20]
    options = {**FULL, "max_delay": 0.3}
    with kind.open(server.url, wire_format, max_batch_size=2, **options) as client, ThreadPoolExecutor(2) as pool:
        impatient, patient = (
            pool.submit(outcome, partial(client.get, f"/v1/{n}", timeout=limits[n])) for n in range(2)
        )
        error: Any = impatient.result(20)
        assert error.__class__ is kind.errors.read_timeout
        assert str(error.request.url) == f"{server.url}/v1/0"
        assert not patient.done()
        server.gate.set()
        assert patient.result(20).json()["path"] == "/v1/1"
    assert len(server.calls) == 1


def test_a_shared_call_that_takes_too_long(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """When the longest timeout of all has passed, each caller hears of it as its own."""
    server.gate.clear()
    with kind.open(server.url, wire_format, max_batch_size=2, **FULL) as client:
        errors = crowd(2, lambda n: outcome(lambda: client.get(f"/v1/{n}", timeout=0.1)))
        server.gate.set()

    assert [type(error) for error in errors] == [kind.errors.read_timeout] * 2
    assert [str(error.request.url) for error in errors] == [f"{server.url}/v1/{n}" for n in range(2)]


def test_a_slow_call_holds_up_nobody(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """While a host doesn't answer, others are answered, and so are later requests of the same host."""
    waiting = iter([True, True])

    def whole(call: Received) -> Reply | None:
        if next(waiting, False):
            gate.wait(20)
        return None

    gate = Event()
    server.whole = whole
    with kind.open(server.url, wire_format, max_delay=0.001) as client:
        slow = [Thread(target=client.get, args=(f"/v1/slow/{n}",)) for n in range(2)]
        for thread in slow:
            thread.start()
            assert server.arrived.acquire(timeout=20)
        try:
            other_host = server.url.replace("127.0.0.1", "localhost")
            assert client.get(f"{other_host}/v1/quick").status_code == 200
            assert client.get("/v1/quick").status_code == 200
            assert all(thread.is_alive() for thread in slow)
        finally:
            gate.set()
            for thread in slow:
                thread.join()


@pytest.mark.parametrize("name", ["X-A", "Accept"])
def test_line_breaks_in_a_header_are_refused(server: BatchServer, kind: Kind, wire_format: Format, name: str) -> None:
    """A header that would begin another one is the client's own error, and nothing is sent (fault 42)."""

    def smuggle(client: Client) -> Any:
        if hasattr(client, "build_request"):
            return client.send(client.build_request("GET", "/v1/x", headers={name: "1\r\nX-Evil: 1"}))  # type: ignore[attr-defined]
        prepared = requests.Request("GET", f"{server.url}/v1/x").prepare()
        prepared.headers[name] = "1\r\nX-Evil: 1"
        return client._session.send(prepared)  # type: ignore[attr-defined]

    with kind.open(server.url, wire_format) as client:
        error: Any = outcome(lambda: smuggle(client))

    assert error.__class__ is kind.errors.unsafe
    assert "X-Evil" not in str(error)
    assert str(error.request.url) == f"{server.url}/v1/x"
    assert not server.calls
