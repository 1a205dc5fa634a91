"""Retries: only what failed, only what may be done twice, and nobody waits for another's."""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Retry
from batcher.http import JSONBatch
from tests.http.batch_server import HANG_UP, JSON_BATCH, BatchServer, Received, Reply, echo
from tests.http.kinds import FULL, Client, Kind
from tests.integration.clients import crowd

if TYPE_CHECKING:
    from collections.abc import Callable

QUICKLY = Retry(3, delay=0.001, jitter="none")
# Nobody waits for company that has been answered already.
PAIRS: dict[str, Any] = {**FULL, "max_delay": 0.05, "max_batch_size": 2}
METHODS = ("GET", "POST")


def ask(client: Client, method: str) -> Any:
    """Return the status of an answer, or the kind of error."""
    try:
        return client.request(method, f"/v1/{method}").status_code
    except Exception as error:
        return type(error)


def first_times(count: int, reply: Reply) -> Callable[[Received], Reply | None]:
    """Return what answers the endpoint with `reply` some times, and then leaves it alone."""
    left = [reply] * count
    return lambda call: left.pop() if left else None


def test_a_part_that_was_put_off_is_retried_alone(server: BatchServer, kind: Kind) -> None:
    """A part's 503 with a Retry-After is tried again, without the others, whatever its method."""
    seen: Counter[str] = Counter()

    def respond(part: Received) -> Reply:
        seen[part.method] += 1
        if part.method == "POST" and seen["POST"] < 3:
            return Reply(503, b"", [("Retry-After", "0")])
        return echo(part)

    server.respond = respond
    with kind.open(server.url, JSONBatch(JSON_BATCH), retry=QUICKLY, **PAIRS) as client:
        assert crowd(2, lambda n: ask(client, METHODS[n])) == [200, 200]

    assert seen == {"GET": 1, "POST": 3}


def test_a_part_that_stays_put_off_is_a_response(server: BatchServer, kind: Kind) -> None:
    """When retries are used up, the caller gets the response that there was; without retries, the first one."""
    server.respond = lambda part: Reply(429, b"[]", [("Retry-After", "0")])
    for retry, calls in ((2, 3), (None, 1)):
        server.calls.clear()
        with kind.open(server.url, JSONBatch(JSON_BATCH), retry=retry) as client:
            answer = client.get("/v1/x")
        assert (answer.status_code, answer.content, len(server.calls)) == (429, b"[]", calls)


def test_a_part_that_fails_otherwise_is_not_retried(server: BatchServer, kind: Kind) -> None:
    """Any other status of a part is its answer, whatever it is."""
    server.respond = lambda part: Reply(500)
    with kind.open(server.url, JSONBatch(JSON_BATCH), retry=QUICKLY) as client:
        assert client.get("/v1/x").status_code == 500
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        (Reply(503), [200, 200]),
        (Reply(429, b"", [("Retry-After", "0")]), [200, 200]),
        (Reply(500), [200, 500]),
        (Reply(404), [404, 404]),
        (HANG_UP, [200, None]),
    ],
    ids=["503", "429", "500", "404", "lost"],
)
def test_a_whole_that_failed(server: BatchServer, kind: Kind, whole: Reply, expected: list[int | None]) -> None:
    """What was put off is tried again for all; what may have been done, for GETs alone; a 404 for nobody."""
    server.whole = first_times(1, whole)
    with kind.open(server.url, JSONBatch(JSON_BATCH), retry=QUICKLY, **PAIRS) as client:
        answers = crowd(2, lambda n: ask(client, METHODS[n]))

    assert answers == [kind.errors.reply if status is None else status for status in expected]
    assert Counter(part.method for part in server.parts)["POST"] == (1 if expected[1] == 200 else 0)


def test_a_connection_that_never_was_is_retried(server: BatchServer, kind: Kind) -> None:
    """Where nothing was sent, POSTs are tried again too."""
    attempts = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]

    class Policy:
        """A policy that notes what it is asked about."""

        def wait_after(self, error: BaseException, *, attempts: int, elapsed: float) -> float | None:
            """Try three times."""
            noted.append(type(error))
            return 0.0 if attempts < 3 else None

    noted: list[type] = []
    with kind.open(f"http://127.0.0.1:{nobody}", JSONBatch(JSON_BATCH), retry=Policy(), **PAIRS) as client:
        attempts = crowd(2, lambda n: ask(client, METHODS[n]))

    assert attempts == [kind.errors.connect] * 2
    assert noted == [kind.errors.connect] * 6


def test_a_missing_answer_is_retried_where_that_is_safe(server: BatchServer, kind: Kind) -> None:
    """A GET without an answer is asked again; a POST may have been done."""
    lost = iter([True])
    server.disturb = lambda answers: [] if next(lost, False) else answers
    with kind.open(server.url, JSONBatch(JSON_BATCH), retry=QUICKLY, **PAIRS) as client:
        answers = crowd(2, lambda n: ask(client, METHODS[n]))

    assert answers == [200, kind.errors.reply]


def test_nobody_waits_for_anothers_retry(server: BatchServer, kind: Kind) -> None:
    """While a part waits for a minute to pass, others of its host are answered; its caller waits its own time."""

    def respond(part: Received) -> Reply:
        return Reply(503, b"", [("Retry-After", "60")]) if part.path.endswith("GET") else echo(part)

    def run(number: int) -> Any:
        if number:
            assert server.arrived.acquire(timeout=20)
            return [client.get(f"/v1/{n}", timeout=20).status_code for n in range(3)]
        try:
            return client.get("/v1/GET", timeout=0.3)
        except Exception as error:
            return type(error)

    server.respond = respond
    retry = Retry(3, max_delay=60, jitter="none")
    with kind.open(server.url, JSONBatch(JSON_BATCH), retry=retry, max_delay=0.001) as client:
        assert crowd(2, run) == [kind.errors.read_timeout, [200, 200, 200]]
    assert [part.path for part in server.parts].count("/v1/GET") == 1


def test_what_was_given_up_is_not_sent_later(server: BatchServer, kind: Kind) -> None:
    """A caller that has got its timeout leaves nothing behind that would still be tried."""
    server.respond = lambda part: Reply(503, b"", [("Retry-After", "1")])
    batching = kind.wrap(JSONBatch(JSON_BATCH), retry=Retry(3, jitter="none"), max_delay=0.001)
    with kind.open(server.url, JSONBatch("/unused"), wrapped=batching) as client:
        with pytest.raises(kind.errors.read_timeout):
            client.post("/v1/x", timeout=0.1)
        status = batching.status()

    assert (status.pending, status.processing, status.expired) == (0, 0, 1)
    assert len(server.calls) == 1


def test_users_policy_decides_first(server: BatchServer, kind: Kind) -> None:
    """A policy that names the client's own exceptions is asked about those."""
    server.whole = first_times(1, HANG_UP)
    retry = Retry(3, delay=0.001, give_up_on=(kind.errors.root,))
    with kind.open(server.url, JSONBatch(JSON_BATCH), retry=retry) as client:
        assert ask(client, "GET") is kind.errors.reply
    assert len(server.calls) == 1
