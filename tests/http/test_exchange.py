"""From a record to its response: what the caller waits for, and what it gets."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

from batcher import BatchError, ItemTimeoutError
from batcher.http import HTTPRequest, HTTPResponse, JSONBatch
from batcher.http._exchange import Exchange, _unwrapped
from batcher.http._timeouts import Timeouts
from batcher.http._verdict import Answer, FailedAnswer, Final
from batcher.testing import FakeClock
from tests.http.test_verdict import BUSY, GET, Route

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = HTTPRequest("GET", "http://h", "/x")


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange whose route leads nowhere."""
    made = Exchange(JSONBatch(), deduplicate=True, compress=False, max_batch_size=5, max_delay=0.05, options={})
    yield made
    made.close()


def test_a_clock_that_stands_still_holds_up_nobody() -> None:
    """Where a test's clock never reaches the deadline, the caller's patience ends in real time."""
    with FakeClock():
        exchange = Exchange(
            JSONBatch(), deduplicate=True, compress=False, max_batch_size=5, max_delay=0.01, options={"adaptive": False}
        )
        with pytest.raises(ItemTimeoutError, match="no answer within the caller's own timeouts"):
            exchange.answer(REQUEST, Route(), Timeouts(0.01, 0.01))
        status = exchange.status()
        exchange.close()

    assert (status.pending, status.processing, status.cancelled) == (0, 0, 1)


def test_ctrl_c_takes_the_request_back(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that is interrupted while it waits leaves nothing behind."""

    class Interrupted(Future[Any]):
        """A future whose waiter presses Ctrl-C."""

        def exception(self, timeout: float | None = None) -> BaseException | None:
            """Be interrupted."""
            raise KeyboardInterrupt

    future = Interrupted()
    monkeypatch.setattr(exchange._batcher, "add", lambda call, timeout: future)
    with pytest.raises(KeyboardInterrupt):
        exchange.answer(REQUEST, Route(), Timeouts())
    assert future.cancelled()


def test_failures_that_carry_an_answer_are_that_answer() -> None:
    """However wrapped, a response is a response to the caller; anything else is raised as it is."""
    answer = Answer(GET, BUSY)
    failed, broken = FailedAnswer(answer), OSError()
    copied = BatchError("can't be copied")
    copied.__cause__ = Final(failed)
    other = BatchError("can't be copied")
    other.__cause__ = broken

    assert [_unwrapped(error) for error in (failed, Final(failed), copied)] == [answer] * 3
    assert [_unwrapped(error) for error in (broken, Final(broken), other)] == [broken, broken, other]


def test_unsafe_requests_that_would_go_alone_are_none_of_our_business(exchange: Exchange) -> None:
    """What doesn't enter a batch can't break out of one: the client's own protocol judges it."""
    request = HTTPRequest("GET", "http://h", "/$batch", (("X-A", "1\r\nX-B: 2"),))

    assert not exchange.takes(request)
    assert exchange.takes(HTTPRequest("GET", "http://h", "/x"))


def test_keys_are_freed(exchange: Exchange) -> None:
    """Once all are answered, nothing is kept of any key (fault 32)."""

    class Dead(Route):
        """A route that fails."""

        def send(self, request: HTTPRequest, timeouts: Timeouts) -> HTTPResponse:
            """Fail."""
            raise ConnectionRefusedError

    for number in range(5):
        with pytest.raises(ConnectionRefusedError):
            exchange.answer(HTTPRequest("GET", f"http://h{number}", "/x"), Dead(), Timeouts())
    assert len(exchange._lanes) == 0
