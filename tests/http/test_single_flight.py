"""Single-flight: one answer for equal GETs, a response for each caller, and nothing of anybody else's."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from batcher.http import JSONBatch
from tests.http.batch_server import HANG_UP, JSON_BATCH, BatchServer, Received, Reply, echo
from tests.integration.clients import crowd
from tests.integration.servers import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.http.kinds import Kind

CALLERS = 6


def together(
    server: BatchServer, kind: Kind, job: Callable[[Any, int], Any], *, places: int = 1, **options: Any
) -> list[Any]:
    """Run `job(client, number)` in some threads, and hold the server's answers until all are on their way."""
    server.gate.clear()
    batching = kind.wrap(JSONBatch(JSON_BATCH), max_delay=0.001, **options)
    with kind.open(server.url, JSONBatch("/unused"), wrapped=batching) as client, ThreadPoolExecutor(1) as pool:
        answers = pool.submit(crowd, CALLERS, lambda number: job(client, number))
        until(lambda: batching.status().accepted == CALLERS, "all callers wait")
        server.gate.set()
        found = answers.result(30)
    assert batching.status().deduplicated == CALLERS - places
    return found


def test_equal_gets_share_one_answer(server: BatchServer, kind: Kind) -> None:
    """One part is sent for all; each caller gets a response object of its own, with its own request on it."""
    answers = together(server, kind, lambda client, number: client.get("/v1/x", headers={"X-User": "ada"}))

    assert [answer.json()["path"] for answer in answers] == ["/v1/x"] * CALLERS
    assert len(server.parts) == 1
    assert len({id(answer) for answer in answers}) == len({id(answer.request) for answer in answers}) == CALLERS


def test_heads_share_too(server: BatchServer, kind: Kind) -> None:
    """A HEAD is as good as a GET there."""
    answers = together(server, kind, lambda client, number: client.request("HEAD", "/v1/x").status_code)

    assert (answers, len(server.parts)) == ([200] * CALLERS, 1)


def test_posts_are_each_their_own(server: BatchServer, kind: Kind) -> None:
    """Equal POSTs are as many POSTs."""
    together(server, kind, lambda client, number: client.post("/v1/x"), places=CALLERS)

    assert len(server.parts) == CALLERS


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "Accept", "X-Never-Heard-Of"])
def test_other_headers_are_another_answer(server: BatchServer, kind: Kind, name: str) -> None:
    """Callers whose headers differ in anything share nothing (fault 36)."""
    users = "ab"

    def respond(part: Received) -> Reply:
        return echo(part)

    def job(client: Any, number: int) -> Any:
        return client.get("/v1/x", headers={name: users[number % 2], "X-User": users[number % 2]}).json()["user"]

    server.respond = respond
    answers = together(server, kind, job, places=2)

    assert answers == [users[number % 2] for number in range(CALLERS)]
    assert len(server.parts) == 2


def test_sharing_can_be_switched_off(server: BatchServer, kind: Kind) -> None:
    """With `deduplicate=False` each GET is its own."""
    together(server, kind, lambda client, number: client.get("/v1/x"), places=CALLERS, deduplicate=False)

    assert len(server.parts) == CALLERS


def test_a_cookie_reaches_only_its_own_caller(server: BatchServer, kind: Kind) -> None:
    """Where the shared answer sets a cookie, all others ask again: no two callers get one session (fault 36)."""
    sessions = iter(range(100))
    server.respond = lambda part: Reply(200, b"{}", [("Set-Cookie", f"session={next(sessions)}")])
    server.gate.clear()
    batching = kind.wrap(JSONBatch(JSON_BATCH), max_delay=0.001)
    with kind.open(server.url, JSONBatch("/unused"), wrapped=batching) as client, ThreadPoolExecutor(1) as pool:
        answers = pool.submit(crowd, CALLERS, lambda number: dict(client.get("/v1/x").cookies)["session"])
        until(lambda: batching.status().accepted == CALLERS, "all callers wait")
        server.gate.set()
        found = answers.result(30)

    assert sorted(found) == [str(number) for number in range(CALLERS)]


def test_a_shared_failure_is_each_callers_own(server: BatchServer, kind: Kind) -> None:
    """What fails for one fails for all who share it, each with an exception of its own (fault 35)."""
    server.whole = lambda call: HANG_UP

    def job(client: Any, number: int) -> Any:
        try:
            return client.get("/v1/x")
        except Exception as error:
            return error

    errors = together(server, kind, job)

    assert Counter(type(error) for error in errors) == {kind.errors.reply: CALLERS}
    assert len({id(error) for error in errors}) == len({id(error.request) for error in errors}) == CALLERS


def test_a_shared_503_is_a_response_to_all(server: BatchServer, kind: Kind) -> None:
    """A response that counts as a failure comes back as the response, to followers too."""
    server.whole = lambda call: Reply(503, b"busy")

    assert together(server, kind, lambda client, number: client.get("/v1/x").content) == [b"busy"] * CALLERS


def test_a_shared_timeout_is_the_end_when_time_is_over(server: BatchServer, kind: Kind) -> None:
    """Callers with equal limits get their timeouts, and wait no longer than they said."""

    def job(client: Any, number: int) -> Any:
        began = time.monotonic()
        with pytest.raises(kind.errors.read_timeout):
            client.get("/v1/x", timeout=0.2)
        return time.monotonic() - began

    server.gate.clear()
    batching = kind.wrap(JSONBatch(JSON_BATCH), max_delay=0.001)
    with kind.open(server.url, JSONBatch("/unused"), wrapped=batching) as client:
        waited = crowd(2, lambda number: job(client, number))
        server.gate.set()

    assert max(waited) < 5


def test_the_first_caller_may_leave(server: BatchServer, kind: Kind) -> None:
    """When the time of the caller whose request was sent is over, those who share it have theirs left (fault 35)."""
    server.gate.clear()
    batching = kind.wrap(JSONBatch(JSON_BATCH), max_delay=0.001)
    with kind.open(server.url, JSONBatch("/unused"), wrapped=batching) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.get, "/v1/x", timeout=0.2)
        assert server.arrived.acquire(timeout=20)
        second = pool.submit(client.get, "/v1/x", timeout=20)
        until(lambda: batching.status().deduplicated == 1, "the second one shares")
        assert isinstance(first.exception(20), kind.errors.read_timeout)
        assert server.arrived.acquire(timeout=20)
        server.gate.set()
        assert second.result(20).json()["path"] == "/v1/x"
