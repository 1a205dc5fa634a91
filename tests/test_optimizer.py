"""The optimizer: what each part does alone, what they do together, and what the configuration may say."""

from __future__ import annotations

import threading
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

import pytest

from batcher import BatcherClosedError, Optimizer, OptimizerStatus
from batcher._layers import Wishes
from batcher.testing import FakeClock
from tests.stage import PATIENCE, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future

EVERYTHING: dict[str, dict[str, Any]] = {
    "batching": {"max_size": 1},
    "throttling": {"max_concurrent": 1},
    "debouncing": {"wait": 60.0, "leading": True, "trailing": False},
    "monitoring": {},
}
ALL = {"batch": True, "throttle": True, "debounce": True}


class BoomError(Exception):
    """What a function fails with."""


def fail(error: BaseException | None = None) -> None:
    """Fail."""
    raise BoomError if error is None else error


@pytest.fixture(name="clock")
def _clock() -> Iterator[FakeClock]:
    """Have the optimizers of a test run on a clock that only the test moves."""
    with FakeClock() as clock:
        yield clock


def counts(optimizer: Optimizer) -> dict[str, int]:
    """Return how many operations were measured, by the beginning of their name."""
    return {name.removesuffix("_operation"): each.count for name, each in optimizer.status().performance.items()}


def at_once(
    optimizer: Optimizer, functions: Iterable[Callable[[], object]], *, throttle: bool = False
) -> list[Future[Any]]:
    """Run functions, each on a thread of its own; no batch leaves before all have come."""
    batcher = optimizer._batching.batcher
    assert batcher is not None
    added = threading.Semaphore(0)
    real = batcher.add

    def add(item: Any) -> Any:
        future = real(item)
        added.release()
        return future

    batcher.add = add  # type: ignore[method-assign, assignment]
    batcher.pause()
    futures = [elsewhere(optimizer.run, function, batch=True, throttle=throttle) for function in functions]
    for _ in futures:
        assert added.acquire(timeout=PATIENCE)
    batcher.resume()
    return futures


# Parts that are off


class StoppedClock(FakeClock):
    """A clock that nobody may look at."""

    def monotonic(self) -> float:
        """Refuse."""
        raise AssertionError("somebody looked at the clock")


OFF: list[dict[str, Mapping[str, object] | None]] = [
    {},
    dict.fromkeys(EVERYTHING),
    {part: {**options, "enabled": False} for part, options in EVERYTHING.items()},
]


@pytest.mark.parametrize("config", OFF, ids=["left out", "None", "disabled"])
def test_parts_that_are_off_cost_nothing(config: dict[str, Mapping[str, object] | None]) -> None:
    """Whatever is asked for, the function is called as it is: on this thread, without parts, threads or clock."""
    before = threading.active_count()
    with StoppedClock():
        optimizer = Optimizer(**config)

    assert optimizer.run(threading.get_ident, batch=True, throttle=True, debounce=True) == threading.get_ident()
    with pytest.raises(BoomError):
        optimizer.run(fail, batch=True, throttle=True, debounce=True)
    assert threading.active_count() == before
    assert optimizer.status() == OptimizerStatus(batching=None, throttling=None, debouncing=None, performance={})
    assert (optimizer._monitor, optimizer._batching.batcher, optimizer._throttling.throttle) == (None, None, None)


def test_parts_that_are_not_asked_for_do_nothing() -> None:
    """Where everything is on, a plain run is only measured as a whole, on its caller's thread."""
    with Optimizer(**EVERYTHING) as optimizer:
        assert optimizer.run(threading.get_ident) == threading.get_ident()

        status = optimizer.status()
        assert counts(optimizer) == {"optimized": 1}
        assert status.batching is not None
        assert status.debouncing is not None
        assert (status.batching.accepted, status.debouncing.functions) == (0, 0)


# Each part alone


def test_throttled_run() -> None:
    """A throttled run waits for its start: here, for the place of the other one."""
    waiting = threading.Event()
    entered, go = threading.Event(), threading.Event()
    optimizer = Optimizer(throttling={"max_concurrent": 1, "on_throttle": lambda _: waiting.set()})

    def hold() -> str:
        entered.set()
        assert go.wait(PATIENCE)
        return "first"

    first = elsewhere(optimizer.run, hold, throttle=True)
    assert entered.wait(PATIENCE)
    second = elsewhere(optimizer.run, lambda: "second", throttle=True)
    assert waiting.wait(PATIENCE)
    status = optimizer.status().throttling
    assert status is not None
    assert (status.active, status.waiting) == (1, 1)
    go.set()

    assert (first.result(PATIENCE), second.result(PATIENCE)) == ("first", "second")
    assert optimizer.run(lambda: "not throttled") == "not throttled"


def test_batched_runs() -> None:
    """Runs at the same time become one batch, on one thread; each caller gets its own result or error."""
    endings: list[Callable[[], object]] = [
        threading.get_ident,
        fail,
        lambda: fail(SystemExit(3)),
        lambda: ValueError("returned, not raised"),
    ]
    with Optimizer(batching={"max_size": 4, "max_delay": None}) as optimizer:
        futures = at_once(optimizer, endings)
        errors = [type(future.exception(PATIENCE)) for future in futures]

        assert errors == [type(None), BoomError, SystemExit, type(None)]
        assert futures[0].result() != threading.get_ident()
        assert isinstance(futures[3].result(), ValueError)
        status = optimizer.status().batching
        assert status is not None
        assert (status.accepted, status.failed) == (4, 1)


def test_failing_batch_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A function's error reaches its caller, and so isn't one that nobody listens to."""
    with Optimizer(batching={"max_size": 1}) as optimizer:
        heard = optimizer._batching.batcher
        assert heard is not None
        future = heard.add(
            (fail, Wishes(debounce=False, batch=True, throttle=False))
        )  # as by a caller that isn't yet waiting
        heard.flush(PATIENCE)

    assert isinstance(future.exception(), BoomError)
    assert caplog.records == []


def test_batching_in_a_batch() -> None:
    """A function in a batch that asks for batching itself is called there: it would wait for its own batch."""
    with Optimizer(batching={"max_size": 1}, monitoring={}) as optimizer:

        def outer() -> tuple[int, int]:
            return threading.get_ident(), optimizer.run(threading.get_ident, batch=True)

        outside, inside = optimizer.run(outer, batch=True)

        assert outside == inside
        assert counts(optimizer) == {"optimized": 2, "batched": 1}


def test_caller_that_gives_up_takes_its_item_back() -> None:
    """Ctrl-C while a run waits for its batch takes the function out of it."""
    with Optimizer(batching={"max_size": 2, "max_delay": None}) as optimizer:
        batcher = optimizer._batching.batcher
        assert batcher is not None
        real = batcher.add

        class Impatient:
            """A future whose caller presses Ctrl-C."""

            def __init__(self, item: Any) -> None:
                self.cancel = real(item).cancel

            def result(self) -> None:
                raise KeyboardInterrupt

        batcher.add = Impatient  # type: ignore[method-assign, assignment]
        with pytest.raises(KeyboardInterrupt):
            optimizer.run(fail, batch=True)
        assert batcher.status().cancelled == 1


def test_debounced_runs() -> None:
    """Calls with one function in quick succession become one run, whose result all of them get."""
    absorbed = threading.Event()
    runs: list[int] = []
    optimizer = Optimizer(
        debouncing={"wait": 60.0, "on_debounce": lambda count: absorbed.set() if count == 2 else None}
    )

    def function() -> int:
        runs.append(threading.get_ident())
        return len(runs)

    futures = [elsewhere(optimizer.run, function, debounce=True) for _ in range(3)]
    assert absorbed.wait(PATIENCE)
    status = optimizer.status().debouncing
    assert status is not None
    assert (status.functions, status.pending, status.running) == (1, 1, 0)
    assert optimizer.close()

    assert [future.result(PATIENCE) for future in futures] == [1, 1, 1]


def test_error_of_a_debounced_run() -> None:
    """A failed run's error reaches its caller."""
    with Optimizer(debouncing={"wait": 0.001}) as optimizer, pytest.raises(BoomError):
        optimizer.run(fail, debounce=True)


# Parts together


def test_all_parts_together(clock: FakeClock) -> None:
    """A run that is debounced, batched and throttled is all of that; each part is measured with what is inside."""
    threads: list[str] = []

    def function() -> str:
        threads.append(threading.current_thread().name)
        clock.advance(2.0)
        return "done"

    with Optimizer(**EVERYTHING) as optimizer:
        assert optimizer.run(function, **ALL) == "done"

        status = optimizer.status()
        assert status.batching is not None
        assert status.throttling is not None
        assert status.debouncing is not None
        assert (status.batching.succeeded, status.throttling.active, status.debouncing.functions) == (1, 0, 1)
        assert threads == [f"batcher-{optimizer._batching.batcher._options.name}-flusher"]  # type: ignore[union-attr]
        assert {name: (each.count, each.max) for name, each in status.performance.items()} == {
            "optimized_operation": (1, 2.0),
            "debounced_operation": (1, 2.0),
            "batched_operation": (1, 2.0),
            "throttled_operation": (1, 2.0),
        }


def test_batched_and_throttled() -> None:
    """Each function is throttled inside its batch: the second of two waits for the cooldown of the first."""
    throttled: list[int] = []
    config: dict[str, Any] = {
        "batching": {"max_size": 2, "max_delay": None},
        "throttling": {"max_burst": 1, "cooldown": 0.01, "on_throttle": throttled.append},
        "monitoring": {},
    }
    with Optimizer(**config) as optimizer:
        futures = at_once(optimizer, [int, int], throttle=True)
        assert [future.result(PATIENCE) for future in futures] == [0, 0]

        status = optimizer.status().batching
        assert status is not None
        assert (status.succeeded, throttled) == (2, [1])
        assert counts(optimizer) == {"throttled": 2, "batched": 2, "optimized": 2}


def test_last_call_says_how_the_run_goes() -> None:
    """Of calls that share a debounced run, the flags of the last one count."""
    absorbed = threading.Event()
    optimizer = Optimizer(
        throttling={"max_concurrent": 1},
        debouncing={"wait": 60.0, "on_debounce": lambda _: absorbed.set()},
        monitoring={},
    )
    arrived = threading.Event()
    debounce_of = optimizer._debouncing._debounce_of

    def noted(fn: Callable[[], object]) -> Any:
        debounce = debounce_of(fn)

        def call(*args: Any) -> Any:
            future = debounce(*args)
            arrived.set()
            return future

        return call

    optimizer._debouncing._debounce_of = noted  # type: ignore[method-assign]
    first = elsewhere(optimizer.run, int, debounce=True, throttle=True)
    assert arrived.wait(PATIENCE)
    second = elsewhere(optimizer.run, int, debounce=True)
    assert absorbed.wait(PATIENCE)
    optimizer.close()

    assert (first.result(PATIENCE), second.result(PATIENCE)) == (0, 0)
    assert counts(optimizer) == {"debounced": 2, "optimized": 2}


@pytest.mark.parametrize("wishes", [{}, {"throttle": True}, {"batch": True}, {"debounce": True}, ALL])
def test_failed_runs_are_measured(clock: FakeClock, wishes: dict[str, bool]) -> None:
    """A run that raises is counted, with its time, in all of its parts."""

    def function() -> None:
        clock.advance(2.0)
        fail()

    with Optimizer(**EVERYTHING) as optimizer:
        with pytest.raises(BoomError):
            optimizer.run(function, **wishes)

        parts = {"batch": "batched", "throttle": "throttled", "debounce": "debounced"}
        assert counts(optimizer) == {"optimized": 1} | {parts[wish]: 1 for wish in wishes}
        assert {each.max for each in optimizer.status().performance.values()} == {2.0}


def test_thresholds(clock: FakeClock) -> None:
    """The hook hears which operation took how long, above which threshold."""
    slow: list[tuple[str, float, float]] = []
    monitoring = {"thresholds": {"throttled_operation": 1.5}, "on_threshold": lambda *told: slow.append(told)}
    optimizer = Optimizer(throttling={"max_concurrent": 1}, monitoring=monitoring)

    for seconds in (1.0, 2.0):
        optimizer.run(lambda seconds=seconds: clock.advance(seconds), throttle=True)  # type: ignore[misc]

    assert slow == [("throttled_operation", 2.0, 1.5)]


# Status


def test_status_is_frozen() -> None:
    """A snapshot can't be changed, and later runs don't change it."""
    optimizer = Optimizer(monitoring={})
    before = optimizer.status()
    optimizer.run(int)

    assert before.performance == {}
    with pytest.raises(FrozenInstanceError):
        before.performance = {}  # type: ignore[misc]


def test_repr() -> None:
    """It shows what is on, and whether it is closed."""
    optimizer = Optimizer(batching={}, monitoring={"enabled": True}, throttling={"enabled": False})
    assert repr(optimizer) == "<Optimizer open: batching, monitoring>"
    optimizer.close()
    assert repr(optimizer) == "<Optimizer closed: batching, monitoring>"
    assert repr(Optimizer()) == "<Optimizer open: nothing>"


# The configuration


@pytest.mark.parametrize(
    ("config", "error", "match"),
    [
        ({"batching": 3}, TypeError, "batching must be a mapping or None, got 3"),
        ({"monitoring": ["enabled"]}, TypeError, r"monitoring must be a mapping or None, got \['enabled'\]"),
        (
            {"batching": {"max_sise": 3}},
            ValueError,
            "batching takes enabled, max_size, max_delay, and not 'max_sise'; got {'max_sise': 3}",
        ),
        ({"batching": {"enabled": False, "handler": 3}}, ValueError, "and not 'handler'"),
        ({"throttling": {"rate": 3}}, ValueError, "throttling takes enabled, max_concurrent, .*, and not 'rate'"),
        ({"debouncing": {"delay": 3}}, ValueError, "debouncing takes enabled, wait, .*, and not 'delay'"),
        ({"monitoring": {1: 3}}, ValueError, "monitoring takes enabled, thresholds, on_threshold, and not 1"),
        ({"throttling": {"enabled": "no"}}, TypeError, r"throttling\['enabled'\] must be True or False, got 'no'"),
        ({"batching": {"max_size": 0}}, ValueError, r"batching\['max_size'\] must be an int of at least 1, got 0"),
        ({"batching": {"max_delay": -1}}, ValueError, r"batching\['max_delay'\] must be a non-negative number"),
        ({"throttling": {}}, ValueError, "at least one of max_concurrent"),
        ({"throttling": {"max_concurrent": 0}}, ValueError, "max_concurrent must be .*, got 0"),
        ({"debouncing": {"leading": True}}, ValueError, "debouncing needs 'wait', got {'leading': True}"),
        ({"debouncing": {"wait": -1}}, ValueError, "wait must be a non-negative number of seconds, got -1"),
        ({"debouncing": {"wait": 1, "trailing": False}}, ValueError, "debouncing needs 'leading' or 'trailing'"),
        ({"monitoring": {"thresholds": 3}}, TypeError, r"monitoring\['thresholds'\] must be a mapping or None, got 3"),
        (
            {"monitoring": {"thresholds": {"batch": 1}}},
            ValueError,
            r"\['thresholds'\] takes optimized_operation, .*, and not 'batch'; got {'batch': 1}",
        ),
        (
            {"monitoring": {"thresholds": {"batched_operation": "1"}}},
            TypeError,
            r"monitoring\['thresholds'\]\['batched_operation'\] must be",
        ),
        ({"monitoring": {"on_threshold": 3}}, TypeError, r"monitoring\['on_threshold'\] must be callable or None"),
    ],
)
def test_wrong_configuration(config: dict[str, Any], error: type[Exception], match: str) -> None:
    """A wrong configuration is refused at construction; what is wrong is named, with what was received."""
    with pytest.raises(error, match=match):
        Optimizer(**config)


def test_options_reach_their_parts() -> None:
    """Sizes, limits and edges are those that were configured."""
    optimizer = Optimizer(
        batching={"max_size": 7, "max_delay": 0.5},
        throttling={"max_per_second": 3, "max_burst": 2, "cooldown": 4.0},
        debouncing={"wait": 5, "max_wait": 6, "leading": True, "on_debounce": None},
        monitoring={"thresholds": None},
    )

    assert optimizer._batching.batcher is not None
    options = optimizer._batching.batcher._options
    assert (options.max_batch_size, options.max_delay) == (7, 0.5)
    assert repr(optimizer._throttling.throttle) == "Throttle(max_per_second=3.0, max_burst=2, cooldown=4.0)"
    rule = optimizer._debouncing._debounce_of(fail)._bursts.rule
    assert (rule.wait, rule.max_wait, rule.leading, rule.trailing) == (5.0, 6.0, True, True)


def test_defaults_are_those_of_the_batcher() -> None:
    """An empty mapping turns a part on, as it is by default."""
    optimizer = Optimizer(batching={})

    assert optimizer._batching.batcher is not None
    options = optimizer._batching.batcher._options
    assert (options.max_batch_size, options.max_delay) == (100, 0.05)


# Closing


def test_closed_optimizer_refuses() -> None:
    """After close, also of one with nothing on, a run is refused; closing again does no harm."""
    configs: list[dict[str, dict[str, object]]] = [{}, {"monitoring": {}}, {"batching": {}}]
    for config in configs:
        with Optimizer(**config) as optimizer:
            assert optimizer.run(int) == 0
        assert optimizer.close() is True
        with pytest.raises(BatcherClosedError, match="the optimizer is closed"):
            optimizer.run(int)
