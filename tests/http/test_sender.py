"""The handler: many out as one, one back as many, and every failure finds its callers."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from batcher.http import BatchReplyError, Format, HTTPRequest, HTTPResponse, UnsafeRequestError
from batcher.http._call import Call
from batcher.http._lanes import Lanes
from batcher.http._sender import Sender
from batcher.http._timeouts import Timeouts
from batcher.http._verdict import Answer, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence


class Route:
    """A way to a function."""

    key: Hashable = None

    def __init__(self, respond: Callable[[HTTPRequest], HTTPResponse]) -> None:
        self.respond = respond
        self.sent: list[tuple[HTTPRequest, Timeouts]] = []

    def send(self, request: HTTPRequest, timeouts: Timeouts) -> HTTPResponse:
        """Note the request, and ask the function."""
        self.sent.append((request, timeouts))
        return self.respond(request)

    def never_sent(self, error: BaseException) -> bool:
        """Say that it may have been."""
        return False

    def timed_out(self, error: BaseException) -> bool:
        """Say whether time was up."""
        return isinstance(error, TimeoutError)


class Words(Format):
    """Targets in, one word each out."""

    def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
        """Join the targets."""
        return self.envelope(requests, " ".join(request.target for request in requests).encode(), "text/plain")

    def split(self, response: HTTPResponse, requests: Sequence[HTTPRequest]) -> list[HTTPResponse]:
        """Split the words."""
        return [HTTPResponse(200, body=word) for word in response.body.split()]


def echo(request: HTTPRequest) -> HTTPResponse:
    """Return the body."""
    return HTTPResponse(200, body=request.body)


def run(
    *targets: str,
    respond: Callable[[HTTPRequest], HTTPResponse] = echo,
    wire_format: Format | None = None,
    compress: bool = False,
) -> tuple[list[Answer | Exception], Route]:
    """Send GETs of targets in one batch."""
    route = Route(respond)
    calls = [
        Call(
            HTTPRequest("GET", "http://h", target),
            route,
            Timeouts(1.0, float(number)),
            sharing_key="k",
            lane=0,
            flight_key=None,
        )
        for number, target in enumerate(targets)
    ]
    send = Sender(wire_format or Words("/b"), Lanes(1, 10), compress=compress, retries=False)
    return send(calls), route


def test_each_call_gets_its_answer() -> None:
    """One request goes out under the longest timeouts; each answer knows whose it is."""
    answers, route = run("/a", "/b")

    assert [(answer.call.request.target, answer.response.body) for answer in answers if isinstance(answer, Answer)] == [
        ("/a", b"/a"),
        ("/b", b"/b"),
    ]
    assert [timeouts for _, timeouts in route.sent] == [Timeouts(1.0, 1.0)]


def test_errors_of_the_whole_are_objects_of_their_own() -> None:
    """Two callers never raise one exception object, and each has the cause of the whole."""

    def fail(request: HTTPRequest) -> HTTPResponse:
        raise OSError(7, "broken") from KeyError("why")

    one, two = run("/a", "/b", respond=fail)[0]
    assert isinstance(one, OSError)
    assert isinstance(two, OSError)
    assert one is not two
    assert one.args == two.args == (7, "broken")
    assert isinstance(one.__cause__, KeyError)


class StubbornError(Exception):
    """An error that can't be copied."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


class ShapeshifterError(Exception):
    """An error whose copy is another one."""

    def __copy__(self) -> Exception:
        """Return another."""
        return ValueError()


@pytest.mark.parametrize("error", [StubbornError(1, 2), ShapeshifterError()], ids=["stubborn", "shapeshifter"])
def test_errors_that_cannot_be_copied_stay_what_they_are(error: Exception) -> None:
    """Whatever a transport raises reaches the callers."""

    def fail(request: HTTPRequest) -> HTTPResponse:
        raise error

    assert run("/a", respond=fail)[0] == [error]


class Broken(Words):
    """A format that can't combine."""

    def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
        """Fail."""
        raise KeyError("combine")


class Smuggling(Words):
    """A format that builds what isn't one request."""

    def combine(self, requests: Sequence[HTTPRequest]) -> HTTPRequest:
        """Return a request with a line break in a header."""
        return HTTPRequest("POST", "http://h", "/b", (("A", "1\r\nB: 2"),))


@pytest.mark.parametrize(("wire_format", "kind"), [(Broken("/b"), KeyError), (Smuggling("/b"), UnsafeRequestError)])
def test_a_format_that_fails_sends_nothing(wire_format: Format, kind: type[Exception]) -> None:
    """What a format raises, or builds wrongly, is final: trying again would change nothing."""
    answers, route = run("/a", "/b", wire_format=wire_format)

    assert [type(answer.error) for answer in answers if isinstance(answer, Final)] == [kind, kind]
    assert not route.sent


@pytest.mark.parametrize(
    "reply", [HTTPResponse(200, body=b"one"), HTTPResponse(200, body=b"a b c"), HTTPResponse(307, body=b"a b")]
)
def test_a_reply_that_cannot_be_split_fails_all(reply: HTTPResponse) -> None:
    """Another number of answers, or a redirect, is an error of each call."""
    answers, _ = run("/a", "/b", respond=lambda request: reply)

    assert [type(answer) for answer in answers] == [BatchReplyError] * 2
    assert all(isinstance(answer.__cause__, BatchReplyError) for answer in answers if isinstance(answer, Exception))


def test_a_whole_error_keeps_its_cookie_for_a_lone_caller() -> None:
    """A cookie in an error of the whole is the one caller's, and nobody's among several."""
    refusal = HTTPResponse(401, (("Set-Cookie", "a=1"), ("X-A", "1")))

    (lone,) = run("/a", respond=lambda request: refusal)[0]
    several = run("/a", "/b", respond=lambda request: refusal)[0]
    assert isinstance(lone, Answer)
    assert lone.response == refusal
    assert [answer.response.headers for answer in several if isinstance(answer, Answer)] == [(("X-A", "1"),)] * 2


def test_only_long_bodies_are_compressed() -> None:
    """Up to 1 KiB a body goes out as it is; a longer one in gzip, if that was asked for."""
    for length, compress, expected in ((1_024, True, False), (1_025, True, True), (1_025, False, False)):
        target = "/" + "x" * (length - 1)
        _, route = run(target, respond=lambda request: HTTPResponse(200, body=b"x"), compress=compress)
        (sent, _), *_ = route.sent
        assert (sent.header("content-encoding") == "gzip") is expected
        assert (gzip.decompress(sent.body) if expected else sent.body) == target.encode()
