"""Measure every contender at every workload: `make bench`, or `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.machine import facts, peers
from benchmarks.measuring import measure_all
from benchmarks.plot import draw
from benchmarks.report import Run, load, print_run, render, save
from benchmarks.workloads import WORKLOADS

_HERE = Path(__file__).parent


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each figure (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of little work; writes no file")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md and the plot")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}; default: all")
    arguments = parser.parse_args()
    for name in arguments.workloads:
        if name not in WORKLOADS:
            parser.error(f"no workload {name!r}; there are {', '.join(WORKLOADS)}")
    if arguments.write and (arguments.quick or arguments.workloads):
        parser.error("only a whole run is written")
    began = time.monotonic()
    rounds = 1 if arguments.quick else arguments.rounds
    results = measure_all(rounds=rounds, is_quick=arguments.quick, only=arguments.workloads)
    run = Run(facts(), peers(), results, rounds)
    print_run(run)
    if arguments.write:
        save(run, _HERE / "results")
        runs = load(_HERE / "results")
        (_HERE / "RESULTS.md").write_text(render(runs), encoding="utf-8")
        (_HERE / "results.svg").write_text(draw(runs[0]), encoding="utf-8")
    print(f"\n{time.monotonic() - began:.0f} seconds")


if __name__ == "__main__":
    main()
