"""A Flask application whose views ask for one user each, and whose database is asked for many."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from flask import Flask, abort, jsonify

from batcher import Batcher, MissingResultError
from tests.integration.userbase import open_userbase

if TYPE_CHECKING:
    from flask import Response

app = Flask(__name__)
userbase = open_userbase(os.environ["USERBASE"])
users = Batcher(userbase.names, max_batch_size=50, max_delay=0.02, adaptive="WHOLE_DELAY" not in os.environ)
# Neither full nor due before the process ends: what is recorded was delivered at its exit.
visits = Batcher(userbase.record_visits, max_batch_size=5_000, max_delay=None)

if "USE_AT_IMPORT" in os.environ:
    # Under a preloading server this is the master process: its workers are forked with a flusher running.
    users.add(1).result(timeout=10)

imported = {"pid": os.getpid(), "threads": [thread.name for thread in threading.enumerate()]}


@app.get("/users/<int:number>")
def user(number: int) -> Response:
    """Answer with a user's name, and record the visit."""
    visits.put(number)
    try:
        name = users.add(number).result(timeout=10)
    except MissingResultError:
        abort(404)
    return jsonify(name=name, pid=os.getpid())


@app.get("/imported")
def where_imported() -> Response:
    """Tell which process imported this module, and which threads it had then."""
    return jsonify(imported)


@app.errorhandler(404)
def missing(_error: Exception) -> tuple[Response, int]:
    """Answer that there is no such user."""
    return jsonify(name=None, pid=os.getpid()), 404
