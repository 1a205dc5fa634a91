"""The benchmarks' own machinery: what is measured is reported, compared and drawn right. No time is judged here."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import contenders as c
from benchmarks.callers import closed_loop, idle, lone_caller, percentile
from benchmarks.contender import MissingError, Settings
from benchmarks.contenders import CONTENDERS, LIBRARIES, library
from benchmarks.growth import growth, measure
from benchmarks.machine import facts
from benchmarks.measuring import NoFiguresError, Results, in_child, measure_all, ratio
from benchmarks.open_loop import table, verdict
from benchmarks.plot import draw
from benchmarks.poisson import latencies, summary
from benchmarks.production import Count, echo, fire_and_forget, pending_bytes, produce
from benchmarks.quadratic import BEST_SIZE, call_seconds
from benchmarks.report import Run, better, load, render, save, targets_table
from benchmarks.targets import TARGETS, Target
from benchmarks.workloads import QUICK_WITH_LIBRARIES, WORKLOADS

if TYPE_CHECKING:
    from pathlib import Path

OURS_AND_HAND_WRITTEN = (c.OURS, c.QUEUE, c.SIMPLE, c.FLOOR)


def a_run(name: str = "CPython 3.11.7") -> Run:
    """Return a run in which we are twice as good as queue.Queue at W1 and half as good at W4."""
    medians = {
        "W1": {c.OURS: {"value": 200.0, "add_ns": 5.0}, c.QUEUE: {"value": 100.0, "add_ns": 9.0}},
        "W4": {c.OURS: {"value": 20.0, "paused_us": 21.0}, c.QUEUE: {"value": 10.0, "paused_us": 11.0}},
        "W7": {c.OURS: {"value": 0.0}, c.QUEUE: {"value": 0.0}},
    }
    results = Results(medians, {c.UBATCH: "No module named 'ubatch'"})
    return Run(facts() | {"Python": name}, {"batched": "0.1.5"}, results, rounds=3)


@pytest.mark.parametrize("name", OURS_AND_HAND_WRITTEN)
def test_every_contender_gives_each_item_its_result(name: str) -> None:
    """Whatever is compared does the work: batches within the bound, every result its item's, in order."""
    sizes: list[int] = []

    def handler(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return [2 * item for item in items]

    contender = CONTENDERS[name](handler, Settings(max_batch_size=10, max_delay=0.001))
    futures = [contender.add(number) for number in range(105)]
    assert [future.result() for future in futures] == [2 * number for number in range(105)]
    contender.put(0)
    contender.close()
    assert sum(sizes) == 106
    assert max(sizes) <= 10


@pytest.mark.parametrize("name", OURS_AND_HAND_WRITTEN)
def test_every_workload_runs_on_every_contender(name: str) -> None:
    """A workload returns its figure, and closes what it has opened: no thread is left."""
    make = CONTENDERS[name]
    assert produce(make, 300, producers=3)["value"] > 0
    assert fire_and_forget(make, 300)["value"] > 0
    assert pending_bytes(make, 50)["value"] > 0
    assert closed_loop(make, 2, echo, max_delay=0.001, seconds=0.05, warm_up=0.0)["value"] > 0
    assert lone_caller(make, 20, 0.0)["value"] > 0
    assert idle(make, 0.01)["value"] >= 0
    assert measure(make, (10, 20), 0)["10_ns"] > 0


def test_growth_with_keys_is_measured_on_us() -> None:
    """Items of many keys come back right, and the cost per item is reported for each number of them."""
    figures = measure(CONTENDERS[c.OURS], (20, 40), 7)
    assert {"value", "20_ns", "40_ns"} == set(figures)


def test_growth_is_the_largest_rise() -> None:
    """A cost that falls and rises again has grown from its lowest point."""
    assert growth([4.0, 2.0, 3.0]) == 1.5


def test_wrong_results_are_noticed() -> None:
    """A contender that mixes results up has no figures."""
    made: list[Any] = []

    def scramble(handler: Any, settings: Settings) -> Any:
        made.append(CONTENDERS[c.QUEUE](lambda items: handler(items)[::-1], settings))
        return made[0]

    with pytest.raises(AssertionError, match="wrong results"):
        produce(scramble, 200, producers=1)
    made[0].close()


def test_a_handler_that_counts_says_when_all_have_come() -> None:
    """Fire and forget ends with the last item, in however many batches it came."""
    count = Count(3)
    count([1, 2])
    assert not count.is_complete.is_set()
    count([3])
    assert count.is_complete.is_set()


def test_a_child_reports_what_it_measured() -> None:
    """One measurement in a fresh process comes back as its figures."""
    figures = in_child("bytes", c.OURS, is_quick=True)
    assert 50 < figures["value"] < 500


def test_a_child_that_fails_says_why() -> None:
    """The last line of a failed child's error is the reason."""
    with pytest.raises(NoFiguresError, match="failed: KeyError: 'no such workload'"):
        in_child("no such workload", c.OURS, is_quick=True)


def test_a_library_that_is_not_there_is_named() -> None:
    """An adapter that can't be imported is a missing contender, not an error of the run."""
    with pytest.raises(MissingError, match=r"No module named 'benchmarks\.libraries\.nowhere'"):
        library("nowhere")(echo, Settings())


def test_a_missing_library_is_asked_once_and_left_out() -> None:
    """What isn't installed is named once, and everybody else is still measured."""
    asked: list[str] = []

    def measure_one(workload: str, contender: str, *, is_quick: bool) -> dict[str, float]:
        asked.append(contender)
        if contender == c.BATCHED:
            raise NoFiguresError("No module named 'batched'")
        if (workload, contender) == ("W1", c.SIMPLE):
            raise NoFiguresError("not done after 120 seconds")
        return {"value": 1.0}

    results = measure_all(rounds=2, is_quick=False, only=["W1", "W2"], measure=measure_one, tell=lambda _: None)
    assert asked.count(c.BATCHED) == 1
    assert results.missing == {
        c.BATCHED: "No module named 'batched'",
        f"{c.SIMPLE} at W1": "not done after 120 seconds",
    }
    assert c.BATCHED not in results.medians["W2"]
    assert {c.OURS, c.SIMPLE, c.POOL} <= set(results.medians["W2"])


def test_contenders_take_turns_and_medians_are_kept() -> None:
    """Every round asks everybody once, in turn; libraries get fewer rounds, steady figures one."""
    asked: list[str] = []

    def measure_one(_: str, contender: str, *, is_quick: bool) -> dict[str, float]:
        asked.append(contender)
        return {"value": [5.0, 1.0, 3.0][asked.count(contender) - 1], "other": 7.0}

    results = measure_all(rounds=3, is_quick=False, only=["W5"], measure=measure_one, tell=lambda _: None)
    first, second, third = asked[:5], asked[5:9], asked[9:]
    assert first == [c.OURS, c.QUEUE, c.SIMPLE, c.FLOOR, c.TELEMETRY]
    assert second == third == first[:-1]
    assert results.medians["W5"][c.OURS] == {"value": 3.0, "other": 7.0}
    assert results.medians["W5"][c.TELEMETRY] == {"value": 5.0, "other": 7.0}
    asked.clear()
    measure_all(rounds=3, is_quick=False, only=["bytes"], measure=measure_one, tell=lambda _: None)
    assert len(asked) == len(set(asked))


def test_a_quick_run_spares_most_libraries() -> None:
    """Quick means quick: slow libraries are measured at few workloads."""
    asked: list[str] = []

    def measure_one(workload: str, contender: str, *, is_quick: bool) -> dict[str, float]:
        assert is_quick
        asked.append(workload)
        assert contender not in LIBRARIES or workload in QUICK_WITH_LIBRARIES
        return {"value": 1.0}

    measure_all(rounds=1, is_quick=True, measure=measure_one, tell=lambda _: None)
    assert set(asked) == set(WORKLOADS)


def test_ratios_are_ours_over_theirs() -> None:
    """A ratio divides our figure by theirs, and "better" turns costs round."""
    run = a_run()
    assert ratio(run.results, "W1", c.OURS, c.QUEUE) == 2.0
    assert ratio(run.results, "W4", c.OURS, c.QUEUE) == 2.0
    assert ratio(run.results, "W1", c.OURS, c.SIMPLE) is None
    assert ratio(run.results, "W7", c.OURS, c.QUEUE) is None
    assert better("W1", run.results.medians["W1"], c.QUEUE) == 2.0
    assert better("W4", run.results.medians["W4"], c.QUEUE) == 0.5
    assert better("W7", run.results.medians["W7"], c.QUEUE) is None


def test_targets_are_met_missed_or_not_measured() -> None:
    """Each demand is compared with its own figure."""
    results = a_run().results
    reached = Target("W1", 2, c.QUEUE)
    assert reached.figure(results) == 2.0
    assert reached.is_met_by(2.0)
    assert not reached.is_met_by(1.99)
    lower = Target("W4", 20, is_floor=False)
    assert lower.figure(results) == 20.0
    assert lower.is_met_by(20.0)
    assert not lower.is_met_by(20.1)
    verdicts = {text: verdict for text, _, verdict in targets_table(results)}
    assert verdicts["W1: batcher over queue.Queue >= 8"] == "missed"
    assert verdicts["W7: batcher <= 0"] == "met"
    assert verdicts["W5: batcher over OpenTelemetry >= 2"] == "not measured"


def test_tables_name_what_exists() -> None:
    """Every contender of a workload is known, and every target is about something that is measured."""
    for workload in WORKLOADS.values():
        assert set(workload.contenders) <= set(CONTENDERS)
        assert workload.contenders[0] == c.OURS
    for target in TARGETS:
        measured = WORKLOADS[target.workload].contenders
        assert target.ours in measured
        assert target.over is None or target.over in measured


def test_results_of_several_interpreters_stand_side_by_side(tmp_path: Path) -> None:
    """A run replaces the one before of its interpreter, and the page shows all, with what was left out."""
    folder = tmp_path / "results"
    save(a_run("CPython 3.13.0"), folder)
    save(a_run("CPython 3.11.6"), folder)
    save(a_run("CPython 3.11.7"), folder)
    runs = load(folder)
    assert [run.facts["Python"] for run in runs] == ["CPython 3.11.7", "CPython 3.13.0"]
    page = render(runs)
    assert "| queue.Queue | 100 | 2.00 | 100 | 2.00 |" in page
    assert "| W1: batcher over queue.Queue >= 8 | 2.00 missed | 2.00 missed |" in page
    assert "- CPython 3.11: ubatch: No module named 'ubatch'" in page


def test_the_plot_is_an_svg_with_every_contender() -> None:
    """It parses, and shows each measured contender with its figure."""
    root = ET.fromstring(draw(a_run()))  # noqa: S314 - drawn here
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert texts.count(c.QUEUE) == 2  # the panels of W1 and W4
    assert "100 (2.0)" in texts
    assert "10 (0.5)" in texts


def test_machine_facts_name_nobody() -> None:
    """The facts say what the figures depend on, without a path or a name."""
    assert set(facts()) == {"Python", "processors", "system", "switch interval"}
    assert not any("/" in value for value in facts().values())


def test_percentiles() -> None:
    """The share of values up to the percentile is what was asked for."""
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.5) == 51.0
    assert percentile(values, 0.99) == 100.0
    assert summary([0.001, 0.002, 0.003]) == (2.0, 3.0)


def test_open_arrivals_are_all_served() -> None:
    """Every arrival after the warm-up has its latency, also those that waited for a thread."""
    lock, served = threading.Lock(), [0]

    def handler(items: list[Any]) -> list[Any]:
        with lock:
            served[0] += len(items)
        return items

    contender = CONTENDERS[c.OURS](handler, Settings(max_delay=0.001))
    taken = latencies(contender, rate=500, seconds=0.2, seed=1)
    contender.close()
    assert 0 < len(taken) <= served[0]
    assert min(taken) > 0


def test_the_open_loop_verdict_compares_with_the_better_one() -> None:
    """Each percentile is compared with whichever of the fixed policies is better there."""
    row = {"adaptive": (11.0, 30.0), "max_delay=0": (10.0, 25.0), "fixed window": (20.0, 20.0)}
    assert verdict(row) == "p50 1.10, p99 1.50 (worse)"
    assert "| 5% | 11.0 / 30.0 | 10.0 / 25.0 | 20.0 / 20.0 | p50 1.10, p99 1.50 (worse) |" in table({0.05: row})


def test_the_quadratic_handler_is_fastest_at_its_best_size() -> None:
    """No other size gets more items a second through."""
    rates = {size: size / call_seconds(size) for size in range(1, 101)}
    assert max(rates, key=rates.__getitem__) in (BEST_SIZE, BEST_SIZE + 1)
