"""GETs from many threads against a server that takes 20 ms a call: alone, and batched.

Run as `python -m benchmarks.http`. The server is a process of its own, and counts the calls that arrive.
A call takes as long with one part as with many, as where a round trip or a database is what takes the
time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.request import urlopen

import httpx2
import requests
from requests.adapters import HTTPAdapter

from batcher.http import BatchAdapter, BatchTransport, JSONBatch, MultipartBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REQUESTS = 500
THREADS = 50
CALL_SECONDS = 0.020


def main() -> None:
    """Measure each way some times by turns, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each figure (default: %(default)s)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    calls: dict[str, list[int]] = {way: [] for way in WAYS}
    with server() as url:
        for _ in range(arguments.rounds):
            for way, measure in WAYS.items():
                taken, seen = measure(url)
                seconds[way].append(taken)
                calls[way].append(seen)
    print(f"{REQUESTS} GETs from {THREADS} threads, {CALL_SECONDS * 1_000:g} ms a call; {arguments.rounds} rounds\n")
    print(f"{'':<24}{'seconds':>8}{'calls':>8}")
    for way in WAYS:
        print(f"{way:<24}{statistics.median(seconds[way]):>8.3f}{statistics.median(calls[way]):>8g}")


# Clients


def run(url: str, get: Callable[[str], int]) -> tuple[float, int]:
    """Return the seconds that all GETs take, and the calls that the server sees."""
    with ThreadPoolExecutor(THREADS) as pool:
        get("/v1/first")  # reads certificates, which takes longer than a call
        before = count(url)
        began = time.perf_counter()
        statuses = set(pool.map(lambda n: get(f"/v1/users/{n}"), range(REQUESTS)))
        seconds = time.perf_counter() - began
    assert statuses == {200}
    return seconds, count(url) - before


def httpx2_plain(url: str) -> tuple[float, int]:
    """Measure a client of httpx2 as it comes."""
    with httpx2.Client(base_url=url, timeout=30) as client:
        return run(url, lambda path: client.get(path).status_code)


def httpx2_json(url: str) -> tuple[float, int]:
    """Measure it with batches of 20, as Graph takes them."""
    transport = BatchTransport(JSONBatch("/v1/$batch"))
    with httpx2.Client(base_url=url, timeout=30, transport=transport) as client:
        return run(url, lambda path: client.get(path).status_code)


def httpx2_multipart(url: str) -> tuple[float, int]:
    """Measure it with batches of 100, as Google takes them."""
    transport = BatchTransport(MultipartBatch("/v1/batch"))
    with httpx2.Client(base_url=url, timeout=30, transport=transport) as client:
        return run(url, lambda path: client.get(path).status_code)


def requests_plain(url: str) -> tuple[float, int]:
    """Measure a session of requests that has a connection for each thread."""
    with requests.Session() as session:
        session.mount(url, HTTPAdapter(pool_maxsize=THREADS))
        return run(url, lambda path: session.get(url + path, timeout=30).status_code)


def requests_json(url: str) -> tuple[float, int]:
    """Measure it with batches of 20."""
    with requests.Session() as session:
        session.mount(url, BatchAdapter(JSONBatch("/v1/$batch")))
        return run(url, lambda path: session.get(url + path, timeout=30).status_code)


WAYS: dict[str, Callable[[str], tuple[float, int]]] = {
    "httpx2": httpx2_plain,
    "httpx2, JSONBatch": httpx2_json,
    "httpx2, MultipartBatch": httpx2_multipart,
    "requests": requests_plain,
    "requests, JSONBatch": requests_json,
}


# The server


class Handler(BaseHTTPRequestHandler):
    """Answers GETs and batches of them, after a while; /count tells how many calls there were."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    calls = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        """Answer one GET, or tell the count."""
        if self.path == "/count":
            self.answer(str(Handler.calls).encode(), "text/plain")
        else:
            self.work()
            self.answer(b'{"name": "ada"}', "application/json")

    def do_POST(self) -> None:
        """Answer a batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.work()
        if self.path.endswith("$batch"):
            parts = [
                {"id": part["id"], "status": 200, "headers": {}, "body": {"name": "ada"}}
                for part in json.loads(body)["requests"]
            ]
            self.answer(json.dumps({"responses": parts}).encode(), "application/json")
        else:
            names = [line[12:] for line in body.split(b"\r\n") if line.startswith(b"Content-ID: ")]
            head = b"Content-Type: application/http\r\nContent-ID: <response-%b>\r\n\r\n"
            part = head + b'HTTP/1.1 200 OK\r\n\r\n{"name": "ada"}'
            told = b"".join(b"--edge\r\n%b\r\n" % (part % name) for name in names) + b"--edge--"
            self.answer(told, "multipart/mixed; boundary=edge")

    def work(self) -> None:
        """Count the call, and take its time."""
        with Handler.lock:
            Handler.calls += 1
        time.sleep(CALL_SECONDS)

    def answer(self, body: bytes, kind: str) -> None:
        """Send a body."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A server whose queue has room for all that come at once."""

    request_queue_size = 128
    daemon_threads = True


def serve() -> None:
    """Serve on a free port, which is told on the standard output, until the input ends."""
    with Server(("127.0.0.1", 0), Handler) as running:
        print(running.server_address[1], flush=True)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        sys.stdin.read()
        running.shutdown()


@contextmanager
def server() -> Iterator[str]:
    """Run the server in a process of its own; yield its address."""
    command = [sys.executable, "-m", "benchmarks.http", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


def count(url: str) -> int:
    """Return how many calls there were."""
    with urlopen(f"{url}/count", timeout=30) as answer:  # noqa: S310 - our own server
        return int(answer.read())


if __name__ == "__main__":
    main()
