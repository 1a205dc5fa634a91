"""Django: a site under gunicorn, and its tests under Django's own test runner."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .clients import Answer, ask, crowd
from .conftest import DATABASES
from .servers import PROJECT, Program, gunicorn, until

if TYPE_CHECKING:
    from pathlib import Path

    from .postgres import Cluster

pytestmark = pytest.mark.integration

SITE = "tests.integration.django_site"
CLIENTS = 8
ROUNDS = 60
THREADS = 4  # of the site's batcher


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The site's database: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'site.db'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return f"postgresql:{cluster.folder}:{cluster.owner}:{cluster.create_database()}"


def site_environment(database: str) -> dict[str, str]:
    """Return what the site needs to know."""
    return {"DJANGO_SETTINGS_MODULE": f"{SITE}.settings", "SITE_DATABASE": database}


def run_python(log: Path, database: str, *arguments: str) -> str:
    """Run Python with the site's settings; return what it printed."""
    program = Program([sys.executable, *arguments], log, env=site_environment(database))
    status = program.wait(40)
    assert status == 0, program.output()
    return program.output()


def test_connections_stay_few(database: str, tmp_path: Path) -> None:
    """Over 200 batches the batcher's threads hold a connection each at most, and none when idle."""
    run_python(tmp_path / "populate", database, "-m", f"{SITE}.populate", str(CLIENTS))
    env = site_environment(database)

    def ask_in_turn(port: int, client: int) -> list[Answer]:
        return [ask(port, f"/people/{client + 1}") for _ in range(ROUNDS)]

    # Whoever asks PostgreSQL for the count has a connection too.
    asking = 0 if database.startswith("sqlite") else 1
    with gunicorn(f"{SITE}.wsgi:application", tmp_path / "log", workers=1, threads=CLIENTS, env=env) as (_, port):
        answers = crowd(CLIENTS, lambda client: ask_in_turn(port, client))
        until(lambda: ask(port, "/status").body["open"] == asking, "all connections closed")
        status = ask(port, "/status").body

    for client, own in enumerate(answers):
        assert own == [Answer(200, {"name": f"person {client + 1}"})] * ROUNDS
    assert status["batches"] >= 200
    # PostgreSQL counts those that were just closed for another moment.
    assert 1 <= status["most_open"] <= (THREADS if asking == 0 else 5 * THREADS)


def test_tests_of_the_site(database: str, tmp_path: Path) -> None:
    """Django's own runner passes the site's tests: inline batches, own threads, items added on commit."""
    printed = run_python(tmp_path / "log", database, "-m", "django", "test", f"{SITE}.tests", "--noinput")
    ran = re.search(r"^Ran (\d+) tests", printed, re.MULTILINE)
    assert ran is not None, printed
    assert int(ran[1]) >= 15, printed


def test_without_django_the_extra_is_named() -> None:
    """Where Django is missing, importing the module says how to get it."""
    code = "import sys; sys.modules['django'] = None; import batcher.contrib.django"
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "ImportError: batcher.contrib.django needs Django: pip install 'thread-batcher[django]'" in ended.stderr
