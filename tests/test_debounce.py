"""`Debounce`: when it runs, with what, and how the futures of its calls end."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from concurrent.futures import CancelledError, wait
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher import Debounce, DebounceStatus, ReentrantCallError
from batcher.testing import FakeClock
from tests import debouncing, stage
from tests.debouncing import PATIENCE, Gate, Player
from tests.lodash import CANCELLED, Lodash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

clock, collected = stage.clock, debouncing.collected

Script = list[tuple[float, str]]


def calls(*moments: float) -> Script:
    """Write a script of calls alone."""
    return [(moment, "call") for moment in moments]


LEADING = {"leading": True, "trailing": False}
BOTH = {"leading": True}
NEITHER = {"trailing": False}

# With a wait of 4 seconds: the options, what is done when, and the runs: when, and with which call's arguments. What is
# due at the moment of a call comes before it.
CASES: dict[str, tuple[dict[str, Any], Script, list[tuple[float, int]]]] = {
    "one-call": ({}, calls(0), [(4, 0)]),
    "arguments-of-the-last": ({}, calls(0, 1, 3), [(7, 2)]),
    "each-call-puts-it-off": ({}, calls(0, 3, 6, 9, 12), [(16, 4)]),
    "call-as-the-window-closes": ({}, calls(0, 4), [(4, 0), (8, 1)]),
    "two-bursts": ({}, calls(0, 1, 9), [(5, 1), (13, 2)]),
    "leading-one-call": (LEADING, calls(0), [(0, 0)]),
    "leading-drops-the-rest": (LEADING, calls(0, 1, 3), [(0, 0)]),
    "leading-again-after-a-rest": (LEADING, calls(0, 3, 6, 9, 13), [(0, 0), (13, 4)]),
    "both-one-call": (BOTH, calls(0), [(0, 0)]),
    "both-second-call": (BOTH, calls(0, 1), [(0, 0), (5, 1)]),
    "both-many-calls": (BOTH, calls(0, 1, 2, 7), [(0, 0), (6, 2), (7, 3)]),
    "neither": (NEITHER, calls(0, 1, 9), []),
    "max-wait": ({"max_wait": 6}, calls(0, 2, 4, 6, 8, 10, 12, 14), [(6, 2), (12, 5), (18, 7)]),
    "max-wait-raised-to-wait": ({"max_wait": 1}, calls(0, 2, 4, 6, 8), [(4, 1), (8, 3), (12, 4)]),
    "max-wait-never-reached": ({"max_wait": 100}, calls(0, 2, 4, 6, 8), [(12, 4)]),
    "max-wait-and-leading": ({"max_wait": 6} | BOTH, calls(0, 2, 4, 6, 8, 10), [(0, 0), (6, 2), (12, 5)]),
    "max-wait-leading-only": ({"max_wait": 6} | LEADING, calls(0, 2, 4, 6, 8, 10), [(0, 0), (6, 3)]),
    "cancel": ({}, [(0, "call"), (1, "cancel")], []),
    "cancel-begins-anew": ({}, [(0, "call"), (1, "cancel"), (2, "call")], [(6, 1)]),
    "cancel-begins-anew-leading": (BOTH, [(0, "call"), (1, "cancel"), (2, "call")], [(0, 0), (2, 1)]),
    "cancel-after-the-run": ({}, [(0, "call"), (5, "cancel")], [(4, 0)]),
    "cancel-nothing": ({}, [(0, "cancel")], []),
    "flush": ({}, [(0, "call"), (1, "flush")], [(1, 0)]),
    "flush-twice": ({}, [(0, "call"), (1, "flush"), (2, "flush")], [(1, 0)]),
    "flush-nothing": ({}, [(0, "flush")], []),
    "flush-after-the-run": ({}, [(0, "call"), (9, "flush")], [(4, 0)]),
    "flush-and-go-on": ({}, [(0, "call"), (1, "flush"), (2, "call")], [(1, 0), (6, 1)]),
    "flush-of-a-leading-call": (BOTH, [(0, "call"), (1, "flush")], [(0, 0)]),
    "flush-of-a-second-call": (BOTH, [(0, "call"), (1, "call"), (2, "flush")], [(0, 0), (2, 1)]),
    "flush-is-no-rest": (BOTH, [(0, "call"), (1, "flush"), (2, "call")], [(0, 0), (6, 1)]),
    "flush-counts-for-max-wait": ({"max_wait": 6}, [(0, "call"), (2, "flush"), *calls(3, 6, 7)], [(2, 0), (8, 3)]),
}


@pytest.mark.parametrize(("options", "script", "runs"), CASES.values(), ids=CASES)
def test_runs_as_lodash_does(
    clock: FakeClock, options: dict[str, Any], script: Script, runs: list[tuple[float, int]]
) -> None:
    """The function runs when, and with what, lodash's would; the model of it agrees with the table."""
    player, model = Player(clock, 4, **options), Lodash(4, **options)
    for moment, operation in script:
        player.move_to(moment)
        player.play(operation)
        model.move_to(moment)
        getattr(model, operation)()
    player.move_to(100)
    model.move_to(100)

    assert player.runs == runs
    assert model.runs == runs


def end_of(future: Future[int]) -> int:
    """Return the number of the run that a call ended up in."""
    try:
        return future.result(PATIENCE)
    except CancelledError:
        return CANCELLED


QUARTERS = st.integers(0, 24).map(lambda quarters: quarters / 4)


@given(
    wait=st.sampled_from([0.0, 1.0, 2.5, 4.0]),
    max_wait=st.none() | QUARTERS,
    leading=st.booleans(),
    trailing=st.booleans(),
    script=st.lists(st.tuples(QUARTERS, st.sampled_from(["call"] * 6 + ["flush", "cancel"])), max_size=15),
)
@settings(deadline=None, max_examples=60)
def test_agrees_with_the_model(
    *, wait: float, max_wait: float | None, leading: bool, trailing: bool, script: list[tuple[float, str]]
) -> None:
    """Whatever is done when, the runs, their arguments, the open windows and the ends of all calls are lodash's."""
    options = {"max_wait": max_wait, "leading": leading, "trailing": trailing}
    model = Lodash(wait, **options)  # type: ignore[arg-type]
    with FakeClock() as clock:
        player = Player(clock, wait, **options)
    moment = 0.0
    for pause, operation in [*script, (100.0, "flush")]:
        moment += pause
        player.move_to(moment)
        model.move_to(moment)
        getattr(model, operation)()
        # A timer that rings at once does so before anybody can look.
        model.move_to(moment)
        player.play(operation)

        assert player.runs == model.runs
        assert player.debounce.pending == model.pending
        status = player.debounce.status()
        assert status.calls == status.runs + status.absorbed + status.cancelled + status.waiting
    assert [end_of(future) for future in player.futures] == [
        model.ends[number] for number in range(len(player.futures))
    ]


# Futures


def test_calls_of_a_run_share_its_future(clock: FakeClock) -> None:
    """However many calls there are, there is one Future for the run that they end up in."""
    player = Player(clock, 4)
    first, second = player.call(), player.call()

    assert first is second
    assert not first.done()
    player.move_to(4)
    assert first.result(0) == 0
    assert player.call() is not first


def test_leading_call_has_a_future_of_its_own(clock: FakeClock) -> None:
    """The call that runs at once gets that run's result, those after it the trailing run's."""
    player = Player(clock, 4, leading=True)
    leading, second, third = player.call(), player.call(), player.call()
    player.move_to(4)

    assert second is third
    assert (leading.result(0), third.result(0)) == (0, 1)


def test_without_trailing_the_rest_gets_the_last_run(clock: FakeClock) -> None:
    """A call that starts no run gets the Future of the last run, as lodash returns the last result."""
    player = Player(clock, 4, leading=True, trailing=False)

    assert player.call() is player.call()


def test_without_any_edge_calls_are_cancelled(clock: FakeClock) -> None:
    """With neither leading nor trailing nothing runs: futures are cancelled from the start."""
    player = Player(clock, 4, trailing=False)

    assert player.call().cancelled()
    with pytest.raises(CancelledError):
        player.call().result(0)


def test_error_reaches_every_caller(clock: FakeClock) -> None:
    """The function's own exception ends the future, and its traceback doesn't grow with the callers."""

    def fail() -> None:
        raise LookupError("no such thing")

    failing = Debounce(fail, 4)
    future = failing()
    failing.flush()
    depths = []
    for _ in range(3):
        with pytest.raises(LookupError, match="no such thing") as caught:
            future.result(PATIENCE)
        depths.append(len(caught.traceback))

    assert len(set(depths)) == 1
    assert failing.status().failed == 1


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_any_error_goes_to_the_future_alone(clock: FakeClock, error: type[BaseException]) -> None:
    """What ends a program elsewhere ends only the run; the next one comes."""
    errors: list[BaseException] = [error()]

    def fail_once() -> str:
        if errors:
            raise errors.pop()
        return "well"

    failing = Debounce(fail_once, 4)
    first = failing()
    assert isinstance(failing.flush().exception(PATIENCE), error)
    assert isinstance(first.exception(0), error)
    failing()

    assert failing.flush().result(PATIENCE) == "well"


def test_cancel_cancels_the_future(clock: FakeClock) -> None:
    """Who waits for a run that is taken back is told; there is nothing more to cancel then."""
    player = Player(clock, 4)
    future = player.call()
    waiting = stage.elsewhere(future.exception, PATIENCE)
    told: list[bool] = []
    future.add_done_callback(lambda done: told.append(done.cancelled()))

    assert player.debounce.cancel() is True
    assert isinstance(waiting.exception(PATIENCE), CancelledError)
    assert told == [True]
    assert player.debounce.cancel() is False
    assert player.debounce.status().cancelled == 1
    player.move_to(10)
    assert player.runs == []


def test_cancel_leaves_a_run_alone_that_has_begun() -> None:
    """A run that has come to its edge runs, even if it still waits for its turn."""
    gate = Gate()
    debounce = Debounce(gate, 0, leading=True)
    first = debounce("first")
    gate.wait_for_run()
    debounce("second")
    second = debounce.flush()

    assert debounce.cancel() is False
    gate.let_go(2)
    assert (first.result(PATIENCE), second.result(PATIENCE)) == ("first", "second")


def test_one_caller_cant_cancel(clock: FakeClock) -> None:
    """A Future's own cancel() refuses: others may wait for the same run."""
    player = Player(clock, 4)
    future = player.call()

    assert future.cancel() is False
    player.move_to(4)
    assert future.result(0) == 0


def test_flush_returns_the_runs_future(clock: FakeClock) -> None:
    """It is the one that the calls have got."""
    player = Player(clock, 4)
    future = player.call()

    assert player.debounce.flush() is future
    assert future.result(PATIENCE) == 0


def test_flush_never_raises_the_runs_error(clock: FakeClock) -> None:
    """The error waits in the future."""

    def fail() -> None:
        raise LookupError

    failing = Debounce(fail, 4)
    failing()

    assert isinstance(failing.flush().exception(PATIENCE), LookupError)
    assert isinstance(failing.flush().exception(0), LookupError)


def test_flush_with_nothing_pending(clock: FakeClock) -> None:
    """There is the last run's Future, and before the first run one that is done with None."""
    player = Player(clock, 4)

    assert player.debounce.flush().result(0) is None
    assert player.runs == []
    future = player.call()
    player.move_to(4)
    assert player.debounce.flush() is future


def test_flush_of_a_run_that_goes_on() -> None:
    """With nothing else to run, the Future is that of the run which hasn't ended."""
    gate = Gate()
    debounce = Debounce(gate, 0)
    future = debounce("one")
    gate.wait_for_run()

    assert debounce.flush() is future
    assert not future.done()
    gate.let_go()
    assert future.result(PATIENCE) == "one"


def test_result_may_be_an_exception(clock: FakeClock) -> None:
    """What a function returns is its result, whatever it is."""
    error = LookupError()
    debounce = Debounce(lambda: error, 4)
    debounce()

    assert debounce.flush().result(PATIENCE) is error


def test_arguments_of_every_kind(clock: FakeClock) -> None:
    """Positional and keyword arguments arrive, also those that look like the debounce's own."""

    def collect(*args: object, **kwargs: object) -> tuple[object, ...]:
        return (args, kwargs)

    debounce = Debounce(collect, 4)
    debounce(1, 2, self=3, args=4, kwargs=5, state=6, now=7)

    assert debounce.flush().result(PATIENCE) == ((1, 2), {"self": 3, "args": 4, "kwargs": 5, "state": 6, "now": 7})


# What is kept alive


class Payload:
    """Something that can be watched as it goes."""


def test_arguments_are_freed(clock: FakeClock) -> None:
    """Arguments are gone once their run has ended, and those of an absorbed call at once, without the collector."""
    gc.disable()
    try:
        gone = threading.Semaphore(0)

        def payload() -> Payload:
            made = Payload()
            weakref.finalize(made, gone.release)
            return made

        debounce = Debounce(lambda _: None, 4)
        debounce(payload())
        debounce(payload())
        assert gone.acquire(timeout=0)
        assert not gone.acquire(timeout=0)
        future = debounce.flush()
        assert future.result(PATIENCE) is None
        assert gone.acquire(timeout=PATIENCE)
    finally:
        gc.enable()


def test_error_keeps_no_arguments(clock: FakeClock) -> None:
    """A caller may keep a failed future: its traceback holds no argument any more."""
    gone = threading.Semaphore(0)

    def fail(payload: Payload) -> None:
        weakref.finalize(payload, gone.release)
        raise LookupError

    failing = Debounce(fail, 4)
    future = failing(Payload())
    failing.flush()

    assert isinstance(future.exception(PATIENCE), LookupError)
    assert gone.acquire(timeout=PATIENCE)


def test_error_keeps_no_debounce(clock: FakeClock) -> None:
    """Nor does it hold the debounce, and with it the timer's thread, until the collector comes."""
    gc.disable()
    try:
        failing = Debounce(int, 4)
        future = failing("no number")
        assert isinstance(failing.flush().exception(PATIENCE), ValueError)
        gone = threading.Event()
        weakref.finalize(failing._bursts, gone.set)
        del failing
        assert gone.wait(PATIENCE)
        assert future.done()
    finally:
        gc.enable()


def test_dropped_debounce_still_runs(clock: FakeClock) -> None:
    """Dropping the debounce takes nothing back, even where nobody kept the future."""
    ran = threading.Event()
    Debounce(ran.set, 4)()
    gc.collect()
    clock.wait_for_sleepers(1)

    clock.advance(4)

    assert ran.wait(PATIENCE)


def test_dropped_debounce_is_freed(clock: FakeClock) -> None:
    """A debounce that is idle goes by itself, with the result that it kept, without the collector."""
    gc.disable()
    try:
        debounce = Debounce(Payload, 4)
        debounce()
        result = debounce.flush().result(PATIENCE)
        assert result is not None
        kept = weakref.ref(result)
        gone = threading.Event()
        weakref.finalize(debounce._bursts, gone.set)
        del result
        assert kept() is not None
        del debounce
        assert gone.wait(PATIENCE)
        assert kept() is None
    finally:
        gc.enable()


# Runs, one after another


def test_runs_never_overlap() -> None:
    """Runs that come to their edge while another goes on wait for their turn, in order; all of them run."""
    gate = Gate()
    debounce = Debounce(gate, 0, leading=True, trailing=False)
    futures = []
    for number in range(3):
        futures.append(debounce(number))
        debounce.cancel()  # the next call is a leading one
    gate.wait_for_run()
    status = debounce.status()

    assert (status.running, status.queued, status.runs, status.succeeded) == (True, 2, 3, 0)
    gate.let_go(3)
    assert [future.result(PATIENCE) for future in futures] == [0, 1, 2]
    assert gate.runs == [0, 1, 2]
    assert gate.most_active == 1
    status = debounce.status()
    assert (status.running, status.queued, status.succeeded) == (False, 0, 3)


def test_slow_function_delays_no_other(clock: FakeClock) -> None:
    """While a run hangs, other debounces of the same timer open and close their windows as ever."""
    gate = Gate()
    slow = Debounce(gate, 1)
    player = Player(clock, 4)
    hanging = slow()
    player.call()
    clock.wait_for_sleepers(1)
    clock.advance(1)
    gate.wait_for_run()

    player.move_to(4)

    assert player.runs == [(4.0, 0)]
    assert not hanging.done()
    gate.let_go()
    hanging.result(PATIENCE)


def test_runs_have_daemon_threads_with_a_name() -> None:
    """A run is on a thread that says what it is, and that no exit waits for."""
    debounce = Debounce(threading.current_thread, 0)
    thread = debounce().result(PATIENCE)

    assert thread.daemon
    assert thread.name == "batcher-debounce-worker-1"


def test_done_callback_that_raises_disturbs_nobody(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the next callback is called, and the next run comes."""
    player = Player(clock, 4)
    future = player.call()
    told: list[Any] = []
    future.add_done_callback(lambda _: sys.exit(1))
    future.add_done_callback(told.append)
    player.move_to(4)
    player.call()
    player.move_to(8)

    assert told == [future]
    assert len(player.runs) == 2
    assert [record.message for record in caplog.records] == [
        "batcher 'run': a done-callback raised (1 items): 'SystemExit'"
    ]


class Listener(logging.Handler):
    """Notes what is logged, and says that something was."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Note it."""
        self.messages.append(record.getMessage())
        self.heard.set()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Listen to the library's log."""
    listening = Listener()
    logging.getLogger("batcher").addHandler(listening)
    yield listening
    logging.getLogger("batcher").removeHandler(listening)


def test_failure_that_nobody_hears_is_logged(clock: FakeClock, listener: Listener) -> None:
    """With nobody at the future when the run ends, the log has to do; it tells no more than the error's type."""
    failing = Debounce(int, 4)
    failing("secret")
    failing.flush()

    assert listener.heard.wait(PATIENCE)
    assert listener.messages == ["batcher 'int': a debounced run failed and nobody listens (1 items): 'ValueError'"]


def test_failure_that_is_heard_is_not_logged(clock: FakeClock, listener: Listener) -> None:
    """Who waits, or has a callback, knows."""
    failing = Debounce(int, 4)
    for _ in range(2):  # by the time of the second callback all that follows from the first run has happened
        told = threading.Event()
        failing("secret").add_done_callback(lambda _, told=told: told.set())  # type: ignore[misc]
        failing.flush()
        assert told.wait(PATIENCE)

    assert listener.messages == []


# Calls from inside


def test_run_may_call_its_own_debounce(clock: FakeClock) -> None:
    """Such a call opens a window like any other."""
    futures: list[Future[str]] = []

    def again(depth: int) -> str:
        if depth:
            futures.append(debounce(depth - 1))
        return f"depth {depth}"

    debounce = Debounce(again, 4)
    futures.append(debounce(2))
    for _ in range(3):
        clock.wait_for_sleepers(1)
        clock.advance(4)
        assert wait(list(futures), PATIENCE).not_done == set()

    assert [future.result(0) for future in futures] == ["depth 2", "depth 1", "depth 0"]


def test_run_cant_wait_for_its_own_debounce(clock: FakeClock) -> None:
    """It would wait for itself: that is an error at once, in the function and in a callback."""
    errors: list[BaseException | None] = []

    def wait_for(future: Future[Any]) -> None:
        try:
            future.result(PATIENCE)
        except BaseException as error:
            errors.append(error)

    def run() -> None:
        wait_for(futures[0])

    def call_back(_: object) -> None:
        wait_for(debounce())
        told.set()

    told = threading.Event()
    debounce = Debounce(run, 4)
    futures: list[Future[Any]] = [debounce()]
    futures[0].add_done_callback(call_back)
    debounce.flush()

    assert told.wait(PATIENCE)
    assert [type(error) for error in errors] == [ReentrantCallError] * 2


# on_debounce


@pytest.mark.parametrize(
    ("options", "script", "heard"),
    [
        ({}, calls(0), []),
        ({}, calls(0, 1, 2), [1, 2]),
        ({}, calls(0, 1, 9, 10), [1, 1]),
        (BOTH, calls(0, 1, 2, 3), [1, 2]),
        (LEADING, calls(0, 1, 2), [1, 2]),
        (NEITHER, calls(0, 1), [1, 2]),
        ({}, [(0, "call"), (1, "call"), (1, "cancel"), (2, "call"), (3, "call")], [1, 1]),
        ({}, [(0, "call"), (1, "call"), (1, "flush"), (2, "call"), (3, "call")], [1, 1]),
    ],
    ids=["one", "burst", "two-bursts", "both", "leading", "neither", "cancel", "flush"],
)
def test_on_debounce_counts_absorbed_calls(
    clock: FakeClock, options: dict[str, Any], script: Script, heard: list[int]
) -> None:
    """It is called for each call that is absorbed, with their number since the last run."""
    absorbed: list[int] = []
    player = Player(clock, 4, on_debounce=absorbed.append, **options)
    for moment, operation in script:
        player.move_to(moment)
        player.play(operation)

    assert absorbed == heard
    assert player.debounce.status().absorbed == len(heard)


def test_on_debounce_hears_of_a_call_that_runs_at_once(clock: FakeClock) -> None:
    """Where a call finds `max_wait` over before the timer does, it runs at once, and has absorbed the one before."""
    absorbed: list[int] = []
    player = Player(clock, 4, max_wait=4, on_debounce=absorbed.append)
    held = threading.Event()
    # The timer's thread is kept from looking by a look that it is asked for elsewhere.
    player.debounce._bursts.timer.ensure()
    player.debounce._bursts.timer.attend(Busy(held))
    player.call()
    clock.advance(5)
    player.call()

    assert player.debounce.status().runs == 1
    assert absorbed == [1]
    held.set()
    player.settle()
    assert player.runs == [(5.0, 1)]


class Busy:
    """Something to look at that takes its time."""

    def __init__(self, until: threading.Event) -> None:
        self._until = until

    def look(self) -> None:
        """Take it."""
        assert self._until.wait(PATIENCE)


def test_on_debounce_runs_on_the_callers_thread(clock: FakeClock) -> None:
    """It is the later call's thread, and the call has happened by then."""
    seen: list[tuple[threading.Thread, int]] = []

    def look(_: int) -> None:
        seen.append((threading.current_thread(), debounce.status().calls))

    debounce = Debounce(lambda: None, 4, on_debounce=look)
    debounce()
    debounce()
    debounce.cancel()

    assert seen == [(threading.current_thread(), 2)]


@pytest.mark.parametrize("error", [LookupError, SystemExit])
def test_hook_that_raises_is_logged(
    clock: FakeClock, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """The call returns its future all the same."""

    def fail(_: int) -> None:
        raise error("secret")

    debounce = Debounce(int, 4, on_debounce=fail)
    debounce("1")

    future = debounce("2")

    assert debounce.flush() is future
    assert future.result(PATIENCE) == 2
    assert caplog.messages == [f"batcher 'int': on_debounce raised (1 items): {error.__name__!r}"]


def test_ctrl_c_in_the_hook_is_the_users(clock: FakeClock) -> None:
    """KeyboardInterrupt on the main thread goes through; on another one it is a hook's error like any."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    debounce = Debounce(lambda: None, 4, on_debounce=interrupt)
    debounce()

    with pytest.raises(KeyboardInterrupt):
        debounce()
    assert not stage.elsewhere(debounce).result(PATIENCE).done()
    assert debounce.cancel()


# Looks


def test_status_counts(clock: FakeClock) -> None:
    """Each call is a run, absorbed, cancelled or waiting."""
    player = Player(clock, 4)
    for moment, operation in [*calls(0, 1, 9), (10, "cancel"), *calls(11, 12)]:
        player.move_to(moment)
        player.play(operation)

    assert player.debounce.status() == DebounceStatus(
        pending=True,
        waiting=1,
        running=False,
        queued=0,
        calls=5,
        runs=1,
        succeeded=1,
        failed=0,
        absorbed=2,
        cancelled=1,
    )
    assert repr(player.debounce) == "<Debounce 'run' pending calls=5 runs=1>"
    player.debounce.cancel()
    assert repr(player.debounce) == "<Debounce 'run' idle calls=5 runs=1>"


def test_pending_is_lodashs(clock: FakeClock) -> None:
    """The window is open after a leading run as well, although nothing may come."""
    player = Player(clock, 4, leading=True)
    assert not player.debounce.pending

    player.call()

    assert player.debounce.pending
    assert player.debounce.status().waiting == 0
    player.move_to(4)
    assert not player.debounce.pending


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"fn": None}, TypeError, "fn must be callable, got None"),
        ({"wait": None}, TypeError, "wait must be a non-negative number of seconds, got None"),
        ({"wait": "1"}, TypeError, "wait must be"),
        ({"wait": True}, TypeError, "wait must be"),
        ({"wait": -1}, ValueError, "wait must be"),
        ({"wait": float("nan")}, ValueError, "wait must be"),
        ({"max_wait": -0.5}, ValueError, "max_wait must be a non-negative number of seconds or None, got -0.5"),
        ({"leading": 1}, TypeError, "leading must be True or False, got 1"),
        ({"trailing": None}, TypeError, "trailing must be True or False, got None"),
        ({"on_debounce": 3}, TypeError, "on_debounce must be callable or None, got 3"),
    ],
    ids=str,
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], match: str) -> None:
    """Wrong options are refused at construction, and shown."""
    with pytest.raises(error, match=match):
        make_debounce({"fn": print, "wait": 1} | options)


def make_debounce(options: dict[str, Any]) -> Debounce[..., Any]:
    """Make a debounce of options of any types."""
    return Debounce(**options)


async def coroutine_function() -> None:
    """Do nothing when called."""


def generator_function() -> Any:
    """Do nothing when called."""
    yield


async def async_generator_function() -> Any:
    """Do nothing when called."""
    yield


@pytest.mark.parametrize("function", [coroutine_function, generator_function, async_generator_function])
def test_function_must_work_when_called(function: Any) -> None:
    """What only makes a coroutine or a generator would run without doing anything."""
    with pytest.raises(TypeError, match="does its work when it is called"):
        Debounce(function, 1)
