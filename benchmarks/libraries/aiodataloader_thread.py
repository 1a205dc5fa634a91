"""The library `aiodataloader`, with its event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from aiodataloader import DataLoader

if TYPE_CHECKING:
    from benchmarks.contender import Contender, Handler, Settings


class _Loader:
    def __init__(self, handler: Handler, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._pool = ThreadPoolExecutor(16) if settings.is_slow else None
        self._thread.start()
        self._loader: Any = None
        asyncio.run_coroutine_threadsafe(self._open(handler, settings), self._loop).result()

    async def _open(self, handler: Handler, settings: Settings) -> None:
        async def load(items: list[Any]) -> Any:  # noqa: ANN401
            if self._pool is None:
                return handler(items)
            # A handler that sleeps would hold up the loop.
            return await self._loop.run_in_executor(self._pool, handler, items)

        self._loader = DataLoader(load, max_batch_size=settings.max_batch_size, cache=False)

    async def _load(self, item: object) -> Any:  # noqa: ANN401
        return await self._loader.load(item)

    def add(self, item: object) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(self._load(item), self._loop)

    def put(self, item: object) -> None:
        self.add(item)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        if self._pool is not None:
            self._pool.shutdown()


def make(handler: Handler, settings: Settings) -> Contender:
    """Make one without a cache; it has no window: a batch is what came in one turn of the loop."""
    return _Loader(handler, settings)
