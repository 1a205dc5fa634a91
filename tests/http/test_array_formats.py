"""GraphQLArray and BodyArray: answers by position."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.http import BatchReplyError, BodyArray, GraphQLArray, HTTPRequest, HTTPResponse
from tests.http.requests_of_tests import get, good, post, reply

GRAPHQL = GraphQLArray()
BULK = BodyArray("/bulk")


def bodies(answers: list[HTTPResponse | Exception]) -> list[object]:
    """Return what each caller reads."""
    return [json.loads(good(answer).body) for answer in answers]


def test_operations_become_an_array() -> None:
    """Operations stand in the array as they were, and the envelope has all that they share."""
    whole = GRAPHQL.combine([post("/graphql", b'{"query": "{a}"}', ("X-A", "1")), post("/graphql", b'{"x":1.10}')])

    assert whole.body == b'[{"query": "{a}"},{"x":1.10}]'
    assert whole.header("x-a") == "1"


def test_operations_get_their_own_result() -> None:
    """Each caller gets the element at its place, errors inside included, with the status of the whole (fault 25)."""
    requests = [post("/graphql", {}), post("/graphql", {})]
    found = GRAPHQL.split(reply(b'[{"data": 1.10}, {"errors": [1]}]', ("X-A", "1")), requests)

    assert [good(answer).body for answer in found] == [b'{"data": 1.10}', b'{"errors": [1]}']
    assert {good(answer).headers for answer in found} == {(("Content-Type", "application/json"), ("X-A", "1"))}


@pytest.mark.parametrize("body", [b"[{}]", b"[{},{},{}]", b"[]", b"{}", b"1"])
def test_operations_and_results_must_be_as_many(body: bytes) -> None:
    """Another length, or no array, fails all (fault 37)."""
    with pytest.raises(BatchReplyError, match=r"expected (an array of )?2 results"):
        GRAPHQL.split(reply(body), [post("/graphql", {}), post("/graphql", {})])


@pytest.mark.parametrize(
    "request_",
    [
        get("/graphql?query={a}"),
        post("/graphql", []),
        post("/graphql", b"{"),
        post("/graphql/", {}),
        HTTPRequest("POST", "http://h", "/graphql", (("Content-Type", "text/plain"),), b"{}"),
    ],
    ids=["get", "array", "broken", "elsewhere", "text"],
)
def test_operations_that_go_alone(request_: HTTPRequest) -> None:
    """A GET, a batch of the caller's own, and what isn't JSON go alone."""
    assert not GRAPHQL.accepts(request_)
    assert GRAPHQL.accepts(post("/graphql", {}))


@given(st.lists(st.one_of(st.integers(), st.lists(st.integers(), max_size=3)), min_size=1, max_size=6))
def test_values_come_back_to_who_sent_them(sent: list[object]) -> None:
    """Arrays and single values become one array, and each caller gets as many results as it sent values."""
    requests = [post("/bulk", body) for body in sent]
    values = json.loads(BULK.combine(requests).body)
    found = BULK.split(reply([{"of": value} for value in values]), requests)

    expected = [[{"of": v} for v in body] if isinstance(body, list) else {"of": body} for body in sent]
    assert bodies(found) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (reply({"ok": True}), b'{"ok": true}'),
        (HTTPResponse(204), b""),
        (HTTPResponse(200, (("Content-Type", "text/plain"),), b"[1]"), b"[1]"),
    ],
    ids=["object", "nothing", "text"],
)
def test_one_reply_is_everybodys(response: HTTPResponse, expected: bytes) -> None:
    """A reply that is no array of JSON goes to all."""
    found = BULK.split(response, [post("/bulk", 1), post("/bulk", [2, 3])])

    assert [(good(answer).status, good(answer).body) for answer in found] == [(response.status, expected)] * 2


@pytest.mark.parametrize("count", [0, 2, 4])
def test_values_and_results_must_be_as_many(count: int) -> None:
    """An array of another length fails all."""
    with pytest.raises(BatchReplyError, match=f"expected 3 results, got {count}"):
        BULK.split(reply([0] * count), [post("/bulk", 1), post("/bulk", [2, 3])])


def test_values_that_go_alone() -> None:
    """Only POSTs of JSON to the endpoint itself are gathered."""
    assert not BULK.accepts(get("/bulk"))
    assert not BULK.accepts(post("/other", 1))
    assert BULK.accepts(post("/bulk", "text"))
