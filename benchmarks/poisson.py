"""Callers that come by chance, each with a thread of its own to wait in, as in a web server.

An arrival doesn't wait for the answer to the one before (an open loop), and its latency counts from the
moment when it was due, not from when a thread was free for it: else a slow batcher would slow its own
arrivals down, and look better than it is.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from typing import TYPE_CHECKING

from benchmarks.callers import percentile

if TYPE_CHECKING:
    from benchmarks.contender import Contender

_THREADS = 250


def latencies(contender: Contender, rate: float, seconds: float, seed: int) -> list[float]:
    """Return the latency of every arrival, in seconds.

    Args:
        contender: Serves them.
        rate: Arrivals a second, on average.
        seconds: How long they come, after a tenth of it as a warm-up that isn't counted.
        seed: Of the random gaps: all contenders get the same ones.
    """
    arrivals: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    taken: list[float] = []
    begin = time.perf_counter()
    counted_from = begin + seconds / 10

    def serve() -> None:
        while (due := arrivals.get()) is not None:
            contender.add(b"1").result()
            if due >= counted_from:
                taken.append(time.perf_counter() - due)

    threads = [threading.Thread(target=serve) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    gaps = random.Random(seed)
    due = time.perf_counter()
    while due < counted_from + seconds:
        due += gaps.expovariate(rate)
        time.sleep(max(due - time.perf_counter(), 0))
        arrivals.put(due)
    for _ in threads:
        arrivals.put(None)
    for thread in threads:
        thread.join()
    return taken


def summary(values: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile, in milliseconds."""
    return percentile(values, 0.50) * 1e3, percentile(values, 0.99) * 1e3
