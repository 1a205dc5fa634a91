"""Latency under arrivals by chance: `python -m benchmarks.open_loop`.

A handler call takes 10 ms, whatever it gets, and gets at most 20 items: its capacity is 2,000 items a
second. At each share of it Poisson arrivals are served by us as we are, by us without a window
(max_delay=0), and by us with the fixed window (adaptive=False), all with a window of 10 ms. The adaptive
one should be no worse than the better of the other two, within 15 %, at each load.

Every cell is measured in a process of its own, the variants by turns; medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

from benchmarks.callers import sleeping
from benchmarks.contender import Settings
from benchmarks.machine import facts
from benchmarks.ours import is_adaptive, ours
from benchmarks.poisson import latencies, summary

HANDLER_SECONDS = 0.01
SETTINGS = Settings(max_batch_size=20, max_delay=0.01, is_slow=True)
CAPACITY = SETTINGS.max_batch_size / HANDLER_SECONDS
LOADS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
VARIANTS = {
    "adaptive": ours(),
    "max_delay=0": ours(adaptive=False, max_delay=0.0),
    "fixed window": ours(adaptive=False),
}
_TOLERANCE = 1.15
_FEWEST = 500  # arrivals in a cell: of fewer, one or two unlucky ones are the 99th percentile

Cell = tuple[float, float]  # p50 and p99 in milliseconds


def measure(variant: str, load: float, seconds: float, seed: int) -> Cell:
    """Measure one cell in this process."""
    contender = VARIANTS[variant](sleeping(HANDLER_SECONDS), SETTINGS)
    taken = latencies(contender, load * CAPACITY, seconds, seed)
    contender.close()
    return summary(taken)


def in_child(variant: str, load: float, seconds: float, seed: int) -> Cell:
    """Measure one cell in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.open_loop", "--cell", variant, str(load), str(seconds), str(seed)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    p50, p99 = json.loads(child.stdout.splitlines()[-1])
    return p50, p99


def verdict(row: dict[str, Cell]) -> str:
    """Say how the adaptive variant compares with the better of the others, for p50 and p99 each."""
    adaptive, others = row["adaptive"], [cell for variant, cell in row.items() if variant != "adaptive"]
    parts = []
    for i, name in enumerate(("p50", "p99")):
        times = adaptive[i] / min(cell[i] for cell in others)
        parts.append(f"{name} {times:.2f}{'' if times <= _TOLERANCE else ' (worse)'}")
    return ", ".join(parts)


def table(rows: dict[float, dict[str, Cell]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        f"| load | {' | '.join(f'{variant}: p50 / p99 ms' for variant in VARIANTS)} | adaptive over the better one |",
        "|" + " --- |" * (len(VARIANTS) + 2),
    ]
    for load, row in rows.items():
        cells = [f"{row[variant][0]:.1f} / {row[variant][1]:.1f}" for variant in VARIANTS]
        lines.append(f"| {load:.0%} | {' | '.join(cells)} | {verdict(row)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.open_loop", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement, and more at low loads")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each cell (default: %(default)s)")
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        variant, load, seconds, seed = arguments.cell
        print(json.dumps(measure(variant, float(load), float(seconds), int(seed))), flush=True)
        os._exit(0)
    print(", ".join(f"{key}: {value}" for key, value in facts().items()))
    if not is_adaptive:
        print("This version isn't adaptive yet: the first column is the fixed window too.")
    rows: dict[float, dict[str, Cell]] = {}
    for load in LOADS:
        seconds = max(arguments.seconds, _FEWEST / (load * CAPACITY))
        cells: dict[str, list[Cell]] = {variant: [] for variant in VARIANTS}
        for seed in range(arguments.rounds):
            for variant, taken in cells.items():
                taken.append(in_child(variant, load, seconds, seed))
        rows[load] = {variant: _medians(taken) for variant, taken in cells.items()}
        print(f"{load:.0%}: {verdict(rows[load])}", file=sys.stderr, flush=True)
    print(table(rows))


def _medians(taken: list[Cell]) -> Cell:
    return statistics.median(cell[0] for cell in taken), statistics.median(cell[1] for cell in taken)


if __name__ == "__main__":
    main()
