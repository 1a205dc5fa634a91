"""The table of workloads: what is measured, on whom, and what the figure means."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import contenders as c
from benchmarks.callers import closed_loop, idle, lone_caller, sleeping
from benchmarks.growth import KEYS, SIZES, measure
from benchmarks.production import fire_and_forget, pending_bytes, produce

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.contender import Figures, Make

HAND_WRITTEN = (c.QUEUE, c.SIMPLE, c.FLOOR)
WITH_FUTURES = (c.OURS, *HAND_WRITTEN, c.BATCHED, c.STREAMER, c.LOADER, c.PUBSUB, c.POOL)
IN_LOOPS = (c.OURS, c.OURS_AT_ONCE, c.OURS_WINDOW, *HAND_WRITTEN, c.QUEUE_GREEDY)
# Where a quick run measures the libraries too: they are slow to start.
QUICK_WITH_LIBRARIES = ("W1", "W4", "W5")


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Attributes:
        title: What happens.
        unit: Of the figure.
        contenders: Who is measured.
        run: Called as `run(make, is_quick=...)`; returns the figure as "value", and others beside it.
        is_rate: Whether more is better.
        is_steady: Whether the figure hardly varies: then one round is enough.
    """

    title: str
    unit: str
    contenders: tuple[str, ...]
    run: Callable[..., Figures]
    is_rate: bool = True
    is_steady: bool = False


def _produce(make: Make, *, is_quick: bool, producers: int) -> Figures:
    return produce(make, 20_000 if is_quick else 200_000, producers)


def _forget(make: Make, *, is_quick: bool) -> Figures:
    return fire_and_forget(make, 300_000 if is_quick else 1_000_000)


def _bytes(make: Make, *, is_quick: bool) -> Figures:
    return pending_bytes(make, 2_000 if is_quick else 8_000)


def _loop(make: Make, *, is_quick: bool, callers: int, handler_seconds: float, max_delay: float = 0.005) -> Figures:
    seconds, warm_up = (0.3, 0.1) if is_quick else (1.0, 0.3)
    handler = sleeping(handler_seconds)
    return closed_loop(make, callers, handler, max_delay=max_delay, seconds=seconds, warm_up=warm_up)


def _lone(make: Make, *, is_quick: bool) -> Figures:
    return lone_caller(make, 1_000 if is_quick else 5_000, 0.0)


def _lone_slow(make: Make, *, is_quick: bool) -> Figures:
    return lone_caller(make, 1_000 if is_quick else 5_000, 0.05)


def _idle(make: Make, *, is_quick: bool) -> Figures:
    return idle(make, 0.5 if is_quick else 2.0)


def _growth(make: Make, *, is_quick: bool, keys: int) -> Figures:
    return measure(make, SIZES[:2] if is_quick else SIZES, keys)


def _closed_loop(
    callers: int, handler: int, delay: int = 5, peers: tuple[str, ...] = (c.BATCHED, c.LOADER, c.POOL)
) -> Workload:
    """Return the row of one closed loop; handler and delay in milliseconds."""
    return Workload(
        f"{callers} callers in a closed loop, handler {handler} ms, delay {delay} ms",
        "requests/s",
        IN_LOOPS + peers,
        partial(_loop, callers=callers, handler_seconds=handler / 1e3, max_delay=delay / 1e3),
    )


WORKLOADS: dict[str, Workload] = {
    "W1": Workload(
        "one producer, 200,000 items, batches of 100", "items/s", WITH_FUTURES, partial(_produce, producers=1)
    ),
    "W2": Workload("eight producers, the same", "items/s", WITH_FUTURES, partial(_produce, producers=8)),
    "bytes": Workload(
        "memory of a pending item, its future held", "bytes", WITH_FUTURES, _bytes, is_rate=False, is_steady=True
    ),
    "W3-64-5": _closed_loop(64, 5, peers=(c.BATCHED, c.UBATCH, c.STREAMER, c.LOADER, c.PUBSUB, c.POOL)),
    "W3-8-5": _closed_loop(8, 5),
    "W3-64-0": _closed_loop(64, 0),
    "W3-8-0": _closed_loop(8, 0),
    "W3-64-5-slow": _closed_loop(64, 5, 50, peers=(c.BATCHED,)),
    "W4": Workload(
        "lone caller on one processor, delay 0: added latency", "us", (*WITH_FUTURES, c.UBATCH), _lone, is_rate=False
    ),
    "W4-slow": Workload(
        "lone caller on one processor, delay 50 ms: added latency",
        "us",
        (c.OURS, c.OURS_WINDOW, c.QUEUE_GREEDY),
        _lone_slow,
        is_rate=False,
    ),
    "W5": Workload("fire and forget, a million items", "items/s", (c.OURS, *HAND_WRITTEN, c.TELEMETRY), _forget),
    "W7": Workload(
        "wake-ups of an idle batcher", "a second", (*WITH_FUTURES, c.UBATCH), _idle, is_rate=False, is_steady=True
    ),
    **{
        f"growth, {name}": Workload(
            f"time per item, {name}: largest growth from 10^3 to 10^6 pending items",
            "times",
            (c.OURS,) if keys else (c.OURS, c.FLOOR),
            partial(_growth, keys=keys),
            is_rate=False,
            is_steady=True,
        )
        for name, keys in KEYS.items()
    },
}
