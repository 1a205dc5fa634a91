"""Verdicts: what may be tried again, and what never."""

from __future__ import annotations

import copy
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from batcher.http import BatchReplyError, HTTPRequest, HTTPResponse
from batcher.http._call import Call, batch_key, flight_key
from batcher.http._timeouts import Timeouts
from batcher.http._verdict import Answer, FailedAnswer, Final, judge_error, judge_part, judge_whole, read_retry_after

if TYPE_CHECKING:
    from collections.abc import Hashable


class Route:
    """A way to nowhere, which knows a refused connection when it sees one."""

    key: Hashable = None

    def send(self, request: HTTPRequest, timeouts: Timeouts) -> HTTPResponse:
        """Send nothing."""
        raise NotImplementedError

    def never_sent(self, error: BaseException) -> bool:
        """Say whether the connection was refused."""
        return isinstance(error, ConnectionRefusedError)

    def timed_out(self, error: BaseException) -> bool:
        """Say whether time was up."""
        return isinstance(error, TimeoutError)


def call(method: str) -> Call:
    """Return a call."""
    request = HTTPRequest(method, "http://h", "/x")
    return Call(request, Route(), Timeouts(), sharing_key="s", lane=1, flight_key="f")


GET, POST = call("GET"), call("POST")
BUSY = HTTPResponse(503, (("Retry-After", "3"),))


def carried(outcome: Answer | Exception) -> HTTPResponse:
    """Return the response that a retried failure carries."""
    assert isinstance(outcome, FailedAnswer)
    return outcome.answer.response


def test_calls_know_their_keys_and_show_no_content() -> None:
    """The batch key is what is shared and the lane; the flight key is the call's own."""
    assert (batch_key(GET), flight_key(GET)) == (("s", 1), "f")
    assert repr(GET) == "<Call of <HTTPRequest 'GET', 0 headers, 0 bytes>>"


def test_errors_are_retried_where_that_is_safe() -> None:
    """A broken call is tried again for idempotent methods, and for others only if nothing was sent."""
    broken, refused = OSError("broken"), ConnectionRefusedError()

    assert judge_error(GET, broken) is broken
    assert judge_error(POST, refused) is refused
    final = judge_error(POST, broken)
    assert isinstance(final, Final)
    assert final.error is broken


@pytest.mark.parametrize("status", [429, 503])
def test_a_whole_that_was_put_off_is_retried(status: int) -> None:
    """The server says that it has done nothing, so all are tried again, POSTs too."""
    response = HTTPResponse(status)

    assert [carried(judge_whole(each, response)) for each in (GET, POST)] == [response, response]


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_whole_that_broke_is_retried_where_that_is_safe(status: int) -> None:
    """After another 5xx nobody knows what was done: only idempotent methods are tried again."""
    response = HTTPResponse(status)

    assert carried(judge_whole(GET, response)) is response
    final = judge_whole(POST, response)
    assert isinstance(final, Final)
    assert isinstance(final.error, FailedAnswer)
    assert final.error.answer == (POST, response)


def test_a_whole_4xx_is_an_answer() -> None:
    """What the client did wrong isn't tried again."""
    assert judge_whole(GET, HTTPResponse(401)) == (GET, HTTPResponse(401))


def test_a_part_is_retried_only_if_it_asks_for_it() -> None:
    """A 429 or 503 with a Retry-After is; any other status is the answer."""
    failed = judge_part(POST, BUSY)

    assert isinstance(failed, FailedAnswer)
    assert (failed.retry_after, failed.answer) == (3.0, (POST, BUSY))
    for response in (HTTPResponse(503), HTTPResponse(500, BUSY.headers), HTTPResponse(200, BUSY.headers)):
        assert judge_part(GET, response) == (GET, response)


def test_a_missing_answer_is_retried_where_that_is_safe() -> None:
    """The server may have done what it doesn't answer; what else a format says of a part is final."""
    missing = BatchReplyError("missing")

    assert judge_part(GET, missing) is missing
    assert isinstance(judge_part(POST, missing), Final)
    assert isinstance(judge_part(GET, ValueError()), Final)


def test_failures_can_be_copied() -> None:
    """Callers that share an answer get a copy each of what failed."""
    for failure in (FailedAnswer(Answer(GET, BUSY)), Final(OSError())):
        twin = copy.copy(failure)
        assert type(twin) is type(failure)
        assert twin.args == failure.args


@pytest.mark.parametrize(
    ("value", "expected"),
    [("7", 7.0), ("0", 0.0), (formatdate(0), 0.0), ("soon", None), ("-1", None), ("", None), ("1.5", None)],
)
def test_retry_after(value: str, expected: float | None) -> None:
    """Seconds or a date, and nothing else; a date that has passed means at once."""
    assert read_retry_after(HTTPResponse(503, (("Retry-After", value),))) == expected
    assert read_retry_after(HTTPResponse(503)) is None


def test_retry_after_a_date_to_come() -> None:
    """A date is waited for from now on."""
    seconds = read_retry_after(HTTPResponse(503, (("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"),)))

    assert seconds is not None
    assert seconds > 1e9
