"""Flask under gunicorn: views that ask for one user each, and a database that is asked seldom."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from .clients import Answer, ask, crowd
from .servers import gunicorn, until
from .userbase import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .servers import Program
    from .userbase import Userbase

pytestmark = pytest.mark.integration

CLIENTS = 50
ROUNDS = 6
NOBODY = 999_999
PRELOADING = pytest.mark.parametrize("preload", [False, True], ids=["plain", "preload"])
GTHREAD = ("--worker-class", "gthread")
GEVENT = ("--worker-class", "gevent")


@contextmanager
def serving(users: Userbase, log: Path, *options: str, preload: bool) -> Iterator[tuple[Program, int]]:
    """Run the application in two workers; preloaded, its batcher has been used before the fork."""
    env = {"USERBASE": users.where}
    if options == GEVENT:
        # Greenlets run one at a time, so a quick handler's call is over before the next request is read: whoever
        # wants few queries there asks for the whole delay.
        env["WHOLE_DELAY"] = "1"
    if preload:
        options += ("--preload",)
        env["USE_AT_IMPORT"] = "1"
    application = "tests.integration.apps.flask_users:app"
    with gunicorn(application, log, *options, workers=2, threads=CLIENTS, env=env) as (server, port):
        imported = ask(port, "/imported").body
        assert (imported["pid"] == server.pid) == preload
        assert any(name.startswith("batcher-") for name in imported["threads"]) == preload
        yield server, port


def ask_user(port: int, number: int) -> Answer:
    """Ask for a user; the answer's body is the name."""
    answer = ask(port, f"/users/{number}")
    return Answer(answer.status, answer.body["name"])


def check_crowd(users: Userbase, port: int) -> list[int]:
    """Let fifty clients ask for users of their own, compare requests with queries; return who was asked for."""

    def ask_for_own(client: int) -> list[Answer]:
        numbers = [client * ROUNDS + turn + 1 for turn in range(ROUNDS)]
        return [ask_user(port, number) for number in (*numbers, NOBODY)]

    before = users.query_count()
    answers = crowd(CLIENTS, ask_for_own)
    queries = users.query_count() - before

    for client, own in enumerate(answers):
        names = [name_of(client * ROUNDS + turn + 1) for turn in range(ROUNDS)]
        assert own == [*(Answer(200, name) for name in names), Answer(404, None)]
    requests = CLIENTS * (ROUNDS + 1)
    assert 1 <= queries <= requests / 3
    return [*range(1, CLIENTS * ROUNDS + 1), *[NOBODY] * CLIENTS]


@PRELOADING
def test_every_client_gets_its_own_user(users: Userbase, tmp_path: Path, *, preload: bool) -> None:
    """Fifty clients at once: each gets its own, with far fewer queries; what is pending is delivered at exit."""
    with serving(users, tmp_path / "log", *GTHREAD, preload=preload) as (_, port):
        asked_for = check_crowd(users, port)
    assert users.visits() == asked_for


@PRELOADING
def test_gevent_worker_delivers(sqlite_users: Userbase, tmp_path: Path, *, preload: bool) -> None:
    """Under gevent's worker the same holds: its greenlets are the threads."""
    with serving(sqlite_users, tmp_path / "log", *GEVENT, preload=preload) as (_, port):
        asked_for = check_crowd(sqlite_users, port)
    assert sqlite_users.visits() == asked_for


@PRELOADING
def test_reload_loses_no_request(sqlite_users: Userbase, tmp_path: Path, *, preload: bool) -> None:
    """While SIGHUP replaces the workers, every request is answered, and what the old ones hold is delivered."""
    enough = threading.Event()
    answers: list[tuple[int, Answer]] = []

    def keep_asking(client: int) -> None:
        number = client
        while not enough.is_set():
            number = number % 300 + 1
            answers.append((number, ask(port, f"/users/{number}")))

    def workers() -> set[int]:
        return {answer.body["pid"] for _, answer in answers.copy()}

    def reload() -> None:
        until(lambda: len(workers()) == 2, "answers of both workers")
        server.send(signal.SIGHUP)
        until(lambda: len(workers()) == 4, "answers of two new workers")
        seen = len(answers)
        until(lambda: len(answers) > seen + 100, "answers after the reload")

    def run(client: int) -> None:
        if client:
            keep_asking(client)
            return
        try:
            reload()
        finally:
            enough.set()

    with serving(sqlite_users, tmp_path / "log", *GTHREAD, preload=preload) as (server, port):
        crowd(20, run)

    got = [(number, answer.status, answer.body["name"]) for number, answer in answers]
    assert got == [(number, 200, name_of(number)) for number, _ in answers]
    assert sqlite_users.visits() == sorted(number for number, _ in answers)
