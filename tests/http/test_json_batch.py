"""JSONBatch: parts as JSON, answers by id."""

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.http import BatchReplyError, HTTPRequest, HTTPResponse, JSONBatch
from tests.http.requests_of_tests import are_missing, get, good, post, reply

FORMAT = JSONBatch("/v1/$batch")


def parts_of(*requests: HTTPRequest) -> list[dict[str, Any]]:
    """Return the parts that requests become."""
    found: list[dict[str, Any]] = json.loads(FORMAT.combine(requests).body)["requests"]
    return found


def split(requests: list[HTTPRequest], *answers: object) -> list[HTTPResponse | Exception]:
    """Return what a reply's answers come to; `{n}` stands for the id of part n."""
    text = json.dumps({"responses": answers})
    for number, part in enumerate(parts_of(*requests)):
        text = text.replace(f'"{{{number}}}"', json.dumps(part["id"]))
    return FORMAT.split(reply(text.encode()), requests)


def test_parts_are_relative_and_bring_their_own_headers() -> None:
    """A part has its method, a path relative to the folder, its harmless and unknown headers, and its body."""
    got, posted = parts_of(
        get("/v1/users/1?full=1", ("Accept", "a"), ("accept", "b"), ("X-New", "n"), ("Authorization", "s")),
        post("/v1/users", {"a": 1}, ("Cookie", "s"), ("User-Agent", "u"), ("Content-Length", "7")),
    )

    assert got.pop("id") != posted.pop("id")
    assert got == {"method": "GET", "url": "users/1?full=1", "headers": {"accept": "a, b", "x-new": "n"}}
    assert posted == {
        "method": "POST",
        "url": "users",
        "headers": {"content-type": "application/json"},
        "body": {"a": 1},
    }


def test_part_without_headers_has_none() -> None:
    """A part that has no headers to bring isn't given an empty object."""
    assert "headers" not in parts_of(get("/v1/x", ("Authorization", "s")))[0]


def test_credentials_are_on_the_envelope_alone() -> None:
    """The envelope has the credentials, says what it accepts, and asks to go on after an error."""
    whole = FORMAT.combine([get("/v1/x", ("Authorization", "a"), ("X-API-Key", "k"), ("Accept", "t"))])

    assert whole.headers == (
        ("Authorization", "a"),
        ("X-API-Key", "k"),
        ("Content-Type", "application/json"),
        ("Accept", "application/json"),
        ("Prefer", "continue-on-error, odata.continue-on-error"),
    )
    assert (whole.method, whole.url) == ("POST", "http://h/v1/$batch")


def test_json_bodies_are_embedded_as_they_stand() -> None:
    """No number, escape or repeated member of a caller's JSON changes on its way."""
    body = rb'{ "a": 1.10, "a": 12345678901234567890.5, "b": "\u0041" }'

    assert body in FORMAT.combine([post("/v1/x", body)]).body


@pytest.mark.parametrize(
    "request_",
    [
        HTTPRequest("PUT", "http://h", "/v1/x", (("Content-Type", "image/png"),), b"\x89PNG"),
        HTTPRequest("PUT", "http://h", "/v1/x", (), b"?"),
        HTTPRequest("PUT", "http://h", "/v1/x", (("Content-Type", "text/plain"),), b"\xff"),
        post("/v1/x", b"{"),
        post("/v1/x", b'{}}],"requests":[{'),
        get("/v2/x"),
        get("/v1//evil.example"),
        get("/v1/$batch?x"),
    ],
    ids=["binary", "untyped", "no-utf-8", "half", "breaking-out", "outside", "other-host", "endpoint"],
)
def test_what_a_part_cannot_hold_goes_alone(request_: HTTPRequest) -> None:
    """Binary bodies, broken JSON and paths outside the folder have no place in the envelope."""
    assert not FORMAT.accepts(request_)


def test_text_is_written_as_a_string() -> None:
    """A text body becomes a JSON string."""
    text = HTTPRequest("PUT", "http://h", "/v1/x", (("Content-Type", "text/plain; charset=utf-8"),), 'ä"\n'.encode())

    assert FORMAT.accepts(text)
    assert parts_of(text)[0]["body"] == 'ä"\n'


def test_ids_cannot_be_guessed() -> None:
    """OData reads "$<id>" in a path or a body as what another part made: no caller may know an id."""
    one, other = JSONBatch("/b"), JSONBatch("/b")

    ids = {json.loads(made.combine([get("/x")]).body)["requests"][0]["id"] for made in (one, other)}
    assert len(ids) == 2
    assert all(len(name) > 16 for name in ids)


@given(st.integers(1, 20), st.randoms(use_true_random=False), st.sets(st.integers(0, 19)))
def test_answers_are_matched_whatever_their_order(count: int, chance: random.Random, dropped: set[int]) -> None:
    """Shuffled, dropped and repeated answers: each caller gets its own or an error (fault 37)."""
    requests = [get(f"/v1/{number}") for number in range(count)]
    answers = [
        {"id": part["id"], "status": 200, "body": part["url"]}
        for number, part in enumerate(parts_of(*requests))
        if number not in dropped
    ]
    answers += [{**answer, "body": "again"} for answer in chance.sample(answers, len(answers) // 2)]
    mixed = answers[: count - len(dropped & set(range(count)))]
    chance.shuffle(mixed)
    found = FORMAT.split(reply({"responses": mixed + answers[len(mixed) :]}), requests)

    for number, answer in enumerate(found):
        if number in dropped:
            assert isinstance(answer, BatchReplyError)
        else:
            assert good(answer).body == json.dumps(str(number)).encode()


def test_statuses_are_the_parts_own() -> None:
    """A part's 404 is that call's 404, as a number or as text (fault 25)."""
    found = split(
        [get("/v1/a"), get("/v1/b")], {"id": "{1}", "status": "404", "body": {"error": 1}}, {"id": "{0}", "status": 204}
    )

    assert [good(answer).status for answer in found] == [204, 404]
    assert (good(found[0]).body, good(found[1]).body) == (b"", b'{"error": 1}')


@pytest.mark.parametrize("status", [None, "", "ok", 99, 600, 10**30, True, [200]])
def test_answer_without_a_status_is_none(status: object) -> None:
    """An answer whose status is no status fails its call alone."""
    found = split([get("/v1/a"), get("/v1/b")], {"id": "{0}", "status": status}, {"id": "{1}", "status": 200})

    assert are_missing(found) == [True, False]


def test_bodies_come_back_as_they_stand() -> None:
    """JSON comes as it stands in the reply, with its length, and as JSON where no type is given."""
    part = parts_of(get("/v1/a"))[0]["id"]
    text = f'{{"responses":[{{"id":"{part}","status":200,"headers":{{"Content-Length":"99"}},"body":{{"a":1.10}}}}]}}'
    answer = good(FORMAT.split(reply(text.encode()), [get("/v1/a")])[0])

    assert answer.body == b'{"a":1.10}'
    assert answer.headers == (("Content-Type", "application/json"), ("Content-Length", "10"))


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("application/json", "x", b'"x"'),
        ("text/plain", "x", b"x"),
        ("image/png", base64.b64encode(b"\xff\xfe\xfd?").decode(), b"\xff\xfe\xfd?"),
        ("image/png", base64.urlsafe_b64encode(b"\xff\xfe\xfd?").decode().rstrip("="), b"\xff\xfe\xfd?"),
        ("application/xml", "<a/>", b"<a/>"),
        ("image/png", "", b""),
        ("text/plain", {"a": 1}, b'{"a": 1}'),
        ("application/json", None, b""),
    ],
    ids=["json", "text", "base64", "base64url", "xml", "empty", "object", "null"],
)
def test_bodies_that_are_strings(kind: str, body: object, expected: bytes) -> None:
    """A string is JSON, text, or the base64 of anything else, as the part's type says."""
    found = split([get("/v1/a")], {"id": "{0}", "status": 200, "headers": {"Content-Type": kind}, "body": body})

    assert good(found[0]).body == expected


def test_headers_of_an_answer_are_its_callers() -> None:
    """Each answer has its own headers, a list several; what says how the body was sent is gone."""
    headers = {"Set-Cookie": ["a=1", "b=2"], "Age": 7, "Content-Encoding": "gzip", "Connection": "close"}
    found = split([get("/v1/a")], {"id": "{0}", "status": 200, "headers": headers})

    assert good(found[0]).headers == (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Age", "7"))
    assert good(split([get("/v1/a")], {"id": "{0}", "status": 200, "headers": "no"})[0]).headers == ()


def test_answers_that_are_no_objects_are_ignored() -> None:
    """Whatever else stands in the array is nobody's answer."""
    assert are_missing(split([get("/v1/a")], 1, None, [], {"status": 200})) == [True]


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"responses":{}}', b'"responses"'])
def test_reply_without_responses_fails_all(body: bytes) -> None:
    """A reply of another shape is an error of the whole."""
    with pytest.raises(BatchReplyError, match="responses"):
        FORMAT.split(reply(body), [get("/v1/a")])
