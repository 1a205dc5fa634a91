"""Measure every contender at every workload, in fresh processes by turns, and print ratios of medians.

One process measures one contender at one workload once. The contenders take turns, so that a machine
whose speed drifts treats all alike. Absolute figures mean little; the ratios are what counts.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys

from benchmarks.workloads import CONTENDERS, WORKLOADS


def main() -> None:
    """Run as `python -m benchmarks [--rounds N]`, or as one measurement in a child."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each figure (default: %(default)s)")
    parser.add_argument("--one", nargs=2, metavar=("WORKLOAD", "CONTENDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        workload, contender = arguments.one
        sys.stdout.write(repr(WORKLOADS[workload](CONTENDERS[contender])))
        return
    version = platform.python_version()
    sys.stdout.write(f"CPython {version}, medians of {arguments.rounds} rounds; ratio: theirs over ours\n\n")
    for workload, measure in WORKLOADS.items():
        figures: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
        for _ in range(arguments.rounds):
            for contender, values in figures.items():
                values.append(_measure(workload, contender))
        _print(str(measure.__doc__), {contender: statistics.median(values) for contender, values in figures.items()})


def _measure(workload: str, contender: str) -> float:
    """Take one figure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", "--one", workload, contender]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


def _print(title: str, medians: dict[str, float]) -> None:
    ours = medians["batcher"]
    sys.stdout.write(f"{title}\n")
    for contender, median in medians.items():
        sys.stdout.write(f"  {contender:<12} {median:>12.6g}   {median / ours:>6.2f}\n")


if __name__ == "__main__":
    main()
