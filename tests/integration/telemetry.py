"""A telemetry API on loopback that can go down and come up again, and a sensor loop that feeds it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypedDict

from .servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Reading(TypedDict):
    """One value of a sensor."""

    number: int
    celsius: float


class TelemetryApi:
    """Takes JSON arrays of readings; remembers the number of each one that it stored, and the calls."""

    def __init__(self) -> None:
        """Choose a port; nobody listens on it yet."""
        self.port = free_port()
        self.stored: list[int] = []
        self.calls = 0

    @contextmanager
    def up(self) -> Iterator[None]:
        """Listen during the block; leaving it answers what was taken, and refuses whoever comes then."""
        server = _Server(("127.0.0.1", self.port), _Handler)
        server.api = self
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def store(self, readings: list[Reading]) -> None:
        """Store one call's readings."""
        self.calls += 1
        self.stored += [reading["number"] for reading in readings]

    def send(self, readings: list[Reading]) -> None:
        """Send readings in one call, as a client does; this is the batcher's handler."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("POST", "/api/readings", json.dumps(readings), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 204:
                raise RuntimeError(f"the API answered {response.status}")


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for those who are being answered
    api: TelemetryApi


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Store the readings."""
        self.server.api.store(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Keep the tests' output clean."""


class SensorLoop:
    """Reads a sensor every 5 ms, for some seconds."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self.sent = 0
        self.longest_pause = 0.0

    def poll(self, seconds: float, deliver: Callable[[Reading], object]) -> None:
        """Hand a reading after the other to `deliver`, for so many seconds."""
        pace = threading.Event()
        last = time.monotonic()
        end = last + seconds
        while last < end:
            deliver({"number": self.sent, "celsius": 20 + self.sent % 7 / 10})
            self.sent += 1
            pace.wait(0.005)
            now = time.monotonic()
            self.longest_pause = max(self.longest_pause, now - last)
            last = now
