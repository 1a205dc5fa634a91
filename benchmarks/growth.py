"""Does an item cost more when many others wait?

All items are added while the handler is held up, then drained; the time of both, an item.
"""

from __future__ import annotations

import gc
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.contender import Settings

if TYPE_CHECKING:
    from benchmarks.contender import Make

KEYS = {"no keys": 0, "one key": 1, "10,000 keys": 10_000}
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def measure(make: Make, sizes: tuple[int, ...], keys: int) -> dict[str, float]:
    """Return nanoseconds per item for each number of pending items, and how much the cost grows at most.

    Batches are of one size at every number of items: else few items over many keys would look dear
    because each is a handler call of its own. Measured with Python's cyclic collector switched off, whose
    work grows with all that the process holds, and for comparison ("collected"), without keys, with it.
    """
    figures = {}
    if not keys:
        figures["collected"] = growth(_costs(make, (sizes[0], sizes[-1]), keys))
        gc.collect()
    gc.disable()
    try:
        costs = _costs(make, sizes, keys)
    finally:
        gc.enable()
    figures["value"] = growth(costs)
    return figures | {f"{size}_ns": cost for size, cost in zip(sizes, costs, strict=True)}


def _costs(make: Make, sizes: tuple[int, ...], keys: int) -> list[float]:
    # Small numbers are repeated, until as many items went through.
    times = {size: min(max(100_000 // size, 1), 20) for size in sizes}
    return [min(_fill_and_drain(make, size, keys) for _ in range(times[size])) for size in sizes]


def growth(costs: list[float]) -> float:
    """Return the largest ratio of a cost to one before it."""
    return max(later / earlier for i, earlier in enumerate(costs) for later in costs[i + 1 :])


def _fill_and_drain(make: Make, size: int, keys: int) -> float:
    gate, is_blocked = threading.Event(), threading.Event()

    def handler(items: list[Any]) -> list[Any]:
        if items[0] is None:
            is_blocked.set()
            gate.wait()
        return items

    def key(item: int | None) -> int:
        return -1 if item is None else item % keys

    batch_size = 100 if keys < 2 else 1
    # The room is a little larger than what it holds: a batcher may take more care near its bound.
    settings = Settings(batch_size, 0.0, capacity=size + 1_000, batch_key=key if keys else None)
    contender = make(handler, settings)
    contender.put(None)
    is_blocked.wait()
    items = list(range(size))
    began = time.perf_counter()
    futures = [contender.add(item) for item in items]
    gate.set()
    results = [future.result() for future in futures]
    seconds = time.perf_counter() - began
    assert results == items, "wrong results"
    contender.close()
    return seconds / size * 1e9
