"""A handler whose time grows with the square of its batch: `python -m benchmarks.quadratic`.

A call takes 1 ms and 0.05 ms times the square of the batch's size: the most items a second come from
batches of four or five. 64 callers in a closed loop
would fill the largest batches. An adaptive batcher should learn the size, and restore the throughput.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.callers import closed_loop
from benchmarks.machine import facts
from benchmarks.ours import is_adaptive, ours

if TYPE_CHECKING:
    from benchmarks.contender import Make

_BASE, _SQUARE = 0.001, 0.00005
BEST_SIZE = round((_BASE / _SQUARE) ** 0.5)
VARIANTS: dict[str, Make] = {
    "adaptive, up to 100": ours(),
    "fixed window, up to 100": ours(adaptive=False),
    f"fixed window, up to {BEST_SIZE}": ours(adaptive=False, max_batch_size=BEST_SIZE),
}


def handler(items: list[Any]) -> list[Any]:
    """Take the longer for each item the more there are."""
    time.sleep(call_seconds(len(items)))
    return items


def call_seconds(size: int) -> float:
    """Return how long a call with `size` items takes."""
    return _BASE + _SQUARE * size * size


def measure(seconds: float) -> dict[str, float]:
    """Return the requests a second of each variant, after as long again to learn in."""
    return {
        name: closed_loop(make, 64, handler, max_delay=0.005, seconds=seconds, warm_up=seconds)["value"]
        for name, make in VARIANTS.items()
    }


def main() -> None:
    """Print the table."""
    print(", ".join(f"{key}: {value}" for key, value in facts().items()))
    if not is_adaptive:
        print("This version isn't adaptive yet: the first row is the fixed window too.")
    rates = measure(5.0)
    best = max(rates.values())
    for name, rate in rates.items():
        print(f"{name:<26}{rate:>8,.0f} requests/s{rate / best:>8.0%} of the best")


if __name__ == "__main__":
    main()
