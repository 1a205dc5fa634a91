"""Workloads of producers that don't wait for each item: throughput and memory."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from benchmarks.contender import Settings

if TYPE_CHECKING:
    from benchmarks.contender import Contender, Make, Pending


def echo(items: list[Any]) -> list[Any]:
    """Cost nothing, and give each item back."""
    return items


class Count:
    """A handler that counts, returns nothing per item, and tells when all items have come."""

    def __init__(self, expected: int) -> None:
        """Wait for `expected` items."""
        self._left = expected
        self.is_complete = threading.Event()

    def __call__(self, items: list[Any]) -> list[Any]:
        """Count the items."""
        self._left -= len(items)
        if self._left <= 0:
            self.is_complete.set()
        return items


def produce(make: Make, count: int, producers: int) -> dict[str, float]:
    """Add `count` items from `producers` threads, then read every future's result."""
    contender = make(echo, Settings())
    # Bytes, because one contender takes nothing else; made before, and each another one, to be recognised.
    portions = [[b"%d" % number for number in range(start, count, producers)] for start in range(producers)]
    results: list[list[Any]] = [[] for _ in portions]
    adding: list[float] = []

    def run(portion: list[bytes], kept: list[Any]) -> None:
        began, add = time.perf_counter(), contender.add
        futures = [add(item) for item in portion]
        adding.append(time.perf_counter() - began)
        kept += [future.result() for future in futures]

    threads = [threading.Thread(target=run, args=pair) for pair in zip(portions, results, strict=True)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    for portion, kept in zip(portions, results, strict=True):
        # One contender takes lists only, and gives lists back.
        assert all(result in (item, [item]) for item, result in zip(portion, kept, strict=True)), "wrong results"
    contender.close()
    return {"value": count / seconds, "add_ns": sum(adding) / count * 1e9}


def fire_and_forget(make: Make, count: int) -> dict[str, float]:
    """Put `count` items from one thread; the clock stops when the handler has had the last one."""
    handler = Count(count)
    # The size is OpenTelemetry's default, and its queue must be big enough: else it drops.
    contender = make(handler, Settings(max_batch_size=512, max_delay=0.005, capacity=2 * count + 1000))
    put = contender.put
    began = time.perf_counter()
    for number in range(count):
        put(number)
    put_seconds = time.perf_counter() - began
    assert handler.is_complete.wait(120), "items were lost"
    seconds = time.perf_counter() - began
    contender.close()
    return {"value": count / seconds, "put_ns": put_seconds / count * 1e9}


def pending_bytes(make: Make, count: int) -> dict[str, float]:
    """Count the bytes of an item that waits, its future held by the caller; the item itself not included."""
    gate, is_blocked = threading.Event(), threading.Event()

    def handler(items: list[Any]) -> list[Any]:
        is_blocked.set()
        gate.wait()
        return items

    contender: Contender = make(handler, Settings(max_delay=0.0))
    item = b"1"
    first = contender.add(item)
    is_blocked.wait()
    kept: list[Pending | None] = [None] * count
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for position in range(count):
        kept[position] = contender.add(item)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    gate.set()
    for pending in (first, *kept):
        assert pending is not None
        pending.result()  # some contenders forget what waits when they end
    contender.close()
    return {"value": used / count}
