"""Workloads of callers that wait for each result, and of nobody at all."""

from __future__ import annotations

import os
import statistics
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contender import MissingError, Settings
from benchmarks.production import echo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contender import Handler, Make

_LONG_ENOUGH = 2.5  # seconds of lone calls
_TASKS = Path("/proc/self/task")  # the threads of this process, on Linux


def sleeping(seconds: float) -> Handler:
    """Return a handler whose calls take `seconds`, whatever their size, as most backends' do."""

    def handler(items: list[Any]) -> list[Any]:
        time.sleep(seconds)
        return items

    return handler if seconds else echo


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of all values don't exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def closed_loop(
    make: Make, callers: int, handler: Handler, *, max_delay: float, seconds: float, warm_up: float
) -> dict[str, float]:
    """Let `callers` threads do nothing but wait for one result after another; count what they get after `warm_up`."""
    contender = make(handler, Settings(max_delay=max_delay, is_slow=handler is not echo))
    latencies: list[list[float]] = [[] for _ in range(callers)]
    begin = time.perf_counter() + warm_up
    end = begin + seconds

    def call(mine: list[float]) -> None:
        item, now = b"1", time.perf_counter()
        while now < end:
            before = now
            result = contender.add(item).result()
            now = time.perf_counter()
            if begin <= now < end:
                mine.append(now - before)
            assert result in (item, [item]), "wrong result"

    threads = [threading.Thread(target=call, args=(mine,)) for mine in latencies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    contender.close()
    every = [latency for mine in latencies for latency in mine]
    return {
        "value": len(every) / seconds,
        "p50_ms": percentile(every, 0.50) * 1e3,
        "p99_ms": percentile(every, 0.99) * 1e3,
    }


def lone_caller(make: Make, calls: int, max_delay: float) -> dict[str, float]:
    """Time one thread's `add(x).result()`, over and over, and with pauses between, when the threads went to sleep.

    The first on one processor, where the system allows it: elsewhere it is chance whether the two threads meet on
    one or wake each other from one to the other, and that makes a factor of two to three, for every contender.
    Where a call takes long there are fewer of them.
    """
    contender = make(echo, Settings(max_delay=max_delay))

    def median(count: int, pause: float) -> float:
        latencies: list[float] = []
        end = time.perf_counter() + _LONG_ENOUGH
        while len(latencies) < count and (time.perf_counter() < end or not latencies):
            before = time.perf_counter()
            contender.add(b"1").result()
            latencies.append(time.perf_counter() - before)
            if pause:
                time.sleep(pause)
        return statistics.median(latencies) * 1e6

    median(calls // 10, 0.0)  # warm
    paused = median(calls // 10, 0.001)
    with _one_processor():
        figures = {"value": median(calls, 0.0), "paused_us": paused}
    contender.close()
    return figures


@contextmanager
def _one_processor() -> Iterator[None]:
    """Have all threads of this process run on one processor, if the system knows how to."""
    if not _TASKS.is_dir():
        yield
        return
    before = os.sched_getaffinity(0)
    _run_on({min(before)})
    try:
        yield
    finally:
        _run_on(before)


def _run_on(processors: set[int]) -> None:
    for task in _TASKS.iterdir():
        try:
            os.sched_setaffinity(int(task.name), processors)
        except ProcessLookupError:
            pass  # it has just ended


def idle(make: Make, seconds: float) -> dict[str, float]:
    """Count how often a second the threads of a batcher that has nothing to do wake up."""
    contender = make(echo, Settings())
    for _ in range(10):
        contender.add(b"1").result()
    time.sleep(min(seconds, 0.5))  # so that what ends with the last batch has ended
    before = _switches()
    time.sleep(seconds)
    woken = _switches() - before
    contender.close()
    return {"value": woken / seconds}


def _switches() -> int:
    """Return the voluntary context switches of all threads but this one."""
    if not _TASKS.is_dir():
        raise MissingError("this system doesn't count the context switches of a thread")
    own, total = str(threading.get_native_id()), 0
    for task in _TASKS.iterdir():
        if task.name != own:
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
    return total
