"""A throttle under signals, destructors, Ctrl-C and forks."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from batcher import ReentrantCallError, Throttle, ThrottleStatus, _reentry
from batcher._clock import Bell, SystemClock, install_clock, uninstall_clock
from batcher._pace import Pace, Start
from batcher._places import Books, Place
from tests import stage
from tests.forks import FORKS, in_child
from tests.interruptions import at_each_place, interrupt, press_ctrl_c
from tests.stage import PATIENCE, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher.testing import FakeClock

clock = stage.clock
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

LIMIT = 3


@dataclass
class Scene:
    """A throttle with some of its three places taken, and what must be in order after an interruption."""

    options: dict[str, Any] = field(default_factory=dict)
    running: int = 2
    has_follower: bool = False
    most: int = 0

    def __post_init__(self) -> None:
        self.throttle = Throttle(max_concurrent=LIMIT, on_throttle=self.hear, **self.options)
        for _ in range(self.running):
            assert self.throttle.acquire(0)
        self.behind = Place(self.throttle._books)
        self.bell = self.behind.bell = Bell()
        self.behind.owner = None  # of no thread: it only shows whether it is rung

    def call(self) -> None:
        """Be a call."""
        self.running += 1
        self.most = max(self.most, self.running)
        self.running -= 1

    def hear(self, waiting: int) -> None:
        """Have a place given back while a caller waits, and another caller come in behind it if there is one."""
        # By hand: what the library does here would be interrupted too.
        if self.has_follower:
            self.throttle._books.line.append(self.behind)
        self.throttle._books.active -= 1
        self.running -= 1

    def check(self) -> None:
        """The thread holds no lock; nothing is lost or taken twice; whoever waits was woken if there is room."""
        books = self.throttle._books
        assert not books.is_nested
        assert _reentry.here.waits == 0
        assert self.most <= LIMIT
        assert self.throttle.status().active == self.running
        for place in books.line:
            assert place is self.behind
            assert self.bell.is_rung, "the next one was forgotten"


def execute(scene: Scene) -> None:
    """Make a call for which there is a place."""
    scene.throttle.execute(scene.call)


def wait_and_execute(scene: Scene) -> None:
    """Make a call that has to wait for a place."""
    scene.throttle.execute(scene.call)


def enter(scene: Scene) -> None:
    """Enter a block, and leave it unless that was interrupted."""
    scene.throttle.__enter__()
    scene.running += 1


def fail_to_acquire(scene: Scene) -> None:
    """Wait in vain."""
    scene.throttle._on_throttle = None
    assert not scene.throttle.acquire(1e-6)


def look(scene: Scene) -> None:
    """Ask for the status."""
    scene.throttle.status()


def release(scene: Scene) -> None:
    """Give a place back."""
    scene.throttle.release()
    scene.running -= 1


# With the places that are taken before.
OPERATIONS = [(execute, 2), (wait_and_execute, LIMIT), (enter, 2), (fail_to_acquire, LIMIT), (look, 2)]
RATE = {"max_per_second": 1e6, "max_burst": 10**6, "cooldown": 1.0}


@pytest.mark.parametrize("options", [{}, RATE], ids=["places", "rate"])
@pytest.mark.parametrize(("operation", "running"), OPERATIONS)
def test_ctrl_c_anywhere_leaves_no_gap(
    operation: Callable[[Scene], None], running: int, options: dict[str, Any]
) -> None:
    """Wherever Ctrl-C hits, the call has given back its turn and its place, and the next one is woken."""

    def run(place: int) -> str | None:
        scene = Scene(options, running, has_follower=True)
        where = interrupt(lambda: operation(scene), press_ctrl_c, place)
        scene.check()
        return where

    assert at_each_place(run) > 5


def test_ctrl_c_in_a_release_that_has_begun_completes_it() -> None:
    """A release that is interrupted has released nothing before a certain place, and exactly once after it."""
    left: list[int] = []

    def run(place: int) -> str | None:
        throttle = Throttle(max_concurrent=LIMIT)
        throttle.acquire()
        throttle.acquire()
        where = interrupt(throttle.release, press_ctrl_c, place)
        left.append(throttle.status().active)
        return where

    places = at_each_place(run) + 1
    door = left.count(2)
    assert left == [2] * door + [1] * (places - door)
    assert door < 7 < places


def use(scene: Scene) -> None:
    """Do all that a signal handler or a destructor may do."""
    throttle = scene.throttle
    throttle.status()
    if throttle.acquire(0):
        scene.running += 1
        scene.most = max(scene.most, scene.running)
        throttle.release()
        scene.running -= 1
    if throttle._books.is_nested or not throttle._books.is_full:  # else it would wait, and rightly so
        try:
            throttle.execute(scene.call)
        except ReentrantCallError:
            assert throttle._books.is_nested
            assert throttle._books.is_full


@pytest.mark.parametrize("options", [{}, RATE], ids=["places", "rate"])
@pytest.mark.parametrize(("operation", "running"), [*OPERATIONS, (release, 2)])
def test_calls_on_top_of_anything_start_or_are_refused(
    operation: Callable[[Scene], None], running: int, options: dict[str, Any]
) -> None:
    """Wherever a signal handler or a destructor comes in, its calls neither hang nor exceed the limit."""

    def run(place: int) -> str | None:
        scene = Scene(options, running)
        where = interrupt(lambda: operation(scene), lambda: use(scene), place)
        scene.check()
        return where

    assert at_each_place(run) > 5


def test_rate_holds_under_interruptions(clock: FakeClock) -> None:
    """A start that comes in on top of another one is counted by it: no second holds more than the limit."""

    def run(place: int) -> str | None:
        throttle = Throttle(max_per_second=2, max_burst=2, cooldown=5.0)
        throttle.acquire()
        started = [True]
        where = interrupt(
            lambda: started.append(throttle.acquire(0)), lambda: started.append(throttle.acquire(0)), place
        )
        assert sum(started) == 2, where
        assert throttle.status() == ThrottleStatus(active=2, waiting=0, per_second=2, cooling=True)
        return where

    assert at_each_place(run) > 5


class ScriptedClock(SystemClock):
    """A clock on which the first waits are interrupted by a script each, as by a signal handler."""

    def __init__(self, *scripts: Callable[[], object]) -> None:
        self._scripts = list(scripts)
        self.was_rung: list[bool] = []

    def wait(self, bell: Bell, deadline: float | None) -> bool:
        """Run the next script, then wait; a ring that never comes is noted, not waited for."""
        if self._scripts:
            self._scripts.pop(0)()
        self.was_rung.append(bell.wait(PATIENCE if deadline is None else deadline - self.monotonic()))
        return self.was_rung[-1]

    def __enter__(self) -> None:
        install_clock(self)

    def __exit__(self, *_: object) -> None:
        uninstall_clock(self)


def test_call_on_top_of_a_wait_goes_before_it() -> None:
    """A call that interrupts its own thread's wait stands before it, and is the one to be woken."""
    order: list[str] = []

    def handler() -> None:
        throttle.execute(lambda: order.append("handler"))

    def give_back() -> None:
        throttle.release()

    scripted = ScriptedClock(handler, give_back)
    with scripted:
        throttle = Throttle(max_concurrent=1)
    throttle.acquire()

    throttle.execute(lambda: order.append("interrupted"))
    assert order == ["handler", "interrupted"]
    assert scripted.was_rung == [True, True]
    assert throttle.status().active == throttle.status().waiting == 0


def test_call_on_top_of_a_wait_elsewhere_goes_to_the_end(clock: FakeClock) -> None:
    """A call on top of a wait that isn't this throttle's stands in the line as any other."""
    throttle = Throttle(max_per_second=1)
    throttle.acquire()
    first = elsewhere(throttle.acquire)
    clock.wait_for_sleepers(1)

    def acquire_on_top() -> bool:
        _reentry.here.waits += 1
        return throttle.acquire()

    second = elsewhere(acquire_on_top)
    clock.wait_for_sleepers(2)
    clock.advance(1.0)
    assert first.result(PATIENCE)
    clock.wait_for_sleepers(1)
    assert not second.done()
    clock.advance(1.0)
    assert second.result(PATIENCE)


class ScriptedPace(Pace):
    """A pace on which the first plan is interrupted by a script, as by a signal handler."""

    def __init__(self, throttle: Throttle, script: Callable[[], object]) -> None:
        super().__init__(throttle._max_per_second, throttle._max_burst, throttle._cooldown)
        self.scripts = [script]

    def plan(self, now: float) -> Start:
        """Plan, and have the script run after it, once."""
        planned = super().plan(now)
        if self.scripts:
            self.scripts.pop()()
        return planned


def scripted_pace(throttle: Throttle, script: Callable[[], object]) -> None:
    """Have a script run in the midst of the next start."""
    throttle._books.pace = ScriptedPace(throttle, script)


def test_start_in_the_midst_of_a_start_counts_first() -> None:
    """A start on top of one that was planned makes the plan void; there is no place left, and no start."""
    for options in ({"max_concurrent": 1}, {"max_per_second": 1}, {"max_burst": 1, "cooldown": 9}):
        throttle = Throttle(**options)  # type: ignore[arg-type]
        started: list[bool] = []
        scripted_pace(throttle, lambda throttle=throttle, started=started: started.append(throttle.acquire(0)))  # type: ignore[misc]

        assert not throttle.acquire(0)
        assert started == [True]
        assert throttle.status().active == 1


def test_start_in_the_midst_of_a_start_is_repeated_where_both_may() -> None:
    """A start on top of one that was planned makes the plan void; where both may start, both do."""
    throttle = Throttle(max_per_second=2)
    started: list[bool] = []
    scripted_pace(throttle, lambda: started.append(throttle.acquire(0)))

    assert throttle.acquire(0)
    assert started == [True]
    assert throttle.status() == ThrottleStatus(active=2, waiting=0, per_second=2, cooling=False)


def test_call_that_would_have_to_wait_in_the_midst_of_a_start_is_refused() -> None:
    """On top of a thread that holds the lock nobody can wait: the caller is told, and nothing is left of it."""
    throttle = Throttle(max_concurrent=1)

    def wait_on_top() -> None:
        throttle._books.active += 1  # somebody else's
        with pytest.raises(ReentrantCallError, match="on top of an interrupted call of the same throttle"):
            throttle.acquire()
        throttle._books.active -= 1

    scripted_pace(throttle, wait_on_top)
    assert throttle.acquire(0)
    assert throttle.status() == ThrottleStatus(active=1, waiting=0, per_second=1, cooling=False)


def interrupt_once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, before: bool) -> None:
    """Have Ctrl-C come right before, or right after, the next call of a method."""
    real = getattr(owner, name)

    def interrupted(*arguments: object) -> object:
        monkeypatch.undo()
        if not before:
            real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize("before", [True, False])
def test_ctrl_c_at_the_end_of_a_call(monkeypatch: pytest.MonkeyPatch, before: bool) -> None:  # noqa: FBT001
    """Giving back that is interrupted is done once more, and is done once."""
    throttle = Throttle(max_concurrent=2)
    throttle.acquire()
    interrupt_once(monkeypatch, Throttle, "_end", before=before)
    with pytest.raises(KeyboardInterrupt):
        throttle.execute(lambda: None)
    assert throttle.status().active == 1

    throttle.acquire()
    interrupt_once(monkeypatch, Books, "release", before=before)
    with pytest.raises(KeyboardInterrupt):
        throttle.release()
    assert throttle.status().active == 1


def test_ctrl_c_between_joining_and_standing_in_the_line() -> None:
    """A caller that has its bell and isn't in the line yet leaves as one that is: the next one is rung."""
    throttle = Throttle(max_concurrent=1)
    books = throttle._books
    sleeping, joining = Place(books), Place(books)
    bell = Bell()
    sleeping.owner = None
    books.join(sleeping, bell)
    joining.bell = Bell()

    books.end(joining)
    assert bell.is_rung
    assert list(books.line) == [sleeping]


# Forks


@needs_fork
@pytest.mark.parametrize("fork", FORKS)
def test_child_begins_anew(fork: Callable[[], int], clock: FakeClock) -> None:
    """A child has nothing active, nobody waiting and an empty second, though a thread held the lock at the fork."""
    throttle = Throttle(max_per_second=2, max_burst=2, cooldown=60)
    throttle.acquire()
    throttle.acquire()
    waiting = elsewhere(throttle.acquire)
    clock.wait_for_sleepers(1)
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with throttle._books.lock:
            held.set()
            go.wait(PATIENCE)

    holder = elsewhere(hold)
    assert held.wait(PATIENCE)

    def look() -> tuple[ThrottleStatus, bool, bool, bool]:
        before = throttle.status()
        return before, throttle.acquire(0), throttle.acquire(0), throttle.acquire(0)

    found = in_child(look, fork)
    go.set()
    holder.result(PATIENCE)
    assert found == (ThrottleStatus(active=0, waiting=0, per_second=0, cooling=False), True, True, False)
    assert throttle.status() == ThrottleStatus(active=2, waiting=1, per_second=2, cooling=True)
    clock.advance(60.0)
    assert waiting.result(PATIENCE)


@needs_fork
@pytest.mark.parametrize("fork", FORKS)
def test_child_may_leave_what_the_parent_entered(fork: Callable[[], int]) -> None:
    """A block or a call in which the process forks ends in both processes; more releases are an error in both."""
    throttle = Throttle(max_concurrent=1)

    def leave() -> bool:
        before = throttle.status().active
        with throttle:
            assert not throttle.acquire(0)
        throttle.release()
        with pytest.raises(RuntimeError):
            throttle.release()
        return before == throttle.status().active == 0 and throttle.acquire(0)

    with throttle:
        assert in_child(leave, fork)
    assert throttle.execute(lambda: in_child(lambda: throttle.status().active, fork)) == 0
    assert throttle.status().active == 0


@needs_fork
def test_call_that_forked_inside_ends_in_the_child() -> None:
    """`execute` in which the process forks gives nothing back in the child, where nothing was taken."""
    throttle = Throttle(max_concurrent=1)
    reading, writing = os.pipe()

    def fork() -> int:
        return os.fork()

    child = throttle.execute(fork)
    if not child:  # pragma: no cover - the child's side ends in os._exit
        os.write(writing, bytes([throttle.status().active, throttle.acquire(0), throttle.acquire(0)]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 3) == bytes([0, 1, 0])
    os.close(reading)
    os.close(writing)


@needs_fork
def test_signal_handler_that_forks_on_top_of_a_wait() -> None:
    """A wait goes on in a child that was forked on top of it: there the line is empty, and it starts at once."""
    reading, writing = os.pipe()
    parent = os.getpid()
    children: list[int] = []

    def fork() -> None:
        children.append(os.fork())
        if os.getpid() == parent:
            throttle.release()

    with ScriptedClock(fork):
        throttle = Throttle(max_concurrent=1)
    throttle.acquire()

    is_started = throttle.acquire(PATIENCE)
    if os.getpid() != parent:  # pragma: no cover - the child's side ends in os._exit
        status = throttle.status()
        os.write(writing, bytes([is_started, status.active, status.waiting]))
        os._exit(0)
    os.waitpid(children[0], 0)
    assert is_started
    assert os.read(reading, 3) == bytes([1, 1, 0])
    os.close(reading)
    os.close(writing)
