"""Clients of a server on loopback: one request each, or a crowd that starts together."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")


class Answer(NamedTuple):
    """An HTTP status and the JSON that came with it."""

    status: int
    body: Any


def ask(port: int, path: str) -> Answer:
    """Send one GET request over a connection of its own; an error means that the request was lost."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read()
        assert response.headers.get_content_type() == "application/json", f"{response.status}: {body!r}"
        return Answer(response.status, json.loads(body))


def crowd(size: int, job: Callable[[int], R]) -> list[R]:
    """Run `job(number)` in `size` threads that start together; return what each returned, in order."""
    together = Barrier(size)

    def start(number: int) -> R:
        together.wait(timeout=30)
        return job(number)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(start, range(size)))
