"""A handler that needs Flask's application context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .clients import Answer, ask, crowd
from .servers import gunicorn

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

CLIENTS = 20


def test_handler_runs_in_the_application_context(tmp_path: Path) -> None:
    """Around each batch one context is pushed, and torn down with what the handler kept in it."""
    application = "tests.integration.apps.flask_greetings:app"
    with gunicorn(application, tmp_path / "log", workers=1, threads=CLIENTS, env={}) as (_, port):
        answers = crowd(CLIENTS, lambda number: ask(port, f"/greetings/client-{number}"))
        outside = ask(port, "/bare/stranger")
        status = ask(port, "/status").body

    assert answers == [Answer(200, f"Good morning, client-{number}") for number in range(CLIENTS)]
    assert 1 <= status["batches"] < CLIENTS
    assert status["opened"] == status["closed"] == status["batches"]
    assert outside.status == 500
    assert "application context" in outside.body
