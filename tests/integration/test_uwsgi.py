"""Flask under uWSGI, which forks its workers without telling Python."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .clients import Answer, ask, crowd
from .servers import PROJECT, free_port, listening
from .userbase import name_of

if TYPE_CHECKING:
    from .userbase import Userbase

pytestmark = pytest.mark.integration

CLIENTS = 50
UWSGI = shutil.which("uwsgi", path=str(Path(sys.executable).parent)) or shutil.which("uwsgi")


@pytest.mark.skipif(UWSGI is None, reason="uWSGI is not installed (the package pyuwsgi brings it)")
def test_fork_without_hooks(sqlite_users: Userbase, tmp_path: Path) -> None:
    """Workers forked from a master that used the batcher notice it by themselves, and deliver, also at exit."""
    port = free_port()
    command = [str(UWSGI), "--http-socket", f"127.0.0.1:{port}", "--master", "--die-on-term", "--need-app"]
    command += ["--processes", "2", "--threads", "25", "--enable-threads", "--listen", "100"]
    command += ["--home", sys.prefix, "--pythonpath", str(PROJECT)]
    command += ["--module", "tests.integration.apps.flask_users:app"]
    env = {"USERBASE": sqlite_users.where, "USE_AT_IMPORT": "1"}
    with listening(command, port, tmp_path / "log", env=env) as server:
        imported = ask(port, "/imported").body
        before = sqlite_users.query_count()
        answers = crowd(CLIENTS, lambda client: ask(port, f"/users/{client + 1}"))
        queries = sqlite_users.query_count() - before

    assert imported["pid"] == server.pid
    assert [Answer(answer.status, answer.body["name"]) for answer in answers] == [
        Answer(200, name_of(client + 1)) for client in range(CLIENTS)
    ]
    assert server.pid not in {answer.body["pid"] for answer in answers}
    assert 1 <= queries <= CLIENTS / 3
    assert sqlite_users.visits() == list(range(1, CLIENTS + 1))
