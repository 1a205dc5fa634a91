"""What all formats have in common."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from batcher.http import (
    BodyArray,
    Format,
    GraphQLArray,
    HTTPRequest,
    HTTPResponse,
    JSONBatch,
    JSONRPCBatch,
    MultipartBatch,
)
from batcher.http._format import IdMatcher, each
from tests.http.requests_of_tests import are_missing, get

ALL = [JSONBatch("/b"), MultipartBatch("/b"), GraphQLArray("/b"), JSONRPCBatch("/b"), BodyArray("/b")]


class Plain(Format):
    """A format of somebody's own, with nothing but what it has to have."""

    def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
        """Return an envelope with the targets."""
        return self.envelope(requests, b",".join(r.target.encode() for r in requests), "text/x", (("X-Extra", "1"),))

    def split(self, response: HTTPResponse, requests: Sequence[HTTPRequest]) -> list[HTTPResponse | Exception]:
        """Return the reply for each."""
        return list(each(response, requests))


def test_limits_of_known_servers_are_the_defaults() -> None:
    """Graph takes 20, Google 100, GraphQL servers 10; an instance may say otherwise."""
    sizes = {type(wire_format).__name__: wire_format.max_batch_size for wire_format in ALL}

    assert sizes == {"JSONBatch": 20, "MultipartBatch": 100, "GraphQLArray": 10, "JSONRPCBatch": 100, "BodyArray": 100}
    assert [JSONBatch().path, MultipartBatch().path, GraphQLArray().path, JSONRPCBatch().path] == [
        "/$batch",
        "/batch",
        "/graphql",
        "/rpc",
    ]
    own = JSONBatch("/b", max_batch_size=5, max_part_bytes=7)
    assert (own.max_batch_size, own.max_part_bytes, JSONBatch.max_batch_size) == (5, 7, 20)


@pytest.mark.parametrize(
    ("error", "path", "options"),
    [
        (ValueError, "batch", {}),
        (ValueError, "//h/batch", {}),
        (ValueError, "/b?x=1", {}),
        (TypeError, 7, {}),
        (ValueError, "/b", {"max_batch_size": 0}),
        (TypeError, "/b", {"max_part_bytes": 1.5}),
    ],
)
def test_wrong_options_are_refused(error: type[Exception], path: Any, options: dict[str, Any]) -> None:
    """A path that isn't absolute, and sizes that are none, are refused at construction."""
    with pytest.raises(error, match="got"):
        JSONBatch(path, **options)


def test_envelope_carries_what_all_share() -> None:
    """Credentials and unknown headers go out as the caller wrote them; what belongs to a message doesn't."""
    first = get("/a", ("Authorization", "x"), ("X-New", "1"), ("Content-Length", "9"), ("Accept-Encoding", "gzip"))
    whole = Plain("/b").combine([first, get("/c")])

    assert whole == HTTPRequest(
        "POST",
        "http://h",
        "/b",
        (
            ("Authorization", "x"),
            ("X-New", "1"),
            ("Accept-Encoding", "gzip"),
            ("Content-Type", "text/x"),
            ("X-Extra", "1"),
        ),
        b"/a,/c",
    )


def test_endpoint_itself_is_never_batched() -> None:
    """A batch that somebody writes by hand goes alone."""
    assert not Plain("/b").accepts(get("/b?x=1"))
    assert Plain("/b").accepts(get("/c"))
    assert not any(wire_format.accepts(get("/b")) for wire_format in ALL)


def test_answers_find_their_ids(caplog: pytest.LogCaptureFixture) -> None:
    """Answers come in any order; a missing one is an error, an unknown or repeated one is logged and ignored."""
    first, again, other = HTTPResponse(200), HTTPResponse(201), HTTPResponse(202)
    matcher = IdMatcher(["1", "2", "3"])
    for name, answer in (("3", other), ("1", first), ("1", again), ("9", again), (None, again), (["1"], again)):
        matcher.add(name, answer)
    with caplog.at_level(logging.WARNING, "batcher"):
        answers = matcher.answers()

    assert (answers[0], answers[2]) == (first, other)
    assert are_missing(answers) == [False, True, False]
    assert caplog.messages == [
        "a reply to a batch of 3 requests has 4 answers with an unknown or repeated id; they are ignored"
    ]


def test_errors_of_missing_answers_are_objects_of_their_own() -> None:
    """Two callers never raise one exception object."""
    one, two = IdMatcher(["1", "2"]).answers()

    assert one is not two


def test_one_reply_for_several_sets_no_cookie(caplog: pytest.LogCaptureFixture) -> None:
    """A cookie in a reply for all is nobody's in particular; with one caller it is that one's."""
    response = HTTPResponse(200, (("Set-Cookie", "a=1"), ("X-A", "1"), ("Content-Length", "2")), b"{}")
    with caplog.at_level(logging.WARNING, "batcher"):
        assert each(response, [get("/")]) == [HTTPResponse(200, (("Set-Cookie", "a=1"), ("X-A", "1")), b"{}")]
        assert not caplog.messages
        assert each(response, [get("/"), get("/")]) == [HTTPResponse(200, (("X-A", "1"),), b"{}")] * 2
    assert caplog.messages == ["a reply to a batch of 2 requests sets a cookie for none of them; it is ignored"]
