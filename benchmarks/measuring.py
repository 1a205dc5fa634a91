"""Take every figure in a fresh process, by turns, and keep the medians.

One process measures one contender at one workload once. The contenders take turns, so that a machine
whose speed drifts treats all alike. Absolute figures mean little; the ratios are what counts.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.contenders import LIBRARIES
from benchmarks.workloads import QUICK_WITH_LIBRARIES, WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.contender import Figures

_LONGEST = 120.0  # seconds that one measurement may take


class NoFiguresError(Exception):
    """A child that measured nothing; says why."""


@dataclass
class Results:
    """What was measured: the medians, and what is missing.

    Attributes:
        medians: By workload, then by contender, in the order of the table.
        missing: Why a contender has no figures, by contender; by "contender at workload" if it has others.
    """

    medians: dict[str, dict[str, Figures]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def in_child(workload: str, contender: str, *, is_quick: bool) -> Figures:
    """Take one measurement in a process of its own.

    Raises:
        NoFiguresError: The contender isn't installed, took too long or failed.
    """
    command = [sys.executable, "-m", "benchmarks.child", workload, contender, *(["quick"] if is_quick else [])]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, check=False)
    except subprocess.TimeoutExpired:
        raise NoFiguresError(f"not done after {_LONGEST:.0f} seconds") from None
    if child.returncode or not child.stdout.strip():
        lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        raise NoFiguresError(f"failed: {lines[-1]}")
    answer = json.loads(child.stdout.splitlines()[-1])
    if "missing" in answer:
        raise NoFiguresError(answer["missing"])
    figures: Figures = answer["figures"]
    return figures


def measure_all(
    *,
    rounds: int,
    is_quick: bool,
    only: Iterable[str] = (),
    measure: Callable[..., Figures] = in_child,
    tell: Callable[[str], object] = print,
) -> Results:
    """Run the table.

    Args:
        rounds: Measurements of each figure; libraries, which are slow, get half as many, steady figures one.
        is_quick: Fewer items and shorter times.
        only: Names of workloads; empty: all.
        measure: Takes one measurement, as `in_child`.
        tell: Gets a line of progress for each workload.
    """
    results = Results()
    for name in only or WORKLOADS:
        workload = WORKLOADS[name]
        tell(f"{name}: {workload.title}")
        has_libraries = not is_quick or name in QUICK_WITH_LIBRARIES
        samples: dict[str, list[Figures]] = {
            contender: [] for contender in workload.contenders if has_libraries or contender not in LIBRARIES
        }
        for turn in range(1 if workload.is_steady else rounds):
            for contender, taken in samples.items():
                is_spared = contender in LIBRARIES and turn >= max(rounds // 2, 1)
                if is_spared or contender in results.missing:
                    continue
                try:
                    taken.append(measure(name, contender, is_quick=is_quick))
                except NoFiguresError as error:
                    is_absent = "No module named" in str(error)
                    results.missing[contender if is_absent else f"{contender} at {name}"] = str(error)
        results.medians[name] = {contender: _medians(taken) for contender, taken in samples.items() if taken}
    return results


def _medians(samples: list[Figures]) -> Figures:
    return {figure: statistics.median(sample[figure] for sample in samples) for figure in samples[0]}


def ratio(results: Results, workload: str, ours: str, theirs: str) -> float | None:
    """Return how often theirs goes into ours, None where one of them is missing or theirs is zero."""
    medians = results.medians.get(workload, {})
    if ours not in medians or theirs not in medians or not medians[theirs]["value"]:
        return None
    return medians[ours]["value"] / medians[theirs]["value"]
