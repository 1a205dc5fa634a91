"""An HTTP server on loopback that speaks every batch dialect, as badly as a test wants it to."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Answers = list[tuple[str, "Reply"]]

JSON_BATCH, MULTIPART_BATCH, GRAPHQL, RPC, BULK = "/v1/$batch", "/batch", "/graphql", "/rpc", "/bulk"


@dataclass
class Reply:
    """What a resource answers."""

    status: int = 200
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)


# Instead of an answer: the connection ends.
HANG_UP = Reply(status=0)


@dataclass
class Received:
    """A request as it came over the wire, or as a part of one."""

    method: str
    path: str
    headers: Message
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


def echo(part: Received) -> Reply:
    """Answer with what was asked, as JSON."""
    told = {"method": part.method, "path": part.path, "body": part.body.decode(), "user": part.headers["X-User"]}
    return Reply(body=json.dumps(told).encode(), headers=[("Content-Type", "application/json")])


class BatchServer:
    """The server, what it received, and how it behaves.

    Attributes:
        calls: Every request that came over a connection.
        parts: Every part of every batch.
        respond: Answers a single request, or a part.
        disturb: Changes the answers of a batch: a list of (id, reply).
        whole: Answers the batch endpoints instead, if it isn't None.
        gate: Batch endpoints wait for it; set by default.
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.calls: list[Received] = []
        self.parts: list[Received] = []
        self.respond: Callable[[Received], Reply] = echo
        self.disturb: Callable[[Answers], Answers] = lambda answers: answers
        self.whole: Callable[[Received], Reply | None] = lambda call: None
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)

    def batches(self) -> list[Received]:
        """Return the calls of the batch endpoints."""
        return [call for call in self.calls if call.path in {JSON_BATCH, MULTIPART_BATCH, GRAPHQL, RPC, BULK}]

    def answer(self, call: Received) -> Reply:
        """Answer one request from a connection."""
        self.calls.append(call)
        dialects = {
            JSON_BATCH: self._json_batch,
            MULTIPART_BATCH: self._multipart,
            GRAPHQL: self._graphql,
            RPC: self._rpc,
            BULK: self._bulk,
        }
        dialect = dialects.get(call.path) if call.method == "POST" else None
        if dialect is None:
            return self.respond(call)
        self.arrived.release()
        assert self.gate.wait(30)
        return self.whole(call) or dialect(call)

    def _answers(self, parts: list[tuple[str, Received]]) -> Answers:
        self.parts += [part for _, part in parts]
        return self.disturb([(name, self.respond(part)) for name, part in parts])

    def _json_batch(self, call: Received) -> Reply:
        """Answer as Microsoft Graph does."""
        parts = []
        for given in call.json()["requests"]:
            headers = Message()
            for name, value in given.get("headers", {}).items():
                headers[name] = value
            body = given.get("body", "")
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            parts.append((given["id"], Received(given["method"], f"/v1/{given['url']}", headers, data)))
        responses = []
        for name, reply in self._answers(parts):
            told: dict[str, Any] = {"id": name, "status": reply.status, "headers": dict(reply.headers)}
            if reply.body:
                told["body"] = json.loads(reply.body)
            responses.append(told)
        return _json({"responses": responses})

    def _multipart(self, call: Received) -> Reply:
        """Answer as Google's APIs do."""
        boundary = call.headers.get_boundary()
        assert boundary
        parts = []
        for piece in call.body.split(b"--" + boundary.encode())[1:-1]:
            outer, _, inner = piece.strip(b"\r\n").partition(b"\r\n\r\n")
            head, _, body = inner.partition(b"\r\n\r\n")
            line, _, lines = head.partition(b"\r\n")
            method, path, _ = line.decode().split(" ")
            path = path if path.startswith("/") else f"/{path}"
            parts.append((_headers(outer)["Content-ID"], Received(method, path, _headers(lines), body)))
        pieces = []
        for name, reply in self._answers(parts):
            lines = b"".join(f"{key}: {value}\r\n".encode() for key, value in reply.headers)
            length = f"Content-Length: {len(reply.body)}\r\n".encode()
            head = f"Content-Type: application/http\r\nContent-ID: <response-{name}>\r\n\r\n".encode()
            status = f"HTTP/1.1 {reply.status} Some Words\r\n".encode()
            pieces.append(b"--edge\r\n" + head + status + length + lines + b"\r\n" + reply.body + b"\r\n")
        body = b"".join(pieces) + b"--edge--"
        return Reply(body=body, headers=[("Content-Type", "multipart/mixed; boundary=edge")])

    def _graphql(self, call: Received) -> Reply:
        answers = [(str(n), _json({"data": given})) for n, given in enumerate(call.json())]
        return _json([json.loads(reply.body) for _, reply in self.disturb(answers)])

    def _rpc(self, call: Received) -> Reply:
        answers: Answers = []
        for given in call.json():
            if "id" in given:
                told = {"jsonrpc": "2.0", "id": given["id"], "result": [given["method"], given.get("params")]}
                answers.append((given["id"], _json(told)))
        found = [json.loads(reply.body) for _, reply in self.disturb(answers)]
        return _json(found) if found else Reply(204)

    def _bulk(self, call: Received) -> Reply:
        answers = [(str(n), _json({"stored": given})) for n, given in enumerate(call.json())]
        return _json([json.loads(reply.body) for _, reply in self.disturb(answers)])


def _json(value: object) -> Reply:
    return Reply(body=json.dumps(value).encode(), headers=[("Content-Type", "application/json")])


def _headers(lines: bytes) -> Message:
    found = Message()
    for line in lines.decode().splitlines():
        name, _, value = line.partition(": ")
        found[name] = value
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    owner: BatchServer

    def answer(self) -> None:
        """Read a request and send its answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._read_chunks()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        reply = self.owner.answer(Received(self.command, self.path, self.headers, body))
        if reply is HANG_UP:
            self.close_connection = True
            return
        self.send_response(reply.status, "Some Words")
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - the names it looks for

    def _read_chunks(self) -> bytes:
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    is_over = False

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up."""

    def serve(self) -> None:
        """Handle connections until the end, asleep in between: `serve_forever` would look up again and again."""
        while not self.is_over:
            self.handle_request()

    def end(self) -> None:
        """Have `serve` return."""
        self.is_over = True
        socket.create_connection(("127.0.0.1", self.server_port)).close()  # ends its sleep


@contextmanager
def batch_server() -> Iterator[BatchServer]:
    """Run a server until the end of the block."""
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        owner = handler.owner = BatchServer(server)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield owner
        finally:
            owner.gate.set()
            server.end()
            thread.join()
