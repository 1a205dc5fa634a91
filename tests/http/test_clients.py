"""What holds for every client, whichever it is: many requests become one, each caller gets its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from batcher.http import BodyArray, Format, GraphQLArray, JSONBatch, JSONRPCBatch
from tests.http.batch_server import (
    BULK,
    GRAPHQL,
    RPC,
    BatchServer,
    Received,
    Reply,
)
from tests.http.kinds import FULL, Kind
from tests.integration.clients import crowd

if TYPE_CHECKING:
    from collections.abc import Callable


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returns or raises."""
    try:
        return call()
    except Exception as error:
        return error


def test_many_become_one(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """Requests that are made at once travel in one call, and each caller reads its own answer."""
    with kind.open(server.url, wire_format, max_batch_size=12, **FULL) as client:
        answers = crowd(12, lambda n: client.get(f"/v1/users/{n}?full={n}", headers={"X-User": "ada"}))

    assert [answer.json()["path"] for answer in answers] == [f"/v1/users/{n}?full={n}" for n in range(12)]
    assert [(call.method, call.path) for call in server.calls] == [("POST", wire_format.path)]
    assert {part.headers["X-User"] for part in server.parts} == {"ada"}
    for n, answer in enumerate(answers):
        assert (answer.status_code, str(answer.request.url)) == (200, f"{server.url}/v1/users/{n}?full={n}")
        assert answer.elapsed.total_seconds() > 0
        assert answer.headers["content-length"] == str(len(answer.content))


def test_a_batch_of_one_is_a_batch(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """A lone request takes the same way as the others, so that nothing depends on how busy it is."""
    with kind.open(server.url, wire_format) as client:
        answer = client.request("PATCH", "/v1/x", content=b'{"a": 1}', headers={"Content-Type": "application/json"})

    assert answer.json() == {"method": "PATCH", "path": "/v1/x", "body": '{"a": 1}', "user": None}
    assert [call.path for call in server.calls] == [wire_format.path]


def test_credentials_are_never_mixed(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """Requests with other credentials are other calls, and no part has anybody's (fault 36)."""

    def ask(number: int) -> Any:
        headers = {"Authorization": f"user-{number % 2}", "X-API-Key": f"key-{number % 2}"}
        return client.get(f"/v1/user-{number % 2}/{number}", headers=headers)

    with kind.open(server.url, wire_format, max_batch_size=5, **FULL) as client:
        answers = crowd(10, ask)

    assert [answer.json()["path"] for answer in answers] == [f"/v1/user-{n % 2}/{n}" for n in range(10)]
    assert sorted((call.headers["Authorization"], call.headers["X-API-Key"]) for call in server.calls) == [
        ("user-0", "key-0"),
        ("user-1", "key-1"),
    ]
    for part in server.parts:
        assert not {"authorization", "x-api-key", "cookie", "host", "user-agent"} & {k.lower() for k in part.headers}
    for call in server.calls:
        paths = json.dumps([part["url"] for part in call.json()["requests"]]) if "json" in str(call.headers) else ""
        assert ("user-0" in paths) + ("user-1" in paths) <= 1


def test_parts_have_their_own_status_and_cookies(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """A part's 404 or 500 is a response to its caller alone, and so is its cookie (fault 25)."""

    def respond(part: Received) -> Reply:
        number = int(part.path.rpartition("/")[2])
        headers = [("Set-Cookie", f"c={number}")] if number == 2 else []
        return Reply([200, 404, 500, 302][number], json.dumps(number).encode(), headers)

    server.respond = respond
    with kind.open(server.url, wire_format, max_batch_size=4, **FULL) as client:
        answers = crowd(4, lambda n: client.get(f"/v1/{n}"))

    assert [answer.status_code for answer in answers] == [200, 404, 500, 302]
    assert [answer.json() for answer in answers] == [0, 1, 2, 3]
    assert [dict(answer.cookies) for answer in answers] == [{}, {}, {"c": "2"}, {}]


def test_redirects_are_the_clients_business(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """A part's redirect is followed by its own caller, relative to its own request."""

    def respond(part: Received) -> Reply:
        if part.path.endswith("old"):
            return Reply(302, b"", [("Location", "new")])
        return Reply(body=json.dumps(part.path).encode())

    server.respond = respond
    with kind.open(server.url, wire_format) as client:
        answer = client.get("/v1/folder/old", follow_redirects=True)

    assert (answer.json(), str(answer.url)) == ("/v1/folder/new", f"{server.url}/v1/folder/new")
    assert [call.path for call in server.calls] == [wire_format.path] * 2


def test_what_cannot_be_batched_goes_alone_unchanged(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """Streams, long uploads, upgrades, other folders and what `should_batch` declines are sent as they are."""

    def should_batch(request: Any) -> bool:
        return "declined" not in str(request.url)

    wire_format.max_part_bytes = 100
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    with kind.open(server.url, wire_format, should_batch=should_batch) as client:
        client.post("/v1/stream", content=iter([b"a", b"b"]))
        client.post("/v1/upload", content=b"x" * 101, headers={"Content-Type": "text/plain"})
        client.get("/v1/upgrade", headers=upgrade)
        client.get(f"{server.url}//elsewhere")
        client.get("/v1/declined")
        client.get("/v1/override", headers={"X-HTTP-Method-Override": "DELETE"})

    assert not server.parts
    assert [(call.method, call.path, len(call.body)) for call in server.calls] == [
        ("POST", "/v1/stream", 2),
        ("POST", "/v1/upload", 101),
        ("GET", "/v1/upgrade", 0),
        ("GET", "/elsewhere", 0),  # as Python's server has it
        ("GET", "/v1/declined", 0),
        ("GET", "/v1/override", 0),
    ]
    assert server.calls[2].headers["Upgrade"] == "websocket"


def test_long_batches_are_compressed(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """With `compress`, bodies above 1 KiB go out in gzip; without, and below, as they are."""
    for compress, padding, expected in ((True, "x" * 1_000, "gzip"), (True, "", None), (False, "x" * 1_000, None)):
        server.calls.clear()
        with kind.open(server.url, wire_format, compress=compress) as client:
            assert client.get(f"/v1/a{padding}").json()["path"] == f"/v1/a{padding}"
        assert [call.headers["Content-Encoding"] for call in server.calls] == [expected]


def test_heads_have_no_body(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """A HEAD gets the headers of its part, and no body."""
    server.respond = lambda part: Reply(200, b"", [("X-A", part.method)])
    with kind.open(server.url, wire_format) as client:
        answer = client.request("HEAD", "/v1/x")

    assert (answer.content, answer.headers["X-A"]) == (b"", "HEAD")


@pytest.mark.parametrize(
    ("made", "bodies", "expected"),
    [
        (GraphQLArray(GRAPHQL), ['{"query": "a"}', '{"query": "b"}'], [{"data": {"query": n}} for n in "ab"]),
        (
            JSONRPCBatch(RPC),
            ['{"id": "me", "method": "a"}', '{"id": "me", "method": "b"}'],
            [{"jsonrpc": "2.0", "id": "me", "result": [n, None]} for n in "ab"],
        ),
        (BodyArray(BULK), ["1", "[2, 3]"], [{"stored": 1}, [{"stored": 2}, {"stored": 3}]]),
    ],
    ids=["graphql", "jsonrpc", "bulk"],
)
def test_bodies_become_one(
    server: BatchServer, kind: Kind, made: Format, bodies: list[str], expected: list[object]
) -> None:
    """Formats of bodies alone: one call, each caller its own result."""

    def ask(number: int) -> Any:
        return client.post(
            made.path, content=bodies[number].encode(), headers={"Content-Type": "application/json"}
        ).json()

    with kind.open(server.url, made, max_batch_size=2, **FULL) as client:
        answers = crowd(2, ask)

    assert answers == expected
    assert len(server.calls) == 1


def test_closing_closes_what_is_underneath(server: BatchServer, kind: Kind, wire_format: Format) -> None:
    """After close nothing is accepted, and the transport that was given is closed as well."""

    class Noting:
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.events: list[str] = []

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def __enter__(self) -> None:
            self.events.append("enter")

        def close(self) -> None:
            self.events.append("close")
            self.inner.close()

    inner = Noting(kind.inner())
    batching = kind.wrap(wire_format, inner=inner)
    assert batching.status().accepted == 0
    batching.close()

    assert inner.events == ["close"]
    assert batching.status().state == "closed"


def test_wrong_options_are_refused(kind: Kind) -> None:
    """Options are checked when the client is made, and say what they got."""
    for error, options in (
        (TypeError, {"should_batch": 1}),
        (TypeError, {"deduplicate": 1}),
        (TypeError, {"compress": None}),
        (ValueError, {"max_batch_size": 0}),
        (ValueError, {"max_delay": -1}),
        (TypeError, {"max_concurrent": "8"}),
        (TypeError, {"no_such_option": 1}),
    ):
        with pytest.raises(error):
            kind.wrap(JSONBatch(), **options)
    with pytest.raises(TypeError, match=r"format must be a batcher\.http\.Format, got 'json'"):
        kind.wrap("json")  # type: ignore[arg-type]
