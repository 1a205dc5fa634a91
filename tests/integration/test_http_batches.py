"""Batches against the servers that other people wrote: odatapy, strawberry, flask-jsonrpc."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from batcher.http import GraphQLArray, JSONBatch, JSONRPCBatch, MultipartBatch
from tests.http.kinds import FULL, KINDS, Client, Kind

from .clients import ask, crowd
from .servers import gunicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batcher.http import Format

pytestmark = pytest.mark.integration

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the three services."""
    log = tmp_path_factory.mktemp("batches") / "log"
    with gunicorn("tests.integration.apps.batch_apis:counting", log, workers=1, threads=8, env={}) as (_, port):
        yield port


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of client in turn."""
    return KINDS[request.param]


@pytest.fixture(params=[JSONBatch, MultipartBatch], ids=["json", "multipart"])
def odata(request: pytest.FixtureRequest) -> Format:
    """Each of OData's formats in turn."""
    made: Format = request.param("/odata/$batch")
    return made


def calls(port: int) -> Any:
    """Return how often each path was called since the last time."""
    return ask(port, "/calls").body


def test_odata_reads(port: int, kind: Kind, odata: Format) -> None:
    """Reads travel in one call; those that fail, wherever they stand, are their callers' alone (fault 25)."""

    def read(client: Client, number: int) -> tuple[int, Any]:
        answer = client.get(f"/odata/Products({number})?$select=ID,Name", headers={"Accept": "application/json"})
        return answer.status_code, answer.json().get("Name")

    calls(port)
    numbers = [*range(6), *range(900, 906)]
    with kind.open(f"http://127.0.0.1:{port}", odata, max_batch_size=12, **FULL) as client:
        answers = crowd(12, lambda n: read(client, numbers[n]))

    assert answers == [*((200, f"product {n}") for n in range(6)), *[(404, None)] * 6]
    assert calls(port) == {"/odata/$batch": 1}


def test_odata_writes(port: int, kind: Kind, odata: Format) -> None:
    """What is created, changed and deleted in one call is done, each as its caller sees it."""
    base = 100 + 100 * (list(KINDS).index(kind.line.__name__ if hasattr(kind, "line") else "requests"))
    base += 10 * isinstance(odata, JSONBatch)

    def create(client: Client, number: int) -> tuple[int, Any]:
        body = json.dumps({"ID": base + number, "Name": f"Ä {number}"}).encode()
        answer = client.post("/odata/Products", content=body, headers=JSON)
        return answer.status_code, answer.json()["Name"]

    def change(client: Client, number: int) -> int:
        path = f"/odata/Products({base + number})"
        if number % 2:
            status: int = client.request("DELETE", path).status_code
        else:
            status = client.request("PATCH", path, content=b'{"Name": "other"}', headers=JSON).status_code
        return status

    with kind.open(f"http://127.0.0.1:{port}", odata, max_batch_size=4, **FULL) as client:
        assert crowd(4, lambda n: create(client, n)) == [(201, f"Ä {n}") for n in range(4)]
        assert {*crowd(4, lambda n: change(client, n))} <= {200, 204}
        found = crowd(4, lambda n: client.get(f"/odata/Products({base + n})", headers={"Accept": "application/json"}))

    assert [answer.status_code for answer in found] == [200, 404, 200, 404]
    assert found[0].json()["Name"] == "other"


def test_odata_takes_no_part_for_another(port: int, kind: Kind, odata: Format) -> None:
    """A path that names a part of the batch, as OData lets it, finds none: nobody's result but the own."""
    with kind.open(f"http://127.0.0.1:{port}", odata, max_batch_size=3, **FULL) as client:
        answers = crowd(3, lambda n: client.get(f"/odata/${n}/Name").status_code)

    assert all(status >= 400 for status in answers)


def test_graphql(port: int, kind: Kind) -> None:
    """Operations travel in one call; errors inside are their caller's alone (fault 25)."""

    def square(client: Client, number: int) -> Any:
        body = json.dumps({"query": "query($n: Int!) { square(number: $n) }", "variables": {"n": number}})
        answer = client.post("/graphql", content=body.encode(), headers=JSON)
        return answer.status_code, answer.json()

    calls(port)
    with kind.open(f"http://127.0.0.1:{port}", GraphQLArray(), max_batch_size=10, **FULL) as client:
        answers = crowd(10, lambda n: square(client, n - 1))

    assert answers[1:] == [(200, {"data": {"square": n * n}}) for n in range(9)]
    assert answers[0][0] == 200
    assert answers[0][1]["errors"][0]["message"] == "negative"
    assert calls(port) == {"/graphql": 1}


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="flask-jsonrpc 4.0.0 can't be imported there")
def test_json_rpc(port: int, kind: Kind) -> None:
    """Calls travel in one; ids are the callers' own, errors too, and a notification gets its 204."""

    def call(client: Client, number: int) -> Any:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": "cube", "params": [number], "id": "same for all"}
        if number == 0:
            del message["id"]
        if number == 1:
            message["method"] = "nonsense"
        answer = client.post("/rpc", content=json.dumps(message).encode(), headers=JSON)
        return answer.status_code, answer.json() if answer.content else None

    calls(port)
    with kind.open(f"http://127.0.0.1:{port}", JSONRPCBatch(), max_batch_size=6, **FULL) as client:
        answers = crowd(6, lambda n: call(client, n))

    assert answers[0] == (204, None)
    assert answers[1][1]["error"]["code"] == -32601
    assert answers[1][1]["id"] == "same for all"
    assert answers[2:] == [(200, {"jsonrpc": "2.0", "id": "same for all", "result": n**3}) for n in range(2, 6)]
    assert calls(port) == {"/rpc": 1}
