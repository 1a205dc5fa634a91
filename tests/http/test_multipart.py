"""MultipartBatch: parts as HTTP messages, answers by Content-ID."""

import random
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st
from odatapy.server.batch import BatchParser, get_boundary

from batcher.http import BatchReplyError, HTTPRequest, HTTPResponse, MultipartBatch, UnsafeRequestError
from batcher.http._safety import check_request
from tests.http.requests_of_tests import are_missing, get, good, post

FORMAT = MultipartBatch("/v1/$batch")
GOOGLE = MultipartBatch("/batch/drive/v3", relative=False)


def ids_of(requests: list[HTTPRequest]) -> list[str]:
    """Return the Content-IDs that requests travel under."""
    whole = FORMAT.combine(requests)
    return [line[12:] for line in whole.body.decode("latin-1").split("\r\n") if line.startswith("Content-ID: ")]


def whole_reply(*parts: bytes, boundary: str = "edge", ending: bytes = b"--edge--") -> HTTPResponse:
    """Return a reply of parts, each without the boundaries around it."""
    body = b"".join(b"--edge\r\n%b\r\n" % part for part in parts) + ending
    return HTTPResponse(200, (("Content-Type", f'multipart/mixed; boundary="{boundary}"'),), body)


def part(name: str, http: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> bytes:
    """Return a part of a reply."""
    return f"Content-Type: application/http\r\nContent-ID: {name}\r\n\r\n".encode() + http


def test_a_batch_as_it_goes_over_the_wire() -> None:
    """Parts are HTTP messages with paths relative to the folder; credentials are on the envelope alone."""
    whole = FORMAT.combine(
        [
            get("/v1/users/1?full=1", ("Accept", "a"), ("Authorization", "s")),
            post("/v1/users", b"{}", ("Authorization", "s")),
        ]
    )
    boundary = get_boundary(whole.header("content-type"))
    first, second = ids_of([get("/v1/a"), get("/v1/b")])

    assert whole.header("authorization") == "s"
    assert whole.header("accept") == "multipart/mixed"
    assert whole.header("prefer") == "continue-on-error, odata.continue-on-error"
    assert whole.body.decode() == (
        f"--{boundary}\r\n"
        "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: {first}\r\n\r\n"
        "GET users/1?full=1 HTTP/1.1\r\nAccept: a\r\n\r\n\r\n"
        f"--{boundary}\r\n"
        "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: {second}\r\n\r\n"
        "POST users HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}\r\n"
        f"--{boundary}--\r\n"
    )


def test_absolute_paths_for_endpoints_that_lie_beside() -> None:
    """Google's endpoints lie beside what they serve: parts have the whole path, wherever it leads."""
    request = get("/drive/v3/files?q=1")

    assert GOOGLE.accepts(request)
    assert not FORMAT.accepts(request)
    assert not GOOGLE.accepts(get("//evil.example/x"))
    assert not GOOGLE.accepts(get("/batch/drive/v3"))
    assert b"\r\nGET /drive/v3/files?q=1 HTTP/1.1\r\n" in GOOGLE.combine([request]).body


TEXT = st.text(st.sampled_from("aB1 \t\r\n:/-_.$%?&=\0"), max_size=8)
BODIES = st.binary(max_size=30) | st.sampled_from(
    [b"\r\n--batch_\r\n", b"--\r\n\r\nGET evil HTTP/1.1\r\n\r\n", b"\r\n"]
)


@given(st.lists(st.tuples(st.sampled_from(["GET", "POST", TEXT]), TEXT, TEXT, TEXT, BODIES), min_size=1, max_size=4))
def test_no_part_breaks_out(drawn: list[tuple[object, str, str, str, bytes]]) -> None:
    """What is let in is read back by an OData server's parser as it was: as many parts, each its own (fault 42)."""
    requests = [get("/v1/first", ("X-", ""))]
    for method, path, name, value, body in drawn:
        request = HTTPRequest(str(method), "http://h", f"/v1/{path}", ((f"X-{name}", value),), body)
        try:
            check_request(request)
        except UnsafeRequestError:
            continue
        if FORMAT.accepts(request) and not path.startswith("$batch"):
            requests.append(request)
    whole = FORMAT.combine(requests)
    boundary = get_boundary(whole.header("content-type"))
    assert boundary
    parts = BatchParser("http://h/v1").parse(whole.body, boundary)

    assert len(parts) == len(requests)
    for found, request in zip(parts, requests, strict=True):
        item = found.item
        assert item is not None
        assert item.request.method.value == request.method
        # That parser takes a line break off the end of a body, whatever its length is said to be.
        assert item.request.body in {request.body, *(request.body.removesuffix(end) for end in (b"\r\n", b"\n", b"\r"))}
        assert item.request.get_header(request.headers[0][0]) == request.headers[0][1].strip()


def test_boundary_is_drawn_again_where_a_body_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can guess a boundary; and were it guessed, another one would be taken."""
    drawn = iter(["aa", "aa", "bb"])
    monkeypatch.setattr(secrets, "token_hex", lambda size: next(drawn))
    whole = FORMAT.combine([post("/v1/x", b"--batch_aa--")])

    assert whole.header("content-type") == "multipart/mixed; boundary=batch_bb"


@given(st.integers(1, 20), st.randoms(use_true_random=False), st.sets(st.integers(0, 19)))
def test_answers_are_matched_whatever_their_order(count: int, chance: random.Random, dropped: set[int]) -> None:
    """Shuffled, dropped and repeated answers: each caller gets its own or an error (fault 37)."""
    requests = [get(f"/v1/{number}") for number in range(count)]
    answers = [
        part(f"<response-{name}>", b"HTTP/1.1 200 OK\r\n\r\n%d" % number)
        for number, name in enumerate(ids_of(requests))
        if number not in dropped
    ]
    repeated = [answer[:-1] + b"x" for answer in answers]
    chance.shuffle(answers)
    found = FORMAT.split(whole_reply(*answers, *repeated, part("stranger")), requests)

    for number, answer in enumerate(found):
        if number in dropped:
            assert isinstance(answer, BatchReplyError)
        else:
            assert good(answer).body == str(number).encode()


def test_answers_are_read_as_they_stand() -> None:
    """Status, words, headers and body are the part's own, in either style of line ends, the id inside or outside."""
    requests = [get("/v1/a"), get("/v1/b"), get("/v1/c")]
    first, second, third = ids_of(requests)
    found = FORMAT.split(
        whole_reply(
            part(
                first, b"HTTP/1.1 404 Not Here\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 3\r\n\r\n\r\n-"
            ),
            f"Content-Type: application/http\n\nHTTP/1.1 200\nContent-ID: {second}\nContent-Length: 1\n\nx\n".encode(),
            part(third, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 17\r\nConnection: close\r\n\r\n"),
        ),
        requests,
    )

    cookies = (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
    assert found == [
        HTTPResponse(404, (*cookies, ("Content-Length", "3")), b"\r\n-", "Not Here"),
        HTTPResponse(200, (("Content-Length", "1"),), b"x"),
        HTTPResponse(304, (("Content-Length", "17"),), b"", "Not Modified"),
    ]


def test_a_length_that_counts_characters_cuts_no_body() -> None:
    """A server that counts characters where bytes are meant doesn't cost the end of the body."""
    requests = [get("/v1/a")]
    body = "ääx".encode()
    found = FORMAT.split(
        whole_reply(part(ids_of(requests)[0], b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + body)), requests
    )

    assert good(found[0]).body == body


@pytest.mark.parametrize("http", [b"", b"HTTP/1.1 OK", b"HTTP/1.1 999 No\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_answer_without_a_status_is_none(http: bytes) -> None:
    """A part that is no HTTP response fails its call alone."""
    requests = [get("/v1/a"), get("/v1/b")]
    first, second = ids_of(requests)

    assert are_missing(FORMAT.split(whole_reply(part(first, http), part(second)), requests)) == [True, False]


def test_a_part_that_the_end_cuts_off_is_none() -> None:
    """Where the last boundary is missing, what stands before it may be half an answer."""
    requests = [get("/v1/a"), get("/v1/b")]
    first, second = ids_of(requests)

    assert are_missing(FORMAT.split(whole_reply(part(first), part(second), ending=b""), requests)) == [False, True]


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/mixed", "text/plain; boundary=edge"])
def test_reply_of_another_kind_fails_all(kind: str) -> None:
    """A reply that isn't multipart is an error of the whole."""
    with pytest.raises(BatchReplyError, match="multipart"):
        FORMAT.split(HTTPResponse(200, (("Content-Type", kind),), b"--edge--"), [get("/v1/a")])


def test_whether_paths_are_relative_is_a_flag() -> None:
    """Anything but True and False is refused."""
    with pytest.raises(TypeError, match="relative must be True or False, got 1"):
        MultipartBatch(relative=1)  # type: ignore[arg-type]
