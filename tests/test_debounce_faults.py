"""`Debounce` among threads, signals, Ctrl-C and forks."""

from __future__ import annotations

import functools
import os
import threading
from collections import Counter
from concurrent.futures import CancelledError, Future, wait
from typing import TYPE_CHECKING, Any

import pytest

from batcher import BatcherClosedError, Debounce, ForkedError, _debounce, _reentry
from batcher._debounce import _registry, _restart_all
from batcher._lifecycle import is_delivery_nested
from batcher.testing import FakeClock
from tests import debouncing, stage
from tests.debouncing import PATIENCE, Gate, Player
from tests.forks import FORKS, FORKS_WITHOUT_HOOKS, Ledger, in_child
from tests.interruptions import at_each_place, interrupt, press_ctrl_c
from tests.stage import elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

clock, collected = stage.clock, debouncing.collected
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


# Threads


def test_calls_of_many_threads_end_in_one_run(clock: FakeClock) -> None:
    """Threads that call at once all get the one Future, and none of their calls is lost."""
    player = Player(clock, 4)
    start = threading.Barrier(8)

    def call() -> list[Future[int]]:
        start.wait(PATIENCE)
        return [player.debounce(0) for _ in range(50)]

    found = [future for each in [elsewhere(call) for _ in range(8)] for future in each.result(PATIENCE)]
    status = player.debounce.status()

    assert len(set(map(id, found))) == 1
    assert (status.calls, status.absorbed, status.waiting) == (400, 399, 1)
    clock.wait_for_sleepers(1)
    clock.advance(4)
    assert found[0].result(PATIENCE) == 0


def test_every_call_ends_whoever_cancels_and_flushes_meanwhile() -> None:
    """With calls, flushes and cancels all at once each future ends, and each call is counted as one thing."""
    ran: list[int] = []
    debounce = Debounce(ran.append, 0.001, max_wait=0.002, leading=True)
    futures: list[Future[None]] = []

    def loop(number: int) -> None:
        for turn in range(200):
            futures.append(debounce(number))
            if turn % 7 == number:
                debounce.cancel()
            elif turn % 5 == number:
                debounce.flush()

    for each in [elsewhere(loop, number) for number in range(4)]:
        each.result(4 * PATIENCE)
    debounce.flush()

    assert not wait(futures, PATIENCE).not_done
    debounce.flush().exception(PATIENCE)  # the last run may have been none of theirs
    status = debounce.status()
    assert status.calls == 800 == status.runs + status.absorbed + status.cancelled
    assert status.succeeded == status.runs == len(ran)


class Overtaken:
    """A lock that lets a script pass before it is acquired, once."""

    def __init__(self, player: Player, script: Callable[[], object]) -> None:
        self._owner = player.debounce._bursts.owner
        self._real = self._owner.lock
        self._script = script
        self._owner.lock = self  # type: ignore[assignment]

    def __enter__(self) -> None:
        self._owner.lock = self._real
        self._script()
        self._real.acquire()

    def __exit__(self, *_: object) -> None:
        self._real.release()


def test_race_of_two_calls(clock: FakeClock) -> None:
    """1. A has planned to open the window. 2. B opens it. 3. A plans anew, and joins B's run."""
    player = Player(clock, 4)
    others: list[Future[int]] = []
    Overtaken(player, lambda: others.append(elsewhere(player.debounce, 1).result(PATIENCE)))

    assert player.call() is others[0]
    assert player.debounce.status().absorbed == 1
    player.debounce.cancel()


def test_race_of_cancel_and_flush(clock: FakeClock) -> None:
    """1. A is about to cancel. 2. B flushes. 3. A finds nothing to cancel, and the run runs."""
    player = Player(clock, 4)
    future = player.call()
    Overtaken(player, lambda: elsewhere(player.debounce.flush).result(PATIENCE))

    assert player.debounce.cancel() is False
    assert future.result(PATIENCE) == 0


# Signals and Ctrl-C


class Scene:
    """A debounce on a clock of its own, and what must be in order after an interruption."""

    def __init__(self, *, calls: int, options: dict[str, Any]) -> None:
        with FakeClock() as self.clock:
            self.player = Player(self.clock, 4, **options)
        self.told: Counter[int] = Counter()
        for _ in range(calls):
            self.watch(self.player.call())

    def watch(self, future: Future[Any]) -> None:
        """Count how often whoever looks at the future is told of its end."""
        if not any(future is known for known in self.player.futures[:-1]):
            future.add_done_callback(lambda done: self.told.update([id(done)]))

    def check(self) -> None:
        """No lock is held, every call counts as one thing, and whatever was begun comes to its end."""
        debounce = self.player.debounce
        bursts = debounce._bursts
        assert not bursts.is_nested
        assert not bursts.timer._lock._is_owned()  # type: ignore[attr-defined]
        assert _reentry.here.waits == 0
        status = debounce.status()
        assert status.calls == status.runs + status.absorbed + status.cancelled + status.waiting
        waiting = bursts.state.next
        futures: list[Future[Any]] = [*self.player.futures, *([] if waiting is None else [waiting.future])]
        if bursts.timer._post is not None:
            self.clock.wait_for_sleepers(1)
            self.clock.advance(10)
            self.clock.wait_for_sleepers(1)
        assert not wait(futures, PATIENCE).not_done
        last = bursts.state.last()
        assert not wait([] if last is None else [last], PATIENCE).not_done
        assert all(self.told[id(future)] == 1 for future in self.player.futures if id(future) in self.told)
        assert not debounce.pending


def call(scene: Scene) -> None:
    """Make one call."""
    scene.player.call()


def cancel(scene: Scene) -> None:
    """Take back what is to come."""
    scene.player.debounce.cancel()


def flush(scene: Scene) -> None:
    """Run what is to come."""
    scene.player.debounce.flush()


def look(scene: Scene) -> None:
    """Look at all there is."""
    scene.player.debounce.status()
    assert scene.player.debounce.pending in (True, False)


def do_everything(scene: Scene) -> None:
    """Do all that a signal handler or a destructor may do."""
    look(scene)
    call(scene)
    cancel(scene)
    call(scene)
    flush(scene)
    call(scene)


ACTS: dict[str, Callable[[Scene], object]] = {"call": call, "cancel": cancel, "everything": do_everything}
OPERATIONS = [(call, 0), (call, 1), (cancel, 1), (flush, 1), (look, 1)]
OPTIONS: dict[str, dict[str, Any]] = {"trailing": {}, "both": {"leading": True, "max_wait": 5}}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("operation", "calls"), OPERATIONS)
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_anything_may_come_on_top_of_anything(
    act: Callable[[Scene], object], operation: Callable[[Scene], object], calls: int, options: dict[str, Any]
) -> None:
    """Wherever a signal handler or a destructor comes in, nothing hangs, and every call of both ends."""

    def run(place: int) -> str | None:
        scene = Scene(calls=calls, options=options)
        where = interrupt(lambda: operation(scene), lambda: act(scene), place)
        scene.check()
        return where

    assert at_each_place(run) > 2


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("operation", "calls"), OPERATIONS)
def test_ctrl_c_anywhere_leaves_a_call_wholly_in_or_out(
    operation: Callable[[Scene], object], calls: int, options: dict[str, Any]
) -> None:
    """Wherever Ctrl-C hits, what was begun comes to its end, and those who wait for it are told."""

    def run(place: int) -> str | None:
        scene = Scene(calls=calls, options=options)
        where = interrupt(lambda: operation(scene), press_ctrl_c, place)
        scene.check()
        return where

    assert at_each_place(run) > 2


def test_cancelled_future_that_nobody_was_told_of_is_told_by_a_worker(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between the cancelling and the telling: those who wait learn of it all the same."""
    player = Player(clock, 4)
    future = player.call()
    told = threading.Event()
    future.add_done_callback(lambda _: told.set())
    with monkeypatch.context() as patch:
        patch.setattr(player.debounce._bursts, "tell_cancelled", lambda _: press_ctrl_c())
        with pytest.raises(KeyboardInterrupt):
            player.debounce.cancel()

    player.debounce._bursts.timer.attend(player.debounce._bursts)
    assert told.wait(PATIENCE)
    with pytest.raises(CancelledError):
        future.result(0)
    assert player.debounce.status().cancelled == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_ctrl_c_as_the_timer_is_told(clock: FakeClock, monkeypatch: pytest.MonkeyPatch, *, is_first: bool) -> None:
    """The timer is told once more: a call that was taken has its run, and one that wasn't leaves nothing behind."""
    player = Player(clock, 4)
    if not is_first:
        player.debounce._bursts.timer.ensure()
    plan = player.debounce._bursts.cancel if is_first else functools.partial(player.debounce._bursts.arrive, (0,), {})
    real = player.debounce._bursts.timer.attend
    with monkeypatch.context() as patch:
        attend: Iterator[Callable[[], None]] = iter([press_ctrl_c, lambda: real(player.debounce._bursts)])
        patch.setattr(player.debounce._bursts.timer, "attend", lambda _: next(attend)())
        if is_first:
            patch.setattr(player.debounce._bursts, "_swap", lambda *_: next(attend)())
        with pytest.raises(KeyboardInterrupt):
            player.debounce._bursts.take(plan)

    assert player.debounce.status().calls == (not is_first)
    player.move_to(4)
    player.settle()
    assert player.runs == ([] if is_first else [(4.0, 0)])


# Forks


@needs_fork
@pytest.mark.parametrize("fork", FORKS)
def test_child_starts_with_a_closed_window(fork: Callable[[], int], clock: FakeClock) -> None:
    """A child runs nothing of the parent's, though a thread held the lock at the fork; its futures say why."""
    player = Player(clock, 4)
    future = player.call()
    clock.wait_for_sleepers(1)
    held, go = threading.Event(), threading.Event()
    bursts = player.debounce._bursts

    def hold() -> None:
        with bursts.owner.lock, bursts.timer._lock:
            held.set()
            go.wait(PATIENCE)

    holder = elsewhere(hold)
    assert held.wait(PATIENCE)

    def look() -> tuple[str, bool, int, bool, list[tuple[float, int]]]:
        error = future.exception(0)
        before = player.debounce.pending
        calls = player.debounce.status().calls
        taken = player.debounce.cancel()
        player.debounce(7)
        player.debounce.flush().result(PATIENCE)
        return type(error).__name__, before, calls, taken, player.runs

    try:
        assert in_child(look, fork) == (ForkedError.__name__, False, 0, False, [(0.0, 7)])
    finally:
        go.set()
        holder.result(PATIENCE)
    clock.wait_for_sleepers(1)
    clock.advance(4)
    assert future.result(PATIENCE) == 0
    assert player.runs == [(4.0, 0)]


@FORKS_WITHOUT_HOOKS
@pytest.mark.parametrize("use", ["call", "flush", "cancel", "pending", "status", "future"])
def test_first_use_in_a_child_that_nobody_has_told(use: str, clock: FakeClock) -> None:
    """After a fork that runs no hook, whatever comes first finds out."""
    player = Player(clock, 4)
    future = player.call()

    def look() -> bool:
        if use == "call":
            return player.debounce(1) is not future and not player.runs
        if use == "flush":
            return player.debounce.flush().result(0) is None
        if use == "cancel":
            return not player.debounce.cancel()
        if use == "pending":
            return not player.debounce.pending
        if use == "status":
            return player.debounce.status().calls == 0
        return future.done()

    assert in_child(look, FORKS[1].values[0])  # type: ignore[arg-type]
    assert player.debounce.cancel()


@needs_fork
def test_function_that_forks_comes_back_in_the_child_and_ends_there() -> None:
    """The parent's next run is the parent's: the child that comes out of the function runs none, and ends."""
    ledger, gate = Ledger(), Gate()
    children: list[int] = []

    def run(item: str) -> None:
        ledger([item])
        if item == "forks":
            gate()
            children.append(os.fork())

    debounce = Debounce(run, 0, leading=True, trailing=False)
    debounce("forks")
    gate.wait_for_run()
    debounce.cancel()
    last = debounce("next")
    gate.let_go()

    last.result(PATIENCE)
    assert os.waitpid(children[0], 0) == (children[0], 0)
    assert ledger.deliveries() == {("parent", "forks"): 1, ("parent", "next"): 1}


def test_worker_of_a_forked_child_runs_nothing_more() -> None:
    """The same without a fork: once the function has made the bursts a parent's, the next run stays undone."""
    gate = Gate()

    def run(item: str) -> None:
        gate(item)
        debounce._bursts.owner.is_forked = True

    debounce = Debounce(run, 0, leading=True, trailing=False)
    first = debounce("first")
    gate.wait_for_run()
    debounce.cancel()
    second = debounce("second")
    told = threading.Event()
    first.add_done_callback(lambda _: told.set())
    gate.let_go(2)
    assert told.wait(PATIENCE)
    debounce._bursts.timer._workers.shutdown()  # joins the worker

    assert first.exception(0) is None
    assert isinstance(second.exception(PATIENCE), ForkedError)
    assert gate.runs == ["first"]


@needs_fork
def test_dropped_debounce_is_the_parents_too(clock: FakeClock) -> None:
    """A debounce that was dropped with a run to come runs it in the parent alone, and its future fails in the child."""
    ran: list[int] = []
    future = Debounce(ran.append, 4)(1)
    clock.wait_for_sleepers(1)

    assert in_child(lambda: type(future.exception(0)).__name__) == "ForkedError"
    clock.advance(4)
    assert future.result(PATIENCE) is None
    assert ran == [1]


def test_collected_debounce_is_passed_over_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was collected and is still on the list stops no other from starting anew."""
    dead = Debounce(int, 1)
    gone = next(entry for entry in _registry.values() if entry[1]() is dead)
    del dead
    living = Debounce(int, 1)
    before = living._bursts
    entry = next(entry for entry in _registry.values() if entry[1]() is living)
    with monkeypatch.context() as patch:
        patch.setattr(_debounce, "_registry", {1: gone, 2: entry})
        _restart_all()

    assert (gone[0](), gone[1]()) == (None, None)
    assert before.owner.is_forked
    assert living._bursts is not before


# The end


def test_delivery_waits_for_a_lock_that_is_held_below(clock: FakeClock) -> None:
    """Whoever delivers in a signal handler can tell whether the interrupted code holds a lock that the runs need."""
    player = Player(clock, 4)

    with player.debounce._bursts.owner.lock:
        assert is_delivery_nested()
        assert not elsewhere(is_delivery_nested).result(PATIENCE)
    assert not is_delivery_nested()


def test_call_after_the_end_is_refused(clock: FakeClock) -> None:
    """Once the last step of the exit has begun a call is refused, and leaves nothing behind."""
    player = Player(clock, 4)
    player.call()
    player.debounce._bursts.timer.is_closed = True

    with pytest.raises(BatcherClosedError, match="shutting down"):
        player.call()
    assert player.debounce.status().calls == 1
    player.debounce.flush().result(PATIENCE)
