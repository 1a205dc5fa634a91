"""What the figures should be, as ratios or bounds, and whether they are."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import contenders as c
from benchmarks.measuring import Results, ratio


@dataclass(frozen=True)
class Target:
    """One demand.

    Attributes:
        workload: Its name in the table.
        bound: What the figure must reach.
        ours: Which of our variants is looked at.
        over: The contender that ours is divided by; None: our figure itself counts.
        is_floor: Whether more is better.
    """

    workload: str
    bound: float
    over: str | None = None
    ours: str = c.OURS
    is_floor: bool = True

    @property
    def text(self) -> str:
        """Say what is asked for."""
        figure = self.ours if self.over is None else f"{self.ours} over {self.over}"
        return f"{self.workload}: {figure} {'>=' if self.is_floor else '<='} {self.bound:g}"

    def figure(self, results: Results) -> float | None:
        """Return what was measured, None if it wasn't."""
        if self.over is not None:
            return ratio(results, self.workload, self.ours, self.over)
        figures = results.medians.get(self.workload, {}).get(self.ours)
        return None if figures is None else figures["value"]

    def is_met_by(self, figure: float) -> bool:
        """Say whether the figure is good enough."""
        return figure >= self.bound if self.is_floor else figure <= self.bound


TARGETS = (
    Target("W1", 8, c.QUEUE),
    Target("W1", 6, c.SIMPLE),
    Target("W2", 8, c.QUEUE),
    Target("bytes", 160, is_floor=False),
    Target("W3-64-5", 1.8, c.QUEUE, c.OURS_AT_ONCE),
    Target("W3-64-5", 1.4, c.QUEUE),
    Target("W3-8-5", 1.75, c.QUEUE),
    Target("W3-64-0", 2.2, c.QUEUE),
    Target("W3-8-0", 10, c.QUEUE),
    Target("W3-64-5-slow", 7, c.QUEUE),
    Target("W4", 0.5, c.QUEUE, is_floor=False),
    Target("W4-slow", 1, c.QUEUE_GREEDY, is_floor=False),
    Target("W5", 2, c.TELEMETRY),
    Target("W7", 0, is_floor=False),
    Target("growth, no keys", 1.5, is_floor=False),
    Target("growth, one key", 1.5, is_floor=False),
    Target("growth, 10,000 keys", 1.5, is_floor=False),
)
