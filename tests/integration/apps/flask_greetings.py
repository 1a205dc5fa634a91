"""A Flask application whose handler reads its configuration and keeps a connection in `flask.g`."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from flask import Flask, current_app, g, jsonify

from batcher import Batcher

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

app = Flask(__name__)
app.config["GREETING"] = "Good morning"
opened: list[sqlite3.Connection] = []
closed: list[sqlite3.Connection] = []


def greet(names: list[str]) -> list[str]:
    """Greet each name, as this application is configured to."""
    if "database" not in g:
        g.database = sqlite3.connect(":memory:")
        opened.append(g.database)
    greeting = current_app.config["GREETING"]
    return [g.database.execute("SELECT ? || ', ' || ?", (greeting, name)).fetchone()[0] for name in names]


@app.teardown_appcontext
def close_database(_error: BaseException | None) -> None:
    """Close the connection of the context that ends."""
    database = g.pop("database", None)
    if database is not None:
        database.close()
        closed.append(database)


greetings = Batcher(greet, max_delay=0.01, around_batch=app.app_context)
bare = Batcher(greet, max_delay=0.01)


@app.get("/greetings/<name>")
def with_context(name: str) -> ResponseReturnValue:
    """Answer through the batcher that pushes the application's context around each batch."""
    return jsonify(greetings.add(name).result(timeout=10))


@app.get("/bare/<name>")
def without_context(name: str) -> ResponseReturnValue:
    """Answer through a batcher whose handler stands outside of any application."""
    try:
        return jsonify(bare.add(name).result(timeout=10))
    except RuntimeError as error:
        return jsonify(str(error)), 500


@app.get("/status")
def status() -> ResponseReturnValue:
    """Tell the count of batches, and of connections opened and closed."""
    greetings.flush(timeout=5)
    return jsonify(batches=greetings.status().batches, opened=len(opened), closed=len(closed))
