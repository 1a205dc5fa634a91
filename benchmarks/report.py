"""Tables of results: on the screen after a run, and for every interpreter that was measured in RESULTS.md."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from benchmarks.contenders import OURS
from benchmarks.measuring import Results
from benchmarks.targets import TARGETS
from benchmarks.workloads import WORKLOADS

if TYPE_CHECKING:
    from pathlib import Path

_INTRODUCTION = """# Results

Written by `make bench`; `make bench PYTHON=...` adds another interpreter. Every figure was taken in a fresh process,
the contenders by turns, and is a median. Absolute figures move by a factor of two from run to run with what else the
machine does, so what counts are the ratios within one column. The machine was shared with other work.

"better" says how many times better we are: our rate over theirs, or their cost over ours. "floor, no guarantees" is
a prototype without bound, close, errors, timeouts, counters, fork or signals: the least that Python can do.
"""


@dataclass
class Run:
    """The results of one interpreter, and on what they were taken."""

    facts: dict[str, str]
    peers: dict[str, str]
    results: Results
    rounds: int

    @property
    def name(self) -> str:
        """The interpreter's name, without the last part of its version."""
        return self.facts["Python"].rpartition(".")[0]


def save(run: Run, folder: Path) -> None:
    """Keep a run, in place of an earlier one of the same interpreter."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{run.name.lower().replace(' ', '-')}.json"
    path.write_text(json.dumps(asdict(run), indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> list[Run]:
    """Return all runs that were kept, by name."""
    runs = []
    for path in folder.glob("*.json"):
        kept = json.loads(path.read_text(encoding="utf-8"))
        runs.append(Run(kept["facts"], kept["peers"], Results(**kept["results"]), kept["rounds"]))
    return sorted(runs, key=lambda run: run.name)


def better(workload: str, medians: dict[str, dict[str, float]], contender: str) -> float | None:
    """Return how many times better we are than `contender`; None where that is no number."""
    if OURS not in medians:
        return None
    ours, theirs = medians[OURS]["value"], medians[contender]["value"]
    above, below = (ours, theirs) if WORKLOADS[workload].is_rate else (theirs, ours)
    return above / below if below else None


def number(value: float) -> str:
    """Write a figure with three digits that count, and no more zeros than it needs."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def targets_table(results: Results) -> list[tuple[str, str, str]]:
    """Return each demand, what was measured, and whether it is met."""
    rows = []
    for target in TARGETS:
        figure = target.figure(results)
        if figure is None:
            rows.append((target.text, "-", "not measured"))
        else:
            rows.append((target.text, f"{figure:.2f}", "met" if target.is_met_by(figure) else "missed"))
    return rows


def print_run(run: Run) -> None:
    """Print a run."""
    print("\n" + ", ".join(f"{key}: {value}" for key, value in run.facts.items()))
    for name, medians in run.results.medians.items():
        workload = WORKLOADS[name]
        print(f"\n{name}: {workload.title} ({workload.unit})")
        for contender, figures in medians.items():
            times = better(name, medians, contender)
            others = "  ".join(f"{key} {number(value)}" for key, value in figures.items() if key != "value")
            ratio = "" if times is None else f"{times:8.2f} x"
            print(f"  {contender:<22}{number(figures['value']):>12}{ratio:>11}   {others}")
    print("\nTargets:")
    for text, figure, verdict in targets_table(run.results):
        if text.partition(":")[0] not in run.results.medians:
            continue
        print(f"  {text:<52}{figure:>9}  {verdict}")
    for contender, reason in run.results.missing.items():
        print(f"Left out: {contender}: {reason}")


def render(runs: list[Run]) -> str:
    """Return RESULTS.md."""
    lines = [_INTRODUCTION, *_table(["", *(run.name for run in runs)], _fact_rows(runs)), ""]
    lines += ["## Targets", ""]
    verdicts = [targets_table(run.results) for run in runs]
    rows = [
        [verdicts[0][i][0], *(f"{verdict[i][1]} {verdict[i][2]}" for verdict in verdicts)] for i in range(len(TARGETS))
    ]
    lines += [*_table(["", *(run.name for run in runs)], rows), ""]
    for name, workload in WORKLOADS.items():
        measured = [run for run in runs if name in run.results.medians]
        if measured:
            header = [workload.unit, *(cell for run in measured for cell in (run.name, "better"))]
            lines += [f"## {name}: {workload.title}", "", *_table(header, _workload_rows(name, measured)), ""]
    missing = [f"- {run.name}: {who}: {why}" for run in runs for who, why in run.results.missing.items()]
    if missing:
        lines += ["## Left out", "", *missing, ""]
    return "\n".join(lines)


def _fact_rows(runs: list[Run]) -> list[list[str]]:
    rows = [[key, *(run.facts[key] for run in runs)] for key in runs[0].facts]
    rows.append(["rounds", *(str(run.rounds) for run in runs)])
    installed = sorted({peer for run in runs for peer in run.peers})
    return rows + [[peer, *(run.peers.get(peer, "not installed") for run in runs)] for peer in installed]


def _workload_rows(name: str, runs: list[Run]) -> list[list[str]]:
    rows = []
    for contender in WORKLOADS[name].contenders:
        row = [contender]
        for run in runs:
            medians = run.results.medians[name]
            figures = medians.get(contender)
            if figures is None:
                row += ["-", "-"]
                continue
            times = better(name, medians, contender)
            shares = [f"{key[:3]} {figures[key]:.1f}" for key in ("p50_ms", "p99_ms") if key in figures]
            beside = f" ({', '.join(shares)} ms)" if shares else ""
            row += [number(figures["value"]) + beside, "-" if times is None else f"{times:.2f}"]
        rows.append(row)
    return rows


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
