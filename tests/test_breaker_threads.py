"""A circuit breaker among threads, signals and forks, and whom it tells of its changes."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from batcher import CircuitBreaker
from batcher._circuit import Permit
from batcher.testing import FakeClock
from tests.forks import CHILD_SECONDS, FORKS, in_child
from tests.interruptions import at_each_place, interrupt, press_ctrl_c
from tests.stage import PATIENCE, elsewhere
from tests.test_breaker import fail, fail_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batcher._circuit import Circuit


@pytest.fixture(name="clock")
def _clock() -> Iterator[FakeClock]:
    """Have the breakers of a test run on a clock that only the test moves."""
    with FakeClock() as clock:
        yield clock


def permit_of(breaker: CircuitBreaker) -> Permit:
    """Return a permit, which there must be."""
    permit = breaker.allow()
    assert permit is not None
    return permit


# Hooks


def test_each_change_is_told_once(clock: FakeClock) -> None:
    """The hook hears of all changes, in order, those too that time brought while nobody asked."""
    changes: list[tuple[str, str]] = []
    breaker = CircuitBreaker(
        failure_threshold=1, reset_timeout=10.0, on_change=lambda old, new: changes.append((old, new))
    )
    fail_times(breaker, 1)
    clock.advance(10.0)
    assert breaker.status().state == "half-open"
    assert changes == [("closed", "open")], "looking tells nobody"
    permit_of(breaker)
    clock.advance(20.0)

    breaker.call(int)

    assert changes == [
        ("closed", "open"),
        ("open", "half-open"),
        ("half-open", "open"),
        ("open", "half-open"),
        ("half-open", "closed"),
    ]


def test_hook_is_called_outside_the_lock(clock: FakeClock) -> None:
    """While the hook runs, another thread uses the breaker, and the hook itself does."""
    seen: list[str] = []

    def on_change(old: str, new: str) -> None:
        assert breaker.allow() is None
        seen.append(elsewhere(lambda: breaker.status().state).result(PATIENCE))
        assert elsewhere(breaker.allow).result(PATIENCE) is None

    breaker = CircuitBreaker(failure_threshold=1, on_change=on_change)
    fail_times(breaker, 1)

    assert seen == ["open"]


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit("secret")])
def test_raising_hook_is_logged(clock: FakeClock, caplog: pytest.LogCaptureFixture, error: BaseException) -> None:
    """What the hook raises reaches the log, and neither the caller nor the circuit."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0, on_change=lambda old, new: fail(error))

    fail_times(breaker, 1)
    clock.advance(10.0)
    breaker.call(int)

    assert breaker.status().state == "closed"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"batcher 'CircuitBreaker': on_change raised (1 items): '{type(error).__name__}'"


def test_changes_are_told_one_after_another(clock: FakeClock) -> None:
    """A thread that changes the state while the hook runs on another doesn't wait: the other tells that too, after."""
    entered, go = threading.Event(), threading.Event()
    told: list[tuple[str, str, str]] = []

    def on_change(old: str, new: str) -> None:
        entered.set()
        assert go.wait(PATIENCE)
        told.append((old, new, threading.current_thread().name))

    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0, on_change=on_change)
    first = threading.Thread(target=fail_times, args=(breaker, 1), name="first")
    first.start()
    assert entered.wait(PATIENCE)
    clock.advance(10.0)
    breaker.call(int)
    assert (breaker.status().state, told) == ("closed", [])
    go.set()
    first.join(PATIENCE)

    assert told == [
        ("closed", "open", "first"),
        ("open", "half-open", "first"),
        ("half-open", "closed", "first"),
    ]


def test_change_as_the_telling_ends_is_told(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change between the teller's last look and its leaving finds the place taken, and is told nevertheless."""
    changes: list[str] = []
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0, on_change=lambda old, new: changes.append(new))
    real = breaker._tell_all
    advances = [10.0]

    def tell_all() -> None:
        real()
        if advances:
            clock.advance(advances.pop())
            elsewhere(breaker.allow).result(PATIENCE)

    monkeypatch.setattr(breaker, "_tell_all", tell_all)
    fail_times(breaker, 1)

    assert changes == ["open", "half-open"]


def test_ctrl_c_while_telling_leaves_the_place(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """When Ctrl-C ends the call that was about to tell, the next one tells."""
    changes: list[str] = []
    breaker = CircuitBreaker(failure_threshold=1, on_change=lambda old, new: changes.append(new))
    permit = permit_of(breaker)
    with monkeypatch.context() as patch:
        patch.setattr(breaker, "_tell_all", press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            breaker.record_failure(permit)
    assert changes == []

    assert breaker.allow() is None

    assert changes == ["open"]


# Races


class ScriptedLock:
    """A lock that runs a script, once, right before it is acquired for the `nth` time."""

    def __init__(self, breaker: CircuitBreaker, script: Callable[[], object], nth: int = 1) -> None:
        self._real = breaker._lock
        self._breaker = breaker
        self._script = script
        self._left = nth
        breaker._lock = self  # type: ignore[assignment]

    def __enter__(self) -> None:
        self._left -= 1
        if not self._left:
            self._breaker._lock = self._real
            self._script()
        self._real.acquire()

    def __exit__(self, *_: object) -> None:
        self._real.release()


def test_race_for_the_last_probe(clock: FakeClock) -> None:
    """1. A finds a place for a probe. 2. B takes it. 3. A is refused."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0)
    fail_times(breaker, 1)
    clock.advance(10.0)
    others: list[Permit | None] = []
    ScriptedLock(breaker, lambda: others.append(elsewhere(breaker.allow).result(PATIENCE)))

    assert breaker.allow() is None
    assert None not in others
    assert breaker.status().probes == 1


def test_race_of_two_failures(clock: FakeClock) -> None:
    """1. A counts one failure. 2. B counts one and writes it. 3. A counts again: none is lost."""
    breaker = CircuitBreaker(failure_threshold=3)
    mine, other = permit_of(breaker), permit_of(breaker)
    ScriptedLock(breaker, lambda: elsewhere(breaker.record_failure, other).result(PATIENCE))

    breaker.record_failure(mine)

    assert breaker.status().failures == 2


def test_race_of_two_reports(clock: FakeClock) -> None:
    """1. A is about to report a permit. 2. B reports it. 3. It has counted once."""
    breaker = CircuitBreaker(failure_threshold=3)
    permit = permit_of(breaker)
    ScriptedLock(breaker, lambda: elsewhere(breaker.record_failure, permit).result(PATIENCE))

    breaker.record_failure(permit)

    assert breaker.status().failures == 1


def test_race_of_the_teller(clock: FakeClock) -> None:
    """1. A is about to tell a change. 2. B makes another. 3. A tells both, each once."""
    changes: list[str] = []
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0, on_change=lambda old, new: changes.append(new))
    permit = permit_of(breaker)

    def probe() -> None:
        clock.advance(10.0)
        elsewhere(breaker.call, int).result(PATIENCE)

    ScriptedLock(breaker, probe, nth=3)  # after the change itself, and becoming the teller
    breaker.record_failure(permit)

    assert changes == ["open", "half-open", "closed"]


# Signals and Ctrl-C


class Scene:
    """A half-open breaker with one of two probes on its way, and one with a failure to count."""

    def __init__(self) -> None:
        with FakeClock() as self.clock:
            self.changes: list[tuple[str, str]] = []
            self.breaker = CircuitBreaker(
                failure_threshold=1,
                reset_timeout=10.0,
                half_open_calls=2,
                on_change=lambda old, new: self.changes.append((old, new)),
            )
        fail_times(self.breaker, 1)
        self.clock.advance(10.0)
        self.probe = permit_of(self.breaker)

    def run(self, operation: Callable[[Scene], object], act: Callable[[Scene], object], place: int) -> str | None:
        """Interrupt `operation` at the place of that number, and check what it leaves; return where that was."""
        where = interrupt(lambda: operation(self), press_ctrl_c if act is ctrl_c else lambda: act(self), place)
        self.check()
        if act is not ctrl_c:  # which may end the call that was about to tell
            assert [old for old, _ in self.changes[1:]] == [new for _, new in self.changes[:-1]], "told in order"
        return where

    def check(self) -> None:
        """No lock is held, the circuit is whole, and lost probes keep it from closing for two timeouts at most."""
        breaker = self.breaker
        assert not breaker._lock._is_owned()  # type: ignore[attr-defined]
        assert breaker._teller is None
        status = breaker.status()
        circuit: Circuit = breaker._circuit
        assert status.probes + circuit.passed <= 2
        self.clock.advance(20.0)
        while breaker.status().state != "closed":
            breaker.call(int)
        assert breaker._circuit.untold == ()


def ctrl_c(scene: Scene) -> None:
    """Stand for the KeyboardInterrupt of Ctrl-C, which the interruption raises itself."""


def call(scene: Scene) -> None:
    """Do all that a signal handler may do, letting a call succeed."""
    scene.breaker.status()
    permit = scene.breaker.allow()
    if permit is not None:
        scene.breaker.record_success(permit)


def failing_call(scene: Scene) -> None:
    """Let a call fail."""
    permit = scene.breaker.allow()
    if permit is not None:
        scene.breaker.record_failure(permit)


OPERATIONS: dict[str, Callable[[Scene], object]] = {
    "allow": lambda scene: scene.breaker.allow(),
    "success": lambda scene: scene.breaker.record_success(scene.probe),
    "failure": lambda scene: scene.breaker.record_failure(scene.probe),
    "release": lambda scene: scene.breaker.release(scene.probe),
    "call": lambda scene: scene.breaker.call(int),
    "failing call": lambda scene: scene.breaker.call(fail),
    "status": lambda scene: scene.breaker.status(),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("act", [ctrl_c, call, failing_call])
def test_anything_may_come_on_top_of_anything(name: str, act: Callable[[Scene], object]) -> None:
    """Whatever interrupts a breaker, wherever it does: no deadlock, no lost place for long, no change untold."""
    places = at_each_place(lambda place: Scene().run(OPERATIONS[name], act, place))

    assert places > 3


# Forks


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize("use", ["allow", "report", "status"])
def test_fork_while_another_thread_holds_the_lock(fork: Callable[[], int], use: str, clock: FakeClock) -> None:
    """The child of a fork uses a breaker whose lock another thread held, while one more was just calling its hook."""
    telling, holding, go = threading.Event(), threading.Event(), threading.Event()
    changes: list[str] = []

    def on_change(old: str, new: str) -> None:
        changes.append(new)
        if new == "half-open" and not telling.is_set():
            telling.set()
            assert go.wait(2 * CHILD_SECONDS)

    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0, on_change=on_change)
    fail_times(breaker, 1)
    clock.advance(10.0)
    probe = elsewhere(breaker.allow)
    assert telling.wait(PATIENCE)

    def hold() -> None:
        with breaker._lock:
            holding.set()
            assert go.wait(2 * CHILD_SECONDS)

    holder = elsewhere(hold)
    assert holding.wait(PATIENCE)
    late = Permit(breaker._circuit.era)  # as if the parent's probe came back in the child

    def look() -> bool:
        if use == "report":
            breaker.record_failure(late)
        if use == "status" and breaker.status().probes:
            return False
        breaker.call(int)
        return breaker.status().state == "closed" and changes == ["open", "half-open", "closed"]

    try:
        assert in_child(look, fork)
    finally:
        go.set()
        holder.result(PATIENCE)
        assert probe.result(PATIENCE) is not None


def test_probes_of_the_parent_are_the_parents(clock: FakeClock) -> None:
    """In the child of a fork the places are free, and what was under way counts for nothing."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0)
    fail_times(breaker, 1)
    clock.advance(10.0)
    probe = permit_of(breaker)

    def look() -> bool:
        breaker.record_failure(probe)
        return breaker.status().state == "half-open" and breaker.allow() is not None

    assert in_child(look)
    assert breaker.status().probes == 1
    breaker.record_success(probe)
    assert breaker.status().state == "closed"


def test_untold_changes_of_the_parent_are_the_parents(clock: FakeClock) -> None:
    """A child doesn't tell a change that waited, at the fork, for the parent's hook."""
    changes: list[str] = []
    answers: list[bool] = []

    def look() -> bool:
        breaker.call(int)
        return changes == ["open", "closed"]

    def on_change(old: str, new: str) -> None:
        changes.append(new)
        if new == "open":
            clock.advance(10.0)
            breaker.release(permit_of(breaker))  # half-open: to be told after this
            answers.append(in_child(look))

    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0, on_change=on_change)
    fail_times(breaker, 1)

    assert answers == [True]
    assert changes == ["open", "half-open"]
