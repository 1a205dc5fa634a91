"""What keeps what alive in an optimizer, whose debounce is whose, and how it ends."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from batcher import BatcherClosedError, Optimizer, ReentrantCallError
from batcher._layers import Wishes, _forget
from tests.forks import FORKS, in_child
from tests.stage import PATIENCE, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEADING = {"wait": 60.0, "leading": True, "trailing": False}


@pytest.fixture(name="optimizer")
def _optimizer() -> Iterator[Optimizer]:
    """An optimizer that runs a function at its first debounced call, and answers later calls with that result."""
    with Optimizer(debouncing=LEADING) as optimizer:
        yield optimizer


def functions(optimizer: Optimizer) -> int:
    """Return how many functions it has debounces for."""
    status = optimizer.status().debouncing
    assert status is not None
    return status.functions


# Whose debounce


def test_nobody_gets_the_result_of_another_function(optimizer: Optimizer) -> None:
    """Each function has its own debounce; the second call with the same one gets the result of the first."""
    numbers = iter(range(10))

    def one() -> tuple[str, int]:
        return "one", next(numbers)

    def two() -> tuple[str, int]:
        return "two", next(numbers)

    seen = [optimizer.run(function, debounce=True) for function in (one, two, one, two)]

    assert seen == [("one", 0), ("two", 1), ("one", 0), ("two", 1)]
    assert functions(optimizer) == 2


class Sensor:
    """An object with methods that look alike."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0

    def read(self) -> str:
        """Count the call, and return the name."""
        self.calls += 1
        return self.name

    def write(self) -> str:
        """Return something else."""
        return f"{self.name} written"

    def __call__(self) -> str:
        """Count the call, and return the name."""
        return self.read()

    def __eq__(self, other: object) -> bool:
        """Be equal to all others, and so not hashable."""
        return True

    __hash__ = None  # type: ignore[assignment]


def test_methods_belong_to_their_objects(optimizer: Optimizer) -> None:
    """A bound method is the same function each time it is looked up, another one for another object or name."""
    a, b = Sensor("a"), Sensor("b")

    seen = [
        optimizer.run(method, debounce=True)
        for sensor in (a, b, a)
        for method in (sensor.read, sensor.write, sensor.__call__)
    ]

    assert seen == ["a", "a written", "a", "b", "b written", "b", "a", "a written", "a"]
    assert (a.calls, b.calls, functions(optimizer)) == (2, 2, 6)


def test_callable_objects_and_builtin_methods(optimizer: Optimizer) -> None:
    """A callable object is a function of its own, and a method written in C belongs to its object too."""
    sensor, other = Sensor("a"), Sensor("b")
    lock = threading.Lock()

    assert [optimizer.run(each, debounce=True) for each in (sensor, other, sensor)] == ["a", "b", "a"]
    assert (sensor.calls, other.calls) == (1, 1)
    assert optimizer.run(os.getpid, debounce=True) == os.getpid()
    assert [optimizer.run(lock.locked, debounce=True) for _ in range(2)] == [False, False]
    assert optimizer.run(sensor.__repr__, debounce=True) == repr(sensor)
    assert functions(optimizer) == 5


def test_function_that_belongs_to_nothing_is_refused(optimizer: Optimizer) -> None:
    """A method of an object without weak references, and what isn't callable, is refused, and called by its name."""
    with pytest.raises(TypeError, match=r"list allows no weak references, which debounce=True needs; .* got <built-in"):
        optimizer.run([].copy, debounce=True)
    with pytest.raises(TypeError, match="fn must be callable, got 3"):
        optimizer.run(3, debounce=True)  # type: ignore[arg-type]

    assert functions(optimizer) == 0


def test_race_for_a_debounce(optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. A finds no debounce. 2. B makes one. 3. A makes another, and uses B's."""
    debouncing = optimizer._debouncing
    real = debouncing._make
    others: list[object] = []

    def function() -> None:
        """Do nothing."""

    def make(fn: object) -> Any:
        monkeypatch.setattr(debouncing, "_make", real)
        others.append(elsewhere(debouncing._debounce_of, function).result(PATIENCE))
        return real(fn)

    monkeypatch.setattr(debouncing, "_make", make)

    assert [debouncing._debounce_of(function)] == others


# What is kept alive


def test_functions_are_not_kept_alive(optimizer: Optimizer) -> None:
    """A function that was debounced is collected when its callers are gone, and its debounce with it."""
    sensor = Sensor("a")
    used: list[Callable[[], object]] = [lambda: None, sensor.read]
    for function in used:
        optimizer.run(function, debounce=True)
    dead = weakref.ref(used[0]), weakref.ref(sensor)
    assert functions(optimizer) == 2

    del function, sensor
    used.clear()
    # The worker lets go of its last run a moment after it has told the result; a further run comes after that.
    optimizer.run(os.getpid, debounce=True)
    gc.collect()

    assert [ref() for ref in dead] == [None, None]
    assert functions(optimizer) == 1


def test_late_death_notice_does_no_harm(optimizer: Optimizer) -> None:
    """It takes away no debounce of what has the id by now, and may find the optimizer gone."""
    debouncing = optimizer._debouncing

    def function() -> None:
        """Do nothing."""

    debounce = debouncing._debounce_of(function)
    late = weakref.ref(Sensor("a"))
    (key,) = debouncing._debounces
    debouncing.forget(key, late)
    debouncing.forget((0, None), late)
    _forget(weakref.ref(Sensor("no optimizer any more")), key, late)  # type: ignore[arg-type]

    assert debouncing._debounce_of(function) is debounce


def test_dropped_optimizer_is_collected() -> None:
    """Neither a thread nor an open window keeps an optimizer alive; its batcher warns that it wasn't closed."""
    before = set(threading.enumerate())
    optimizer = Optimizer(batching={"max_size": 1}, debouncing=LEADING, throttling={"max_concurrent": 1}, monitoring={})
    optimizer.run(os.getpid, batch=True, throttle=True, debounce=True)
    started = set(threading.enumerate()) - before
    optimizer.run(threading.Lock().locked, debounce=True)  # the worker lets go of the run before
    dead, kept = weakref.ref(optimizer), [optimizer]
    del optimizer

    with pytest.warns(ResourceWarning, match=r"batcher 'optimizer-.*' was dropped without close"):
        kept.clear()

    assert dead() is None
    for thread in started:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in started)


def test_function_may_outlive_the_optimizer() -> None:
    """When a function is collected after the optimizer, nothing is left to be done."""

    def function() -> None:
        """Do nothing."""

    optimizer = Optimizer(debouncing=LEADING)
    optimizer.run(function, debounce=True)
    optimizer.close()
    dead = weakref.ref(optimizer._debouncing)
    gc.disable()
    try:
        del optimizer
        assert dead() is None
        del function
    finally:
        gc.enable()


def test_failed_debounce_keeps_no_caller_alive(optimizer: Optimizer) -> None:
    """The frames of a caller that got an error go with it, while the debounce keeps its last ending for others."""

    def function() -> None:
        raise KeyError("missing")

    def call() -> weakref.ref[Sensor]:
        mine = Sensor("a")
        with pytest.raises(KeyError, match="missing"):
            optimizer.run(function, debounce=True)
        return weakref.ref(mine)

    gc.disable()
    try:
        first, second = call(), call()
        assert (first(), second()) == (None, None)
    finally:
        gc.enable()


class StubbornError(Exception):
    """An error that can't be copied."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


@pytest.mark.parametrize(("error", "is_copied"), [(KeyError("missing"), True), (StubbornError(1, 2), False)])
def test_callers_of_a_failed_debounce_get_errors_of_their_own(
    optimizer: Optimizer, error: Exception, *, is_copied: bool
) -> None:
    """Each caller raises a copy, with the place of the failure; the error itself only if it can't be copied."""
    raised = []

    def function() -> None:
        raise error

    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            optimizer.run(function, debounce=True)
        assert caught.traceback[-1].name == "function"
        raised.append(caught.value)

    assert [str(each) for each in raised] == [str(error)] * 2
    assert (raised[0] is not raised[1]) == is_copied


# Closing


def test_close_sends_what_waits_for_a_batch() -> None:
    """A batch that isn't full leaves when the optimizer is closed."""
    entered = threading.Event()
    optimizer = Optimizer(batching={"max_size": 100, "max_delay": None})
    batcher = optimizer._batching.batcher
    assert batcher is not None
    real = batcher.add

    def add(item: Any) -> Any:
        future = real(item)
        entered.set()
        return future

    batcher.add = add  # type: ignore[method-assign, assignment]
    caller = elsewhere(optimizer.run, int, batch=True)
    assert entered.wait(PATIENCE)

    assert optimizer.close() is True
    assert caller.result(PATIENCE) == 0


def test_debounced_run_that_comes_late_goes_past_the_batcher() -> None:
    """A run that began before close and reaches the batcher after is made all the same, unbatched."""
    entered, go = threading.Event(), threading.Event()
    optimizer = Optimizer(batching={"max_size": 100, "max_delay": None}, debouncing=LEADING)
    batcher = optimizer._batching.batcher
    assert batcher is not None
    real = batcher.add

    def add(item: Any) -> Any:
        entered.set()
        assert go.wait(PATIENCE)
        return real(item)

    batcher.add = add  # type: ignore[method-assign, assignment]
    caller = elsewhere(optimizer.run, int, batch=True, debounce=True)
    assert entered.wait(PATIENCE)
    status = optimizer.status().debouncing
    assert status is not None
    assert status.running == 1
    assert optimizer.close(0) is False
    assert functions(optimizer) == 1, "the next close waits for it"
    go.set()

    assert caller.result(PATIENCE) == 0
    assert optimizer.close() is True
    assert functions(optimizer) == 0


def test_close_says_what_it_had_no_time_for() -> None:
    """What waits behind a long batch fails when the timeout ends, and close says so."""
    entered, go = threading.Event(), threading.Event()
    optimizer = Optimizer(batching={"max_size": 1})

    def hold() -> str:
        entered.set()
        assert go.wait(2 * PATIENCE)
        return "done"

    first = elsewhere(optimizer.run, hold, batch=True)
    assert entered.wait(PATIENCE)
    batcher = optimizer._batching.batcher
    assert batcher is not None
    waiting = batcher.add((int, Wishes(debounce=False, batch=True, throttle=False)))
    closer = elsewhere(optimizer.close, 0.0)

    assert closer.result(PATIENCE) is False
    assert isinstance(waiting.exception(PATIENCE), BatcherClosedError)
    go.set()
    assert first.result(PATIENCE) == "done"


def test_closed_optimizer_has_no_thread() -> None:
    """After close no thread of its debounces or its batcher is left, though the optimizer is still there."""
    before = set(threading.enumerate())
    optimizer = Optimizer(batching={"max_size": 1}, debouncing=LEADING)
    optimizer.run(os.getpid, batch=True, debounce=True)
    started = set(threading.enumerate()) - before
    assert started

    assert optimizer.close() is True

    for thread in started:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in started)
    assert functions(optimizer) == 0


@pytest.mark.parametrize("wish", ["batch", "debounce"])
def test_function_can_not_wait_for_itself(wish: str) -> None:
    """Closing from a function that the optimizer runs is refused, and changes nothing."""
    with Optimizer(batching={"max_size": 1}, debouncing=LEADING) as optimizer:
        with pytest.raises(ReentrantCallError, match="would wait for itself"):
            optimizer.run(optimizer.close, **{wish: True})

        assert optimizer.run(int) == 0


# Forks


@pytest.mark.parametrize("fork", FORKS)
def test_child_has_all_parts(fork: Callable[[], int]) -> None:
    """After use in the parent, an optimizer works in the child of a fork, with nothing measured yet."""
    wishes = {"batch": True, "throttle": True, "debounce": True}
    config: dict[str, Any] = {
        "batching": {"max_size": 1},
        "throttling": {"max_concurrent": 1},
        "debouncing": LEADING,
        "monitoring": {},
    }
    with Optimizer(**config) as optimizer:
        assert optimizer.run(os.getpid, **wishes) == os.getpid()

        def look() -> tuple[bool, set[int], bool]:
            is_own = optimizer.run(os.getpid, **wishes) == os.getpid()
            return is_own, {each.count for each in optimizer.status().performance.values()}, optimizer.close(PATIENCE)

        assert in_child(look, fork) == (True, {1}, True)
        assert optimizer.run(int, batch=True) == 0
