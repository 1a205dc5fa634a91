"""No batching at all: `concurrent.futures.ThreadPoolExecutor`, one handler call an item."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.contender import Contender, Handler, Settings


class _Pool:
    def __init__(self, handler: Handler, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers)
        self._submit = self._pool.submit
        self._call = lambda item: handler([item])[0]

    def add(self, item: object) -> Future[Any]:
        return self._submit(self._call, item)

    def put(self, item: object) -> None:
        self._submit(self._call, item)

    def close(self) -> None:
        self._pool.shutdown()


def make(handler: Handler, settings: Settings) -> Contender:
    """Make a pool: sixteen threads for a handler that sleeps, else one: more only get in the way."""
    return _Pool(handler, 16 if settings.is_slow else 1)
