"""JSONRPCBatch: calls in an array, answers by id, each under the caller's own."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.http import BatchReplyError, HTTPRequest, HTTPResponse, JSONRPCBatch
from tests.http.requests_of_tests import are_missing, get, good, post, reply

FORMAT = JSONRPCBatch()
IDS = st.none() | st.integers() | st.text()


def call(**members: Any) -> HTTPRequest:
    """Return a JSON-RPC call."""
    return post("/rpc", {"jsonrpc": "2.0", "method": "m", **members})


def answer_all(requests: list[HTTPRequest]) -> list[dict[str, Any]]:
    """Return a server's answers: the params of each call that has an id."""
    calls = json.loads(FORMAT.combine(requests).body)
    return [{"jsonrpc": "2.0", "id": c["id"], "result": c.get("params")} for c in calls if "id" in c]


@given(st.lists(IDS, min_size=1, max_size=8), st.randoms(use_true_random=False), st.sets(st.integers(0, 7)))
def test_answers_come_under_the_callers_own_id(names: list[object], chance: random.Random, dropped: set[int]) -> None:
    """Callers may use one id or many; each gets its own answer under its own id, or an error (fault 37)."""
    requests = [call(id=name, params=[number]) for number, name in enumerate(names)]
    answers = [answer for number, answer in enumerate(answer_all(requests)) if number not in dropped]
    chance.shuffle(answers)
    found = FORMAT.split(reply([*answers, {"id": None, "error": {}}, {"id": 99}, 7]), requests)

    for number, (answer, name) in enumerate(zip(found, names, strict=True)):
        if number in dropped:
            assert isinstance(answer, BatchReplyError)
        else:
            assert json.loads(good(answer).body) == {"jsonrpc": "2.0", "id": name, "result": [number]}


def test_calls_keep_their_text() -> None:
    """Only the id is replaced, wherever it stands and however often; a server can't be shown another one."""
    body = rb'{"id":"mine", "params":{"id":1.10},"\u0069d" : [7] }'
    requests = [post("/rpc", body)]

    assert FORMAT.combine(requests).body == rb'[{"id":1, "params":{"id":1.10},"\u0069d" : 1 }]'
    found = FORMAT.split(reply(b'[{"result":2.50,"id":1}]'), requests)
    assert good(found[0]).body == b'{"result":2.50,"id":[7]}'


def test_notifications_get_204() -> None:
    """A call without an id has no answer, whatever the others get."""
    requests = [call(), call(id=5), call()]
    found = FORMAT.split(reply(answer_all(requests), ("X-A", "1")), requests)

    assert [good(answer).status for answer in found] == [204, 200, 204]
    assert (good(found[0]).body, good(found[0]).headers) == (b"", (("X-A", "1"),))


def test_a_batch_of_notifications_has_no_reply() -> None:
    """An empty reply is fine for notifications, and an error to whoever waits for an answer."""
    found = FORMAT.split(HTTPResponse(204), [call(), call(id=1)])

    assert are_missing(found) == [False, True]
    assert good(found[0]).status == 204


def test_a_refused_batch_is_everybodys_answer() -> None:
    """An error in the place of the array reaches each caller under its own id."""
    error = b'{"jsonrpc":"2.0","error":{"code":-32600},"id":null}'
    found = FORMAT.split(reply(error), [call(id="a"), call(), call(id=2)])

    assert [good(answer).status for answer in found] == [200, 204, 200]
    assert good(found[0]).body == error.replace(b"null", b'"a"')
    assert good(found[2]).body == error.replace(b"null", b"2")


def test_errors_inside_are_their_callers_own() -> None:
    """A call that failed among others is that caller's error alone (fault 25)."""
    found = FORMAT.split(reply([{"id": 2, "error": {}}, {"id": 1, "result": 0}]), [call(id=7), call(id=8)])

    assert [good(answer).body for answer in found] == [b'{"id": 7, "result": 0}', b'{"id": 8, "error": {}}']


def test_a_reply_of_another_shape_fails_all() -> None:
    """What is neither array nor object is an error of the whole."""
    with pytest.raises(BatchReplyError, match="expected an array, got str"):
        FORMAT.split(reply("no"), [call(id=1)])


@pytest.mark.parametrize(
    "request_",
    [post("/rpc", []), post("/rpc", [{"id": 1}]), post("/rpc", b"{"), post("/other", {}), get("/rpc")],
    ids=["empty", "array", "broken", "elsewhere", "get"],
)
def test_what_goes_alone(request_: HTTPRequest) -> None:
    """A batch of the caller's own, and what is no call, go unbatched."""
    assert not FORMAT.accepts(request_)
    assert FORMAT.accepts(call(id=1))
