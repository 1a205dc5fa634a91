"""ApiClient: everything wired up, and a cache that mixes nobody up."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import hishel
import httpx
import httpx2
import pytest

from batcher import CircuitBreaker, CircuitOpenError, Retry, Throttle
from batcher.http import ApiClient, BatchTransport, JSONBatch, _cache
from batcher.http._api_client import _environment_proxy
from tests.forks import in_child
from tests.http.batch_server import JSON_BATCH, BatchServer, Received, Reply
from tests.http.kinds import FULL
from tests.integration.clients import crowd

if TYPE_CHECKING:
    from types import ModuleType


def fresh(part: Received) -> Reply:
    """Answer with what may be kept for a minute, if it is a GET."""
    body = json.dumps([part.method, part.path, part.headers["X-Tenant"]]).encode()
    kept = [("Cache-Control", "private, max-age=60")] if part.method == "GET" else []
    return Reply(200, body, [("Content-Type", "application/json"), *kept])


def test_is_a_client(server: BatchServer) -> None:
    """It is a client of the line that is tried first, with its options, and batches what it sends."""
    options = {**FULL, "max_batch_size": 3}
    with ApiClient(
        f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), batch_options=options, headers={"X-User": "ada"}
    ) as client:
        assert isinstance(client, httpx2.Client)
        answers = crowd(3, lambda n: client.get(f"/users/{n}", params={"full": n}).json())
        assert client.status().batches == 1

    assert [(answer["path"], answer["user"]) for answer in answers] == [
        (f"/v1/users/{n}?full={n}", "ada") for n in range(3)
    ]
    assert client.status().state == "closed"


def test_retries_and_breaker(server: BatchServer) -> None:
    """Failures are retried; an API that keeps failing isn't asked any more for a while."""
    server.whole = lambda call: Reply(503)
    breaker = CircuitBreaker(failure_threshold=3, reset_timeout=60)
    with ApiClient(
        f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), retry=Retry(3, delay=0.0), circuit_breaker=breaker
    ) as client:
        assert client.get("/x").status_code == 503
        with pytest.raises(CircuitOpenError) as caught:
            client.get("/x")

    assert caught.value.retry_after is not None
    assert len(server.calls) == 3


def test_what_is_wrong_with_a_request_opens_no_circuit(server: BatchServer) -> None:
    """A 404, of a part or of all, is an answer: whoever gave it is up."""
    server.respond = lambda part: Reply(404)
    with ApiClient(
        f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), circuit_breaker=CircuitBreaker(failure_threshold=1)
    ) as client:
        assert [client.get("/x").status_code for _ in range(3)] == [404] * 3
        server.whole = lambda call: Reply(401)
        assert [client.get("/x").status_code for _ in range(3)] == [401] * 3


def test_throttle(server: BatchServer) -> None:
    """A throttle holds calls back; what it lets through is answered."""
    options = {"throttle": Throttle(max_concurrent=1), "max_delay": 0.001}
    with ApiClient(f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), batch_options=options) as client:
        assert {client.get(f"/{n}").status_code for n in range(3)} == {200}


def test_cached_answers_never_enter_a_batch(server: BatchServer) -> None:
    """What may be kept is asked for once; another method, or another address, is asked for anew."""
    server.respond = fresh
    with ApiClient(f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), cache=True) as client:
        answers = [client.get("/x").json() for _ in range(3)]
        assert client.status().accepted == 1
        client.get("/y")
        assert client.status().accepted == 2
        client.put("/x")  # makes stale what was kept
        client.get("/x")
        assert client.status().accepted == 4

    assert answers == [["GET", "/v1/x", None]] * 3


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-API-Key", "X-Tenant"])
def test_cached_answers_are_nobody_elses(server: BatchServer, name: str) -> None:
    """Another value of any header that may say who is asking is another entry (fault 36)."""
    server.respond = fresh
    with ApiClient(f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), cache=True) as client:
        for value in ("a", "b", "a", "b"):
            client.get("/x", headers={name: value})
        client.get("/x")
        client.get("/x", headers={"X-Request-Id": "7"})

    assert len(server.parts) == 3


def test_a_storage_that_is_given_stays_open(server: BatchServer) -> None:
    """Somebody's own storage serves several clients, and isn't closed with the first of them."""
    server.respond = fresh
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    storage = hishel.SqliteStorage(connection=connection)
    for _ in range(2):
        with ApiClient(f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), cache=storage) as client:
            client.get("/x")
    storage.close()

    assert len(server.parts) == 1


def test_a_key_that_the_user_gives_is_taken(server: BatchServer) -> None:
    """Who says under which key an answer shall be kept gets what is kept there."""
    server.respond = fresh
    with ApiClient(f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), cache=True) as client:
        for user in "ab":
            client.get("/x", headers={"Authorization": user}, extensions={"caching": {"key": "for all"}})

    assert len(server.parts) == 1


@pytest.mark.parametrize(("cache", "error"), [(7, TypeError), (False, TypeError), ("file.db", TypeError)])
def test_a_cache_that_is_none_is_refused(cache: object, error: type[Exception]) -> None:
    """Only True and hishel's storages are caches, and nothing is left open."""
    with pytest.raises(error, match="cache must be True, None or a hishel storage, got"):
        ApiClient("http://h", batch=JSONBatch(), cache=cache)


def test_hishel_must_know_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hishel, and with one that has nothing for this line, the error says what to install."""

    class Old:
        """A hishel that can't serve anybody."""

    missing: list[str] = []

    def find(name: str) -> Any:
        if name in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return Old

    monkeypatch.setattr(_cache, "import_module", find)
    for names in (["hishel"], ["hishel.httpx2"], []):
        missing[:] = names
        with pytest.raises(
            ImportError, match=r"hishel 2 or newer: pip install 'thread-batcher\[http-cache\]' \(.*httpx2"
        ):
            ApiClient("http://h", batch=JSONBatch(), cache=True)


def test_both_lines_are_cached(server: BatchServer) -> None:
    """The cache serves a client of httpx too."""
    server.respond = fresh
    front: Any = _cache.CacheFront(httpx, BatchTransport(JSONBatch(JSON_BATCH)), cache=True)
    with httpx.Client(transport=front) as client:
        assert [client.get(f"{server.url}/v1/x").json() for _ in range(2)] == [["GET", "/v1/x", None]] * 2

    assert len(server.parts) == 1


def test_options_of_what_sends_reach_it(server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies, certificates and HTTP versions are for the transport underneath; the rest is the client's."""
    made: list[dict[str, Any]] = []

    class Noting(httpx2.HTTPTransport):
        def __init__(self, **options: Any) -> None:
            made.append(options)
            super().__init__(**{**options, "proxy": None})

    monkeypatch.setattr(httpx2, "HTTPTransport", Noting)
    monkeypatch.setenv("http_proxy", "http://unused:1")
    with ApiClient(
        f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), proxy="http://proxy:8080", verify=False, timeout=7
    ) as client:
        client.get("/x")
        assert client.timeout == httpx2.Timeout(7)

    assert made == [{"proxy": "http://proxy:8080", "verify": False}]
    assert [call.path for call in server.calls] == [JSON_BATCH]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"http_proxy": "http://proxy:1"}, "http://proxy:1"),
        ({"all_proxy": "proxy:1"}, "http://proxy:1"),
        ({"https_proxy": "http://proxy:1"}, None),
        ({"http_proxy": "http://proxy:1", "no_proxy": "h.example"}, None),
    ],
)
def test_the_environments_proxies(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str | None
) -> None:
    """Proxies of the environment are found as a client without a transport would find them."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert _environment_proxy(httpx2.URL("http://h.example:81/x")) == expected


def test_the_environment_may_be_ignored(server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `trust_env=False` its proxies count for nothing."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with ApiClient(f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), trust_env=False) as client:
        assert client.get("/x").status_code == 200


def test_other_origins_are_none_of_its_business(server: BatchServer) -> None:
    """What goes elsewhere, as after a redirect, isn't sent to a batch endpoint that isn't there."""
    other = server.url.replace("127.0.0.1", "localhost")
    server.respond = lambda part: (
        Reply(302, b"", [("Location", f"{other}/v1/file")]) if part.path == "/v1/x" else Reply(200, b"{}")
    )
    with ApiClient(f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), follow_redirects=True) as client:
        assert client.get("/x").status_code == 200

    assert [call.path for call in server.calls] == [JSON_BATCH, "/v1/file"]


def test_what_the_user_declines_goes_alone(server: BatchServer) -> None:
    """`should_batch` is asked about what goes to the API."""
    options = {"should_batch": lambda request: request.method == "GET"}
    with ApiClient(f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), batch_options=options) as client:
        client.get("/x")
        client.delete("/x")
    assert [call.path for call in server.calls] == [JSON_BATCH, "/v1/x"]
    with pytest.raises(TypeError, match="should_batch must be callable or None, got 1"):
        ApiClient("http://h", batch=JSONBatch(), batch_options={"should_batch": 1})


def test_a_transport_that_is_given_sends(server: BatchServer) -> None:
    """Somebody's own transport takes the place of the usual one."""
    with ApiClient(f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), transport=httpx2.HTTPTransport()) as client:
        assert client.get("/x").status_code == 200
        with pytest.raises(httpx2.UnsupportedProtocol):
            client.get("ftp://127.0.0.1/x")


def test_a_forked_child_has_connections_of_its_own(server: BatchServer) -> None:
    """Parent and child go on after a fork."""
    with ApiClient(f"{server.url}/v1", batch=JSONBatch(JSON_BATCH), cache=True) as client:
        client.get("/before")
        assert in_child(lambda: client.get("/child").json()["path"]) == "/v1/child"
        assert client.get("/after").json()["path"] == "/v1/after"


PROBE = """
import sys
sys.modules["httpx2"] = None
from batcher.http import ApiClient, JSONBatch
with ApiClient("http://h", batch=JSONBatch()) as client:
    print(type(client).__mro__[1].__module__)
"""


def test_httpx_is_taken_where_there_is_no_httpx2() -> None:
    """Without httpx2 it is a client of httpx."""
    probe = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE], capture_output=True, text=True, check=True, timeout=30
    )

    assert probe.stdout == "httpx\n"


def lines() -> list[ModuleType]:
    """Return both lines."""
    return [httpx2, httpx]


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.__name__)
def test_a_transport_of_the_other_line_is_refused(line: Any) -> None:
    """A transport can't send the requests of the other line, and the error says so."""
    other = httpx if line is httpx2 else httpx2
    with (
        line.Client(transport=BatchTransport(JSONBatch(), transport=other.HTTPTransport())) as client,
        pytest.raises(TypeError, match=f"the client is of {line.__name__}, and its transport a"),
    ):
        client.get("http://127.0.0.1/x")


def test_transport_must_be_one() -> None:
    """Anything but a transport and a function is refused at construction."""
    with pytest.raises(TypeError, match="transport must be a transport, a function that makes one, or None, got 7"):
        BatchTransport(JSONBatch(), transport=7)  # type: ignore[arg-type]
