"""The API that the demo calls: HTTP on the loopback interface, rows in SQLite, and slow on purpose."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    Address = tuple[str, int]

PATH = "/api/temperatures"

# Seconds for connecting, for an answer, and for a client that has connected and says nothing.
NETWORK_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One temperature, and as which of its sensor's readings (0, 1, 2, ...) it was taken."""

    sensor: str
    number: int
    celsius: float


class TemperatureStore:
    """The database of readings, written to by the API; `rows` reads it back from the file.

    Thread safety: every method may be called from any thread.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        # Guards: _calls, _connection
        self._lock = Lock()
        self._calls = 0
        self._connection = sqlite3.connect(file, check_same_thread=False)
        self._connection.execute("CREATE TABLE temperatures (sensor TEXT, number INTEGER, celsius REAL)")

    @property
    def calls(self) -> int:
        """How many calls have stored rows so far."""
        with self._lock:
            return self._calls

    def insert(self, readings: Sequence[Mapping[str, object]]) -> list[int]:
        """Store the rows of one call, all of them or none, and return the ids that the database gave them."""
        statement = "INSERT INTO temperatures VALUES (:sensor, :number, :celsius) RETURNING rowid"
        with self._lock, self._connection:
            self._calls += 1
            return [row_id for reading in readings for (row_id,) in self._connection.execute(statement, reading)]

    def rows(self) -> dict[int, Reading]:
        """Return all rows by their ids, in the order in which they were stored."""
        # A connection of its own sees what is really committed.
        with closing(sqlite3.connect(self._file)) as connection:
            found = connection.execute("SELECT rowid, sensor, number, celsius FROM temperatures ORDER BY rowid")
            return {row_id: Reading(*columns) for row_id, *columns in found}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


class TemperatureServer(ThreadingHTTPServer):
    """A thread for each connection, as many at once as come."""

    # Of a crowd that connects at one moment, the usual backlog of 5 would keep some waiting and turn others away.
    request_queue_size = 128
    # Closing the server then waits until every call that has begun is in the database.
    daemon_threads = False


@contextmanager
def serving(store: TemperatureStore, *, seconds: float) -> Iterator[Address]:
    """Serve the API on a free port while the context is open; each call takes so many seconds. Yields the address."""

    class TemperatureRequest(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # Keeps the connections of those who want that open.
        timeout = NETWORK_TIMEOUT

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != PATH:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            time.sleep(seconds)
            answer = json.dumps(store.insert(json.loads(body))).encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing: hundreds of access lines would bury the table."""

    with TemperatureServer(("127.0.0.1", 0), TemperatureRequest) as server:
        # No daemon: shutdown() below ends its loop, join() waits for it. The demo never forks.
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="demo-api")
        thread.start()
        try:
            yield "127.0.0.1", server.server_port
        finally:
            server.shutdown()
            thread.join()


def post_readings(address: Address, readings: Sequence[Reading], *, path: str = PATH) -> list[int]:
    """Send readings in one call and return the ids of their rows.

    Raises:
        ConnectionError: The API answered with anything but 200.
    """
    body = json.dumps([asdict(reading) for reading in readings])
    with closing(HTTPConnection(*address, timeout=NETWORK_TIMEOUT)) as connection:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    if response.status != HTTPStatus.OK:
        raise ConnectionError(f"{path} answered {response.status} {response.reason}")
    row_ids: list[int] = json.loads(answer)
    return row_ids
