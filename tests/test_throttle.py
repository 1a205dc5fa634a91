"""`Throttle` on a clock that only the test moves: limits, order, timeouts, hooks."""

import random
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import pytest

from batcher import Throttle, ThrottleStatus
from batcher._clock import Bell
from batcher._places import Place
from batcher.testing import FakeClock
from tests import stage
from tests.stage import PATIENCE, elsewhere

clock = stage.clock


def in_line(throttle: Throttle, clock: FakeClock, count: int, note: Callable[[int], object]) -> list[Future[bool]]:
    """Have `count` threads wait for a start, one after another; each notes its number when it has it."""
    behind = throttle.status().waiting

    def start(number: int) -> bool:
        is_started = throttle.acquire()
        note(number)
        return is_started

    futures = []
    for number in range(count):
        futures.append(elsewhere(start, number))
        clock.wait_for_sleepers(behind + number + 1)
    return futures


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "at least one of max_concurrent, max_per_second and max_burst"),
        ({"max_concurrent": 0}, "max_concurrent must be an int of at least 1, got 0"),
        ({"max_per_second": 0}, "max_per_second must be a finite positive number or None, got 0"),
        ({"max_per_second": float("inf")}, "max_per_second must be a finite positive number or None, got inf"),
        ({"max_per_second": float("nan")}, "got nan"),
        ({"max_burst": 0, "cooldown": 1}, "max_burst must be an int of at least 1, got 0"),
        ({"max_burst": 3}, "max_burst and cooldown need each other, got 3 and 0.0"),
        ({"max_concurrent": 3, "cooldown": 2}, "max_burst and cooldown need each other, got None and 2"),
        ({"max_burst": 3, "cooldown": -1}, "cooldown must be a non-negative number of seconds, got -1"),
    ],
)
def test_bad_value_is_refused(options: dict[str, Any], message: str) -> None:
    """An option out of range, or a limit that isn't one, is refused with what was received."""
    with pytest.raises(ValueError, match=message):
        Throttle(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrent": 1.5},
        {"max_per_second": "10"},
        {"max_burst": "3", "cooldown": 1},
        {"max_burst": 3, "cooldown": "1"},
        {"max_concurrent": 1, "on_throttle": 3},
    ],
)
def test_bad_type_is_refused(options: dict[str, Any]) -> None:
    """An option of the wrong type is refused."""
    with pytest.raises(TypeError):
        Throttle(**options)


def test_bad_timeout_is_refused() -> None:
    """A timeout must be a time."""
    with pytest.raises(ValueError, match="timeout must be a non-negative number of seconds or None, got -1"):
        Throttle(max_concurrent=1).acquire(-1)


def test_repr_shows_the_limits() -> None:
    """The repr shows what was set, and nothing else."""
    assert repr(Throttle(max_per_second=5, max_burst=3, cooldown=2)) == (
        "Throttle(max_per_second=5.0, max_burst=3, cooldown=2.0)"
    )


# Rates


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thousands_of_starts_are_exact_in_any_second(clock: FakeClock, seed: int) -> None:
    """Over thousands of asks a start is made exactly when the second before it holds fewer than the limit."""
    limit = 50
    throttle = Throttle(max_per_second=limit)
    chance = random.Random(seed)
    starts: list[float] = []
    for _ in range(20_000):
        now = clock.monotonic()
        may = len(starts) < limit or now >= starts[-limit] + 1.0
        assert throttle.acquire(0) is may
        if may:
            starts.append(now)
        clock.advance(chance.choice([0.0, 0.0, 0.001, 0.01, 0.05 * chance.random()]))

    assert len(starts) > 3000
    assert throttle.status().per_second == sum(clock.monotonic() < moment + 1.0 for moment in starts)


def test_crowd_starts_in_full_seconds(clock: FakeClock) -> None:
    """A crowd gets the whole limit at once, and the whole limit again a second later: no even pacing, no gap."""
    throttle = Throttle(max_per_second=5)
    for _ in range(5):
        assert throttle.acquire(0)
    futures = in_line(throttle, clock, 12, lambda number: None)

    clock.advance(0.999)
    assert not wait(futures, 0).done
    for due, seconds in ((5, 0.001), (10, 1.0), (12, 1.0)):
        clock.advance(seconds)
        assert wait(futures[:due], PATIENCE).not_done == set()
        clock.wait_for_sleepers(12 - due)
        assert throttle.status().waiting == 12 - due
    assert throttle.status().active == 17


def test_waiters_start_in_order(clock: FakeClock) -> None:
    """Those who wait start in the order in which they came, and a late caller doesn't overtake them."""
    throttle = Throttle(max_per_second=1)
    noted: list[int] = []
    assert throttle.acquire()
    futures = in_line(throttle, clock, 6, noted.append)

    for number, future in enumerate(futures):
        clock.advance(1.0)
        assert future.result(PATIENCE)
        assert noted == list(range(number + 1))
        assert not throttle.acquire(0)


def test_real_clock_is_exact_too() -> None:
    """On the machine's clock, with threads that compete, no second holds more than the limit, and none is wasted."""
    limit = 100
    # The burst is never reached: it only makes the log long enough to be read at the end.
    throttle = Throttle(max_per_second=limit, max_burst=1000, cooldown=1)

    def loop() -> None:
        for _ in range(63):
            throttle.execute(lambda: None)

    wait([elsewhere(loop) for _ in range(4)], 4 * PATIENCE)

    starts = list(throttle._books.pace.starts)
    assert len(starts) == 252
    late = [later - earlier - 1.0 for earlier, later in zip(starts, starts[limit:], strict=False)]
    assert min(late) >= -1e-9
    assert starts[-1] - starts[0] < 4.0


def test_slow_rate(clock: FakeClock) -> None:
    """Below one a second, one call starts in any 1/value seconds."""
    throttle = Throttle(max_per_second=0.25)
    assert throttle.acquire(0)

    clock.advance(3.999)
    assert not throttle.acquire(0)
    clock.advance(0.001)
    assert throttle.acquire(0)
    assert throttle.status().per_second == 1


def test_cooldown_after_a_burst(clock: FakeClock) -> None:
    """After a burst nothing starts until the cooldown is over, and then a whole burst is allowed again."""
    throttle = Throttle(max_burst=3, cooldown=10)
    for _ in range(2):
        assert throttle.acquire(0)
    assert not throttle.status().cooling
    assert throttle.acquire(0)
    assert throttle.status().cooling

    noted: list[int] = []
    futures = in_line(throttle, clock, 4, noted.append)
    clock.advance(9.99)
    assert noted == []
    clock.advance(0.01)
    wait(futures[:3], PATIENCE)
    clock.wait_for_sleepers(1)
    assert throttle.status() == ThrottleStatus(active=6, waiting=1, per_second=3, cooling=True)
    clock.advance(10.0)
    assert futures[3].result(PATIENCE)
    assert noted == [0, 1, 2, 3]


# Places


def test_no_more_calls_at_once_than_allowed() -> None:
    """However many threads call, no more calls run at once than allowed, and all of them run."""
    throttle = Throttle(max_concurrent=3)
    lock = threading.Lock()
    running, most = 0, 0
    full = threading.Barrier(3)

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        full.wait(PATIENCE)  # three at once there are, too
        with lock:
            running -= 1

    futures = [elsewhere(throttle.execute, call) for _ in range(12)]

    for future in futures:
        future.result(PATIENCE)
    assert most == 3
    assert throttle.status() == ThrottleStatus(active=0, waiting=0, per_second=12, cooling=False)


def test_release_wakes_the_first_in_the_line(clock: FakeClock) -> None:
    """A place that is given back goes to the one that has waited longest, without any time passing."""
    throttle = Throttle(max_concurrent=1)
    noted: list[int] = []
    assert throttle.acquire()
    futures = in_line(throttle, clock, 3, noted.append)

    for number, future in enumerate(futures):
        throttle.release()
        assert future.result(PATIENCE)
        clock.wait_for_sleepers(2 - number)
        assert noted == list(range(number + 1))


def test_failing_call_gives_its_place_back() -> None:
    """A call that raises ends all the same, whichever way it was made; its error comes through."""
    throttle = Throttle(max_concurrent=1)

    for error in (ValueError, KeyboardInterrupt, SystemExit):

        def fail(kind: type[BaseException] = error) -> None:
            raise kind("as asked")

        with pytest.raises(error, match="as asked"):
            throttle.execute(fail)
        with pytest.raises(error, match="as asked"), throttle:
            fail()

    assert throttle.status().active == 0


def test_execute_passes_arguments_and_result() -> None:
    """`execute` calls with the arguments that it was given, whatever their names, and returns the result."""

    def call(*args: object, **kwargs: object) -> object:
        return args, kwargs

    assert Throttle(max_concurrent=1).execute(call, 1, fn=2, self=3) == ((1,), {"fn": 2, "self": 3})


def test_block_is_one_call() -> None:
    """A `with` block is a call: active inside, ended after it; it yields the throttle."""
    throttle = Throttle(max_concurrent=1)

    with throttle as entered:
        assert entered is throttle
        assert not throttle.acquire(0)
    assert throttle.acquire(0)


def test_release_without_acquire_is_an_error() -> None:
    """What was never acquired can't be released, and doing so makes no room."""
    throttle = Throttle(max_concurrent=1)

    with pytest.raises(RuntimeError, match=r"release\(\) without acquire\(\): nothing is active"):
        throttle.release()
    assert throttle.acquire(0)
    assert not throttle.acquire(0)


def test_a_place_and_a_moment_are_both_needed(clock: FakeClock) -> None:
    """With both limits, a call starts when there is a place and the second allows it, whichever comes later."""
    throttle = Throttle(max_concurrent=1, max_per_second=1)
    noted: list[int] = []
    throttle.acquire()
    futures = in_line(throttle, clock, 2, noted.append)

    clock.advance(1.0)  # the moment comes first
    clock.wait_for_sleepers(2)
    throttle.release()
    futures[0].result(PATIENCE)

    clock.wait_for_sleepers(1)
    throttle.release()  # the place comes first
    clock.wait_for_sleepers(1)
    assert noted == [0]
    clock.advance(1.0)
    futures[1].result(PATIENCE)


# Waits that end without a start


def test_timeout_gives_the_turn_to_the_next(clock: FakeClock) -> None:
    """Whoever's timeout ends leaves the line; those behind move up and start when he would have."""
    throttle = Throttle(max_per_second=0.1)
    noted: list[int] = []
    throttle.acquire()
    impatient = elsewhere(throttle.acquire, 5.0)
    clock.wait_for_sleepers(1)
    futures = in_line(throttle, clock, 1, noted.append)

    clock.advance(5.0)
    assert impatient.result(PATIENCE) is False
    clock.wait_for_sleepers(1)
    assert throttle.status().waiting == 1
    clock.advance(5.0)
    assert futures[0].result(PATIENCE)


def test_timeout_at_the_very_moment_is_a_start(clock: FakeClock) -> None:
    """A timeout that ends as the window opens finds it open."""
    throttle = Throttle(max_per_second=1)
    throttle.acquire()
    future = elsewhere(throttle.acquire, 1.0)
    clock.wait_for_sleepers(1)

    clock.advance(1.0)
    assert future.result(PATIENCE) is True


def test_timeout_in_the_middle_of_the_line(clock: FakeClock) -> None:
    """A caller that leaves from the middle takes no turn from anybody."""
    throttle = Throttle(max_concurrent=1)
    noted: list[int] = []
    throttle.acquire()
    futures = in_line(throttle, clock, 1, noted.append)
    impatient = elsewhere(throttle.acquire, 5.0)
    clock.wait_for_sleepers(2)
    futures += in_line(throttle, clock, 1, noted.append)

    clock.advance(5.0)
    assert impatient.result(PATIENCE) is False
    clock.wait_for_sleepers(2)
    throttle.release()
    assert futures[0].result(PATIENCE)
    clock.wait_for_sleepers(1)
    throttle.release()
    assert futures[1].result(PATIENCE)


# The hook


def test_hook_hears_of_each_wait_once(clock: FakeClock) -> None:
    """`on_throttle` gets the number of those who wait, once for each; not for starts, nor for who wouldn't wait."""
    heard: list[int] = []
    throttle = Throttle(max_per_second=1, on_throttle=heard.append)
    assert throttle.acquire()
    assert not throttle.acquire(0)
    assert heard == []

    futures = in_line(throttle, clock, 3, lambda number: None)
    clock.advance(1.0)
    futures[0].result(PATIENCE)
    clock.wait_for_sleepers(2)
    clock.advance(1.0)
    futures[1].result(PATIENCE)
    clock.advance(1.0)
    futures[2].result(PATIENCE)
    assert heard == [1, 2, 3]


def test_hook_runs_without_the_lock(clock: FakeClock) -> None:
    """The hook may use the throttle, and so may other threads while it runs."""
    seen: list[ThrottleStatus] = []

    def look(waiting: int) -> None:
        seen.append(elsewhere(throttle.status).result(PATIENCE))
        throttle.release()

    throttle = Throttle(max_concurrent=1, on_throttle=look)
    throttle.acquire()

    assert throttle.acquire()
    assert [(status.active, status.waiting) for status in seen] == [(1, 1)]


def test_slow_hook_delays_only_its_own_call(clock: FakeClock) -> None:
    """While a caller's hook runs, others pass; after it, the caller is where it was: before those who came later."""
    began, go = threading.Event(), threading.Event()

    def hang(waiting: int) -> None:
        if waiting == 1:
            began.set()
            assert go.wait(PATIENCE)

    throttle = Throttle(max_concurrent=1, on_throttle=hang)
    noted: list[str] = []

    def start(name: str) -> None:
        throttle.acquire()
        noted.append(name)

    throttle.acquire()
    slow = elsewhere(start, "slow")
    assert began.wait(PATIENCE)
    quick = elsewhere(start, "quick")
    clock.wait_for_sleepers(1)
    throttle.release()
    quick.result(PATIENCE)
    assert noted == ["quick"]

    last = elsewhere(start, "last")
    clock.wait_for_sleepers(1)
    go.set()
    clock.wait_for_sleepers(2)
    throttle.release()
    slow.result(PATIENCE)
    clock.wait_for_sleepers(1)
    throttle.release()
    last.result(PATIENCE)
    assert noted == ["quick", "slow", "last"]


def test_hook_of_the_first_hands_its_turn_on(clock: FakeClock) -> None:
    """When the first in the line goes into its hook, the next one takes over the watch for the moment."""
    began, go = threading.Event(), threading.Event()

    def hang(waiting: int) -> None:
        began.set()
        if waiting == 1:
            assert go.wait(PATIENCE)

    throttle = Throttle(max_per_second=1, on_throttle=hang)
    throttle.acquire()
    first = elsewhere(throttle.acquire)
    assert began.wait(PATIENCE)
    second = elsewhere(throttle.acquire)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    assert second.result(PATIENCE)
    go.set()
    clock.wait_for_sleepers(1)
    clock.advance(1.0)
    assert first.result(PATIENCE)


def test_whoever_sleeps_behind_is_woken_as_the_first_goes_into_its_hook(clock: FakeClock) -> None:
    """Behind the first one nobody knows a moment of its own; as that one goes into its hook, the next must look."""
    throttle = Throttle(max_per_second=1, on_throttle=lambda waiting: None)
    books = throttle._books
    throttle.acquire()
    first = Place(books)  # of a thread that stands right before its hook
    first.owner = None
    books.join(first, Bell())
    second = elsewhere(throttle.acquire)
    clock.wait_for_sleepers(1)

    def let_pass(waiting: int) -> None:
        clock.wait_for_sleepers(1)
        clock.advance(1.0)
        assert second.result(PATIENCE)

    throttle._on_throttle = let_pass
    assert throttle._tell(first)
    books.end(first)
    assert second.result(0)


def test_nobody_polls(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    """The first in the line sleeps once until its moment, those behind until they are rung, however long it takes."""
    sleeps: list[float | None] = []
    real = clock.wait

    def wait_and_count(bell: Bell, deadline: float | None) -> bool:
        sleeps.append(deadline)
        return real(bell, deadline)

    monkeypatch.setattr(clock, "wait", wait_and_count)
    throttle = Throttle(max_per_second=0.1)
    throttle.acquire()
    futures = in_line(throttle, clock, 3, lambda number: None)
    throttle.release()  # of no use to those who wait for their moment
    for _ in range(9):
        clock.advance(1.0)
    assert sleeps == [10.0, None, None]

    clock.advance(1.0)
    futures[0].result(PATIENCE)
    clock.wait_for_sleepers(2)
    assert sleeps == [10.0, None, None, 20.0]
    for future in futures[1:]:
        clock.advance(10.0)
        future.result(PATIENCE)


def test_error_in_the_hook_is_logged(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """A hook that raises is logged by its type, and the call waits and starts as if it hadn't."""

    def fail(waiting: int) -> None:
        raise ValueError("a secret")

    throttle = Throttle(max_per_second=1, on_throttle=fail)
    throttle.acquire()
    future = elsewhere(throttle.acquire)
    clock.wait_for_sleepers(1)
    clock.advance(1.0)

    assert future.result(PATIENCE)
    assert [record.message for record in caplog.records] == [
        "batcher 'throttle': on_throttle raised (1 items): 'ValueError'"
    ]


def test_interrupted_hook_gives_its_turn_back(clock: FakeClock) -> None:
    """Ctrl-C in the hook ends the call, and leaves nobody in the line."""

    def interrupt(waiting: int) -> None:
        raise KeyboardInterrupt

    throttle = Throttle(max_concurrent=1, on_throttle=interrupt)
    throttle.acquire()

    with pytest.raises(KeyboardInterrupt):
        throttle.acquire()
    with pytest.raises(KeyboardInterrupt), throttle:
        pytest.fail("it never started")
    assert throttle.status().waiting == 0
    assert throttle.status().active == 1
    throttle.release()
    assert throttle.acquire(0)


def test_throttle_is_collected() -> None:
    """A throttle that nobody uses any more is not kept, though forks have to reach all that are."""
    throttle = Throttle(max_concurrent=1)
    ref = weakref.ref(throttle)
    del throttle

    assert ref() is None
