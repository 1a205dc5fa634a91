"""What is measured. Each workload returns one figure, where less is better."""

from __future__ import annotations

import gc
import statistics
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any, Protocol

from batcher import Batcher
from benchmarks.handwritten import QueueBatcher, SimpleQueueBatcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

_ITEMS = 200_000


class Contender(Protocol):
    """A batcher of whatever make."""

    def add(self, item: Any, /) -> Future[Any]:  # noqa: ANN401
        """Queue an item."""
        ...

    def put(self, item: Any, /) -> None:  # noqa: ANN401
        """Queue an item and forget it."""
        ...

    def close(self) -> object:
        """Send what is queued and end."""
        ...


def _ours(handler: Callable[[list[Any]], list[Any]], max_batch_size: int, max_delay: float) -> Contender:
    return Batcher(handler, max_batch_size=max_batch_size, max_delay=max_delay)


def _ours_wide(handler: Callable[[list[Any]], list[Any]], max_batch_size: int, max_delay: float) -> Contender:
    return Batcher(handler, max_batch_size=max_batch_size, max_delay=max_delay, max_pending=2_000_000)


Make = Any  # a factory of contenders: (handler, max_batch_size, max_delay)
CONTENDERS: dict[str, Make] = {"batcher": _ours, "queue.Queue": QueueBatcher, "SimpleQueue": SimpleQueueBatcher}


def _echo(items: list[Any]) -> list[Any]:
    return items


def one_producer(make: Make) -> float:
    """W1: seconds for 200,000 items from one thread, each future's result read."""
    return _produce(make, 1)


def eight_producers(make: Make) -> float:
    """W2: the same from eight threads."""
    return _produce(make, 8)


def _produce(make: Make, producers: int) -> float:
    contender: Contender = make(_echo, 100, 0.005)

    def produce() -> None:
        futures = [contender.add(i) for i in range(_ITEMS // producers)]
        for future in futures:
            future.result()

    threads = [threading.Thread(target=produce) for _ in range(producers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    contender.close()
    return time.perf_counter() - began


def lone_caller(make: Make) -> float:
    """W4: median seconds of `add(x).result()` from one thread, delay 0."""
    contender: Contender = make(_echo, 100, 0.0)
    seconds = []
    for i in range(3000):
        began = time.perf_counter()
        contender.add(i).result()
        seconds.append(time.perf_counter() - began)
    contender.close()
    return statistics.median(seconds)


def fire_and_forget(make: Make) -> float:
    """W5: seconds for a million `put`, sent and done."""
    contender: Contender = (_ours_wide if make is _ours else make)(_echo, 100, 0.005)
    put = contender.put
    began = time.perf_counter()
    for i in range(1_000_000):
        put(i)
    contender.close()
    return time.perf_counter() - began


def pending_bytes(make: Make) -> float:
    """Bytes a pending item whose future is held by the caller."""
    gate = threading.Event()
    is_blocked = threading.Event()

    def handler(items: list[Any]) -> list[Any]:
        is_blocked.set()
        gate.wait()
        return items

    count = 8000
    contender: Contender = make(handler, 100, 0.0)
    contender.add(None)
    is_blocked.wait()
    kept: list[Future[Any] | None] = [None] * count
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for i in range(count):
        kept[i] = contender.add(None)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    gate.set()
    contender.close()
    return used / count


WORKLOADS: dict[str, Callable[[Make], float]] = {
    workload.__name__: workload
    for workload in (one_producer, eight_producers, lone_caller, fire_and_forget, pending_bytes)
}
