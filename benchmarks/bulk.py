"""Measure bulk runs against what Python programs use instead: `python -m benchmarks.bulk`.

Every figure comes from a process of its own; the contenders take turns, and the median counts. The ideal of
the second workload is computed with the real length of the same sleep, measured in the same process.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING

from batcher import BatchProcessor, process_batch

if TYPE_CHECKING:
    from collections.abc import Callable

_ITEMS = 200_000
_SLEEP = 0.002


def _no_op(item: int) -> int:
    return item


def _nap(item: int) -> int:
    time.sleep(_SLEEP)
    return item


def _seconds(call: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


# Microseconds for each of 200,000 items by a function that does nothing, four threads.


def _ours(timeout: float | None, retries: int) -> float:
    def run() -> None:
        result = process_batch(range(_ITEMS), _no_op, timeout=timeout, retries=retries)
        assert result.results[-1] == _ITEMS - 1

    return _seconds(run) / _ITEMS * 1e6


def batcher_no_op() -> float:
    """process_batch"""  # noqa: D415 - the name in the table
    return _ours(None, 0)


def batcher_no_op_watched() -> float:
    """process_batch with timeout and retries"""  # noqa: D415 - as above
    return _ours(60.0, 2)


def executor_no_op() -> float:
    """ThreadPoolExecutor.map"""  # noqa: D415 - as above

    def run() -> None:
        with ThreadPoolExecutor(4) as pool:
            assert len(list(pool.map(_no_op, range(_ITEMS)))) == _ITEMS

    return _seconds(run) / _ITEMS * 1e6


def thread_pool_no_op() -> float:
    """multiprocessing.pool.ThreadPool.map"""  # noqa: D415 - as above

    def run() -> None:
        with ThreadPool(4) as pool:
            assert len(pool.map(_no_op, range(_ITEMS))) == _ITEMS

    return _seconds(run) / _ITEMS * 1e6


def loop_no_op() -> float:
    """a plain loop"""  # noqa: D403, D415 - as above
    return _seconds(lambda: [_no_op(item) for item in range(_ITEMS)]) / _ITEMS * 1e6


# 2,000 items of 2 ms, sixteen at once, as a multiple of the ideal time.


def _ideal() -> float:
    return _seconds(lambda: [_nap(0) for _ in range(100)]) / 100 * 2000 / 16


def batcher_naps() -> float:
    """process_batch, batches of 25"""  # noqa: D415 - as above
    ideal = _ideal()
    return _seconds(lambda: process_batch(range(2000), _nap, batch_size=25, max_concurrent=16)) / ideal


def executor_naps() -> float:
    """ThreadPoolExecutor.map"""  # noqa: D415 - as above
    ideal = _ideal()

    def run() -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(_nap, range(2000)))

    return _seconds(run) / ideal


# Memory of a streamed million, in kilobytes.


def batcher_stream() -> float:
    """stream() of a million items, growth after the first ten thousand"""  # noqa: D415 - as above
    stream = BatchProcessor(_no_op).stream(itertools.count())
    tracemalloc.start()
    for _ in itertools.islice(stream, 10_000):
        pass
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for _ in itertools.islice(stream, 990_000):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    stream.close()
    return (peak - before) / 1000


_TABLES: dict[str, tuple[Callable[[], float], ...]] = {
    "us an item, 200,000 items by a function that does nothing, 4 threads": (
        batcher_no_op,
        batcher_no_op_watched,
        executor_no_op,
        thread_pool_no_op,
        loop_no_op,
    ),
    "times the ideal, 2,000 items of 2 ms, 16 at once": (batcher_naps, executor_naps),
    "kB": (batcher_stream,),
}
_MEASURES = {measure.__name__: measure for measures in _TABLES.values() for measure in measures}


def main() -> None:
    """Run as `python -m benchmarks.bulk [--rounds N]`, or as one measurement in a child."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each figure (default: %(default)s)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(_MEASURES[arguments.one]())
        return
    print(f"CPython {platform.python_version()}, medians of {arguments.rounds} rounds; ratio: theirs over ours")
    for title, measures in _TABLES.items():
        print(f"\n{title}")
        rounds = 1 if len(measures) == 1 else arguments.rounds
        figures: dict[str, list[float]] = {measure.__name__: [] for measure in measures}
        for _ in range(rounds):
            for name, values in figures.items():
                values.append(_measure(name))
        ours = statistics.median(figures[measures[0].__name__])
        for name, values in figures.items():
            median = statistics.median(values)
            print(f"  {_MEASURES[name].__doc__:<64} {median:>9.3f} {median / ours:>8.2f}")


def _measure(name: str) -> float:
    """Take one figure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bulk", "--one", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


if __name__ == "__main__":
    main()
