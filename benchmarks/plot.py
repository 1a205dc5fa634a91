"""The plot of a run, as an SVG: one panel a workload, one bar a contender."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks import contenders as c
from benchmarks.report import better, number
from benchmarks.workloads import WORKLOADS

if TYPE_CHECKING:
    from benchmarks.report import Run

_PANELS = ("W1", "W2", "W3-64-5", "W3-8-0", "W4", "bytes")
_COLUMNS = 2
_WIDTH, _BAR, _HEAD, _GAP = 440, 17, 44, 18
_LABEL, _ROOM = 142, 120  # of the contenders' names, of the figures behind the bars
_HIDDEN = (c.OURS_WINDOW,)  # a variant that only RESULTS.md explains
_COLOURS = {c.OURS: "#2f7d4f", c.OURS_AT_ONCE: "#2f7d4f", c.FLOOR: "#b9c2cc"}
_OTHER = "#6f8fb3"


def draw(run: Run) -> str:
    """Return the plot. It carries its own background, so that it reads on dark pages too."""
    panels = [_panel(name, run) for name in _PANELS if name in run.results.medians]
    rows = [panels[i : i + _COLUMNS] for i in range(0, len(panels), _COLUMNS)]
    heights = [max(height for _, height in row) for row in rows]
    width, top, body = _COLUMNS * _WIDTH + _GAP, 46, []
    for row, height in zip(rows, heights, strict=True):
        for column, (panel, _) in enumerate(row):
            body.append(f'<g transform="translate({_GAP + column * _WIDTH},{top})">{panel}</g>')
        top += height
    title = f"{run.facts['Python']}, {run.facts['processors']} processors; in brackets: how many times better we are"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}">',
            '<g font-family="Helvetica, Arial, sans-serif" font-size="12">',
            f'<rect width="{width}" height="{top}" fill="#ffffff"/>',
            f'<text x="{_GAP}" y="26" font-size="13" fill="#333333">{escape(title)}</text>',
            *body,
            "</g></svg>\n",
        ]
    )


def _panel(name: str, run: Run) -> tuple[str, int]:
    """Return one workload's bars and their height, the best contender first."""
    workload, medians = WORKLOADS[name], run.results.medians[name]
    shown = [contender for contender in medians if contender not in _HIDDEN]
    shown.sort(key=lambda contender: medians[contender]["value"], reverse=workload.is_rate)
    longest = max(medians[contender]["value"] for contender in shown)
    side = "more is better" if workload.is_rate else "less is better"
    parts = [
        f'<text y="14" font-weight="bold" fill="#222222">{escape(workload.title)}</text>',
        f'<text y="30" font-size="11" fill="#666666">{escape(workload.unit)}, {side}</text>',
    ]
    for i, contender in enumerate(shown):
        value, top = medians[contender]["value"], _HEAD + i * _BAR
        length = max(value / longest * (_WIDTH - _LABEL - _ROOM), 1)
        times = better(name, medians, contender)
        note = "" if times is None or contender == c.OURS else f" ({times:.1f})"
        weight = ' font-weight="bold"' if contender == c.OURS else ""
        name_place = f'x="{_LABEL - 6}" y="{top + 9}" text-anchor="end"'
        bar = f'x="{_LABEL}" y="{top}" width="{length:.1f}" height="{_BAR - 6}"'
        figure_place = f'x="{_LABEL + length + 5:.1f}" y="{top + 9}"'
        text = f'font-size="11" fill="#333333"{weight}'
        parts += [
            f"<text {name_place} {text}>{escape(contender)}</text>",
            f'<rect {bar} fill="{_COLOURS.get(contender, _OTHER)}"/>',
            f"<text {figure_place} {text}>{number(value)}{note}</text>",
        ]
    return "".join(parts), _HEAD + len(shown) * _BAR + _GAP
