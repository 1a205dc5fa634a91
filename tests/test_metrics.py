"""How long operations took: what is exact, what is sampled, and who is told of slow ones."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest

from batcher._metrics import Monitor, Performance, Reservoir
from batcher.testing import FakeClock
from tests.forks import CHILD_SECONDS, FORKS, in_child
from tests.interruptions import at_each_place, interrupt
from tests.stage import PATIENCE, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class ScriptedRandom(Random):
    """A random source that says what a test has written down, and keeps what it was asked for."""

    def __init__(self, answers: Iterable[int]) -> None:
        super().__init__(0)
        self._answers = iter(answers)
        self.asked: list[int] = []

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """Return the next answer."""
        self.asked.append(start)
        return next(self._answers)


def reservoir_of(values: Iterable[float], capacity: int = 1000, random: Random | None = None) -> Reservoir:
    """Return a reservoir that has seen these values."""
    reservoir = Reservoir(capacity, Random(1) if random is None else random)
    for value in values:
        reservoir.add(value)
    return reservoir


# What is known of a stream


@pytest.mark.parametrize(
    ("values", "performance"),
    [
        ([3.0], Performance(count=1, mean=3.0, p50=3.0, p95=3.0, max=3.0)),
        ([4.0, 1.0], Performance(count=2, mean=2.5, p50=1.0, p95=4.0, max=4.0)),
        ([5.0, 1.0, 3.0], Performance(count=3, mean=3.0, p50=3.0, p95=5.0, max=5.0)),
        (range(100, 0, -1), Performance(count=100, mean=50.5, p50=50, p95=95, max=100)),
        (range(1, 21), Performance(count=20, mean=10.5, p50=10, p95=19, max=20)),
        ([-2.0, -1.0], Performance(count=2, mean=-1.5, p50=-2.0, p95=-1.0, max=-1.0)),
    ],
    ids=["one", "two", "three", "hundred", "twenty", "negative"],
)
def test_all_is_exact_while_the_sample_holds_everything(values: Iterable[float], performance: Performance) -> None:
    """Count, mean and maximum, and percentiles by the nearest rank."""
    assert reservoir_of(values).performance == performance


def test_memory_is_bounded_and_the_rest_exact() -> None:
    """The sample never grows beyond its capacity, while count, mean and maximum are of all values."""
    reservoir = reservoir_of(range(10_000), capacity=10)

    assert len(reservoir._samples) == 10
    seen = reservoir.performance
    assert (seen.count, seen.mean, seen.max) == (10_000, 4999.5, 9999)
    assert set(reservoir._samples) <= set(range(10_000))


def test_algorithm_r_step_by_step() -> None:
    """Value number n takes place r of the sample, for a random r below n; none if there is no such place."""
    random = ScriptedRandom([1, 3, 0, 2])

    reservoir = reservoir_of([10, 11, 12, 13, 14, 15, 16], capacity=3, random=random)

    assert random.asked == [4, 5, 6, 7]
    assert reservoir._samples == [15, 13, 16]


def test_each_value_is_kept_with_the_same_probability() -> None:
    """Early and late values are in the sample equally often: here, five of twenty, each in a quarter of all rounds."""
    random = Random(7)
    rounds = 8000

    kept = Counter(value for _ in range(rounds) for value in reservoir_of(range(20), 5, random)._samples)

    assert sorted(kept) == list(range(20))
    assert all(abs(count / rounds - 0.25) < 0.02 for count in kept.values()), kept


# Measuring


def test_operations_are_measured_by_name() -> None:
    """Each name has its own figures, by the clock given; a failed operation counts, and raises what it raised."""
    clock = FakeClock()
    monitor = Monitor(clock, thresholds={})

    assert monitor.measured("a", divmod, 7, 4) == (1, 3)
    monitor.measured("a", clock.advance, 2.0)
    with pytest.raises(ZeroDivisionError):
        monitor.measured("b", divmod, 1, 0)

    assert monitor.performance() == {
        "a": Performance(count=2, mean=1.0, p50=0.0, p95=2.0, max=2.0),
        "b": Performance(count=1, mean=0.0, p50=0.0, p95=0.0, max=0.0),
    }


def test_samples_of_a_monitor_are_bounded_and_chosen_by_its_random() -> None:
    """The capacity and the random source given are those of each name."""
    random = ScriptedRandom([0, 1])
    monitor = Monitor(FakeClock(), thresholds={}, random=random, capacity=2)
    for seconds in (1.0, 2.0, 3.0, 4.0):
        monitor.record("a", seconds)

    assert monitor.performance() == {"a": Performance(count=4, mean=2.5, p50=3.0, p95=4.0, max=4.0)}


def test_nothing_is_lost_among_threads() -> None:
    """Eight threads that record at once lose nothing."""
    monitor = Monitor(FakeClock(), thresholds={})
    barrier = threading.Barrier(8)

    def record() -> None:
        barrier.wait(PATIENCE)
        for _ in range(500):
            monitor.record("a", 1.0)

    for future in [elsewhere(record) for _ in range(8)]:
        future.result(2 * PATIENCE)

    assert monitor.performance()["a"].count == 4000


# Thresholds


def test_threshold_is_passed_from_above_only() -> None:
    """The hook hears of operations that took longer than the threshold of their name, and of no others."""
    slow: list[tuple[str, float, float]] = []
    monitor = Monitor(FakeClock(), thresholds={"a": 1.0}, on_threshold=lambda *told: slow.append(told))

    for seconds in (0.9, 1.0, 1.1):
        monitor.record("a", seconds)
    monitor.record("b", 9.0)

    assert slow == [("a", 1.1, 1.0)]


def test_hook_is_called_outside_the_lock() -> None:
    """While the hook runs, another thread records."""
    seen: list[int] = []

    def on_threshold(name: str, seconds: float, threshold: float) -> None:
        elsewhere(monitor.record, "b", 1.0).result(PATIENCE)
        seen.append(elsewhere(monitor.performance).result(PATIENCE)["b"].count)

    monitor = Monitor(FakeClock(), thresholds={"a": 1.0}, on_threshold=on_threshold)
    monitor.record("a", 2.0)

    assert seen == [1]


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit("secret")])
def test_raising_hook_is_logged(caplog: pytest.LogCaptureFixture, error: BaseException) -> None:
    """What the hook raises reaches the log, and not the caller of what was measured."""

    def on_threshold(name: str, seconds: float, threshold: float) -> None:
        raise error

    clock = FakeClock()
    monitor = Monitor(clock, thresholds={"a": 1.0}, on_threshold=on_threshold)

    monitor.measured("a", clock.advance, 2.0)

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"batcher 'optimizer': on_threshold raised (1 items): '{type(error).__name__}'"


def test_without_a_hook_the_log_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """A slow operation is logged with its figures; the next of its name not before a minute is over."""
    clock = FakeClock()
    monitor = Monitor(clock, thresholds={"a": 1.0, "b": 0.25})

    for name, seconds, later in [("a", 2.0, 0.0), ("a", 3.0, 59.0), ("b", 0.5, 0.0), ("a", 4.0, 1.0), ("a", 5.0, 0.0)]:
        monitor.record(name, seconds)
        clock.advance(later)

    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("batcher", "WARNING", "a took 2 s, its threshold is 1 s"),
        ("batcher", "WARNING", "b took 0.5 s, its threshold is 0.25 s"),
        ("batcher", "WARNING", "a took 5 s, its threshold is 1 s"),
    ]


# Signals and forks


@pytest.mark.parametrize("name", ["record", "performance"])
def test_signal_handler_may_measure_anywhere(name: str) -> None:
    """A signal handler that measures on top of a measurement finds no lock in its way, and loses nothing."""

    def run(place: int) -> str | None:
        monitor = Monitor(FakeClock(), thresholds={})
        monitor.record("a", 1.0)
        operations: dict[str, Callable[[], object]] = {
            "record": lambda: monitor.record("new", 1.0),
            "performance": monitor.performance,
        }

        def act() -> None:
            for _ in range(4):
                monitor.record("nested", 2.0)
            answers.append(monitor.performance())

        answers: list[dict[str, Performance]] = []
        where = interrupt(operations[name], act, place)
        seen = monitor.performance()
        assert {name: each.count for name, each in seen.items() if name != "nested"} == (
            {"a": 1, "new": 1} if name == "record" else {"a": 1}
        )
        assert where is None or seen["nested"].count == 4
        assert where is None or answers[0]["nested"].max == 2.0
        return where

    assert at_each_place(run) > 3


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize("first", ["record", "performance"])
def test_child_starts_with_nothing_measured(fork: Callable[[], int], first: str) -> None:
    """The child of a fork measures anew, also where another thread held the lock; the parent keeps what it has."""
    monitor = Monitor(FakeClock(), thresholds={})
    monitor.record("a", 1.0)
    holding, go = threading.Event(), threading.Event()

    def hold() -> None:
        with monitor._lock:
            holding.set()
            assert go.wait(2 * CHILD_SECONDS)

    def look() -> list[str]:
        if first == "performance":
            assert monitor.performance() == {}
        monitor.record("b", 1.0)
        return list(monitor.performance())

    holder = elsewhere(hold)
    assert holding.wait(PATIENCE)
    try:
        assert in_child(look, fork) == ["b"]
    finally:
        go.set()
        holder.result(PATIENCE)
    assert list(monitor.performance()) == ["a"]
