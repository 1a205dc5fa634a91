"""A circuit breaker: what it lets through, what it counts, and whom it tells."""

import copy
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from batcher import CircuitBreaker, CircuitBreakerStatus, CircuitOpenError
from batcher.testing import FakeClock
from tests.stage import PATIENCE, elsewhere


class BoomError(Exception):
    """What a service fails with."""


class NotFoundError(LookupError):
    """What a service answers that is up."""


def fail(error: BaseException | None = None) -> None:
    """Fail as a service does."""
    raise BoomError if error is None else error


def fail_times(breaker: CircuitBreaker, times: int) -> None:
    """Let that many calls fail."""
    for _ in range(times):
        with pytest.raises(BoomError):
            breaker.call(fail)


def together(count: int, function: Callable[[int], Any]) -> list[Any]:
    """Call the function with that many numbers, each on a thread of its own; return the results."""
    futures = [elsewhere(function, number) for number in range(count)]
    return [future.result(2 * PATIENCE) for future in futures]


@pytest.fixture(name="clock")
def _clock() -> Iterator[FakeClock]:
    """Have the breakers of a test run on a clock that only the test moves."""
    with FakeClock() as clock:
        yield clock


@pytest.fixture(name="half_open")
def _half_open(clock: FakeClock) -> Callable[..., CircuitBreaker]:
    """Make breakers that are half-open."""

    def make(**options: Any) -> CircuitBreaker:
        breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0, **options)
        fail_times(breaker, 1)
        clock.advance(10.0)
        return breaker

    return make


# The three states


def test_closed_breaker_is_transparent() -> None:
    """A call gets its arguments, and its caller the result or the very error."""
    breaker = CircuitBreaker()
    error = BoomError()

    assert breaker.call(divmod, 7, 4) == (1, 3)
    assert breaker.call(dict, a=1, function=2) == {"a": 1, "function": 2}
    with pytest.raises(BoomError) as caught:
        breaker.call(fail, error)
    assert caught.value is error


def test_failures_in_a_row_open(clock: FakeClock) -> None:
    """The threshold counts failures in a row: a success between them starts the count anew."""
    breaker = CircuitBreaker(failure_threshold=3)

    fail_times(breaker, 2)
    breaker.call(int)
    fail_times(breaker, 2)
    assert (breaker.status().state, breaker.status().failures) == ("closed", 2)
    fail_times(breaker, 1)
    assert (breaker.status().state, breaker.status().failures) == ("open", 3)


def test_open_breaker_refuses(clock: FakeClock) -> None:
    """An open breaker doesn't run the function, and says how long it will stay so."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0)
    fail_times(breaker, 1)
    clock.advance(4.0)
    calls: list[int] = []

    with pytest.raises(CircuitOpenError, match="open: try again in 6 seconds") as caught:
        breaker.call(calls.append, 1)

    assert caught.value.retry_after == 6.0
    assert breaker.allow() is None
    assert calls == []


@pytest.mark.parametrize("probes", [1, 3])
def test_half_open_lets_exactly_the_probes_through(half_open: Callable[..., CircuitBreaker], probes: int) -> None:
    """After the reset timeout that many calls may be made and no other, and their success closes the circuit."""
    breaker = half_open(half_open_calls=probes)

    permits = [permit for _ in range(5) if (permit := breaker.allow()) is not None]

    assert len(permits) == probes
    assert (breaker.status().state, breaker.status().probes) == ("half-open", probes)
    for permit in permits:
        assert breaker.status().state == "half-open"
        breaker.record_success(permit)
        assert (breaker.allow() is None) == (permit is not permits[-1])
    assert (breaker.status().state, breaker.status().failures) == ("closed", 0)


def test_failed_probe_opens_for_the_whole_timeout(clock: FakeClock, half_open: Callable[..., CircuitBreaker]) -> None:
    """A probe that fails opens the circuit, from then on, for as long as the first time."""
    breaker = half_open()
    clock.advance(3.0)

    fail_times(breaker, 1)

    assert breaker.status().retry_after == 10.0
    clock.advance(9.9)
    assert breaker.allow() is None
    clock.advance(0.1)
    assert breaker.allow() is not None


def test_unreported_probe_has_failed(clock: FakeClock, half_open: Callable[..., CircuitBreaker]) -> None:
    """A probe that nobody reports within the reset timeout has failed then; what it reports later is late."""
    breaker = half_open()
    probe = breaker.allow()
    assert probe is not None
    clock.advance(9.9)
    assert breaker.status().state == "half-open"
    clock.advance(0.2)

    breaker.record_success(probe)

    status = breaker.status()
    assert (status.state, status.failures, status.probes) == ("open", 2, 0)
    assert status.open_seconds == pytest.approx(0.1)
    clock.advance(9.9)
    assert breaker.allow() is not None


def test_caller_refused_by_a_probe_learns_when_that_must_be_back(
    clock: FakeClock, half_open: Callable[..., CircuitBreaker]
) -> None:
    """While the probe is on its way, asking again makes sense when its result must be known."""
    breaker = half_open()
    breaker.allow()
    clock.advance(4.0)

    with pytest.raises(CircuitOpenError) as caught:
        breaker.call(int)

    assert caught.value.retry_after == 6.0


# Row 38 of the faults


def test_row_38_half_open_lets_one_of_eight_through(half_open: Callable[..., CircuitBreaker]) -> None:
    """Of eight threads that come at once one probes; the others are refused while it is still at it."""
    breaker = half_open()
    barrier = threading.Barrier(8)
    refused = threading.Semaphore(0)

    def probe() -> str:
        for _ in range(7):
            assert refused.acquire(timeout=PATIENCE)
        return "probed"

    def caller(_: int) -> str:
        barrier.wait(PATIENCE)
        try:
            return breaker.call(probe)
        except CircuitOpenError:
            refused.release()
            return "refused"

    assert sorted(together(8, caller)) == ["probed"] + ["refused"] * 7
    assert breaker.status().state == "closed"


@pytest.mark.parametrize("state", ["closed", "half-open"])
def test_row_38_lock_is_free_during_a_call(half_open: Callable[..., CircuitBreaker], state: str) -> None:
    """Eight calls are inside their functions at the same time: each waits there for all of the others."""
    breaker = half_open(half_open_calls=8) if state == "half-open" else CircuitBreaker()
    barrier = threading.Barrier(8)
    assert breaker.status().state == state

    assert sorted(together(8, lambda _: breaker.call(barrier.wait, PATIENCE))) == list(range(8))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_row_38_dying_probe_gives_its_place_back(
    half_open: Callable[..., CircuitBreaker], error: type[BaseException]
) -> None:
    """A probe that is ended from outside has found out nothing: the next one may try at once."""
    breaker = half_open()

    with pytest.raises(error):
        breaker.call(fail, error())

    assert (breaker.status().state, breaker.status().probes) == ("half-open", 0)
    breaker.call(int)
    assert breaker.status().state == "closed"


def test_row_38_late_failure_counts_for_nothing(clock: FakeClock) -> None:
    """A call that was let through when the circuit was closed says nothing about later eras, failing or not."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0)
    early = [breaker.allow() for _ in range(4)]
    assert None not in early
    fail_times(breaker, 1)

    breaker.record_failure(early[0])  # type: ignore[arg-type]
    assert breaker.status().failures == 1
    clock.advance(10.0)
    breaker.record_failure(early[1])  # type: ignore[arg-type]
    assert breaker.status().state == "half-open"
    breaker.record_success(early[2])  # type: ignore[arg-type]
    assert breaker.status().state == "half-open"
    breaker.call(int)
    breaker.record_failure(early[3])  # type: ignore[arg-type]
    assert (breaker.status().state, breaker.status().failures) == ("closed", 0)


def test_row_38_late_probe_counts_for_nothing(clock: FakeClock, half_open: Callable[..., CircuitBreaker]) -> None:
    """A probe of an earlier half-open era neither closes the next one nor frees a place of it."""
    breaker = half_open(half_open_calls=2)
    late, failing = breaker.allow(), breaker.allow()
    assert late is not None
    assert failing is not None
    breaker.record_failure(failing)
    clock.advance(10.0)
    now = breaker.allow(), breaker.allow()
    assert None not in now

    breaker.record_success(late)

    assert (breaker.status().state, breaker.status().probes) == ("half-open", 2)
    assert breaker.allow() is None


# Permits


def test_permit_counts_once(clock: FakeClock) -> None:
    """What is reported a second time counts for nothing."""
    breaker = CircuitBreaker(failure_threshold=2)
    permit = breaker.allow()
    assert permit is not None

    breaker.record_failure(permit)
    breaker.record_failure(permit)
    breaker.record_success(permit)

    assert (breaker.status().state, breaker.status().failures) == ("closed", 1)


def test_success_is_a_report_too(clock: FakeClock) -> None:
    """After a success without consequences, the same permit can't report a failure."""
    breaker = CircuitBreaker(failure_threshold=1)
    permit = breaker.allow()
    assert permit is not None

    breaker.record_success(permit)
    breaker.record_failure(permit)

    assert breaker.status().failures == 0


def test_permit_of_another_breaker_counts_for_nothing(clock: FakeClock) -> None:
    """Breakers don't mix up their permits."""
    permit = CircuitBreaker().allow()
    assert permit is not None
    breaker = CircuitBreaker(failure_threshold=1)

    breaker.record_failure(permit)

    assert breaker.status().failures == 0


def test_released_permit_frees_the_place(half_open: Callable[..., CircuitBreaker]) -> None:
    """A call that wasn't made after all gives its place to another."""
    breaker = half_open()
    permit = breaker.allow()
    assert permit is not None

    breaker.release(permit)

    assert breaker.allow() is not None


@pytest.mark.parametrize("method", ["record_success", "record_failure", "release"])
def test_missing_permit_is_refused(method: str) -> None:
    """Reporting for a call that wasn't allowed is a mistake that is named."""
    with pytest.raises(TypeError, match=r"permit must be what allow\(\) returned, got None"):
        getattr(CircuitBreaker(), method)(None)


# What is a failure


@pytest.mark.parametrize("ignore", [LookupError, (ValueError, LookupError), [NotFoundError]])
def test_ignored_error_is_a_success(clock: FakeClock, half_open: Callable[..., CircuitBreaker], ignore: Any) -> None:
    """An ignored class, or one below it, ends a row of failures and closes a half-open circuit; it is raised though."""
    breaker = CircuitBreaker(failure_threshold=2, ignore=ignore)
    probing = half_open(ignore=ignore)
    fail_times(breaker, 1)

    for each in (breaker, probing):
        with pytest.raises(NotFoundError):
            each.call(fail, NotFoundError())

    assert (breaker.status().failures, probing.status().state) == (0, "closed")


# Decorator and context manager


def test_decorated_function(clock: FakeClock) -> None:
    """A decorated function keeps its name and its results, and is refused while the circuit is open."""
    breaker = CircuitBreaker(failure_threshold=1)

    @breaker
    def load(user_id: int, *, name: str = "") -> str:
        """Load a user."""
        return {1: name}[user_id]

    assert (load(1, name="ada"), load.__name__, load.__doc__) == ("ada", "load", "Load a user.")
    with pytest.raises(KeyError):
        load(2)
    with pytest.raises(CircuitOpenError):
        load(1)


def test_decorated_methods_share_the_breaker(clock: FakeClock) -> None:
    """Methods, class methods and static methods can be decorated; all instances have the one circuit."""
    breaker = CircuitBreaker(failure_threshold=1)

    class Users:
        @breaker
        def load(self, error: Exception | None) -> "Users":
            if error is not None:
                raise error
            return self

        @classmethod
        @breaker
        def find(cls) -> type["Users"]:
            return cls

        @staticmethod
        @breaker
        def count() -> int:
            return 2

    first, second = Users(), Users()
    assert (first.load(None), first.find(), first.count()) == (first, Users, 2)
    with pytest.raises(BoomError):
        first.load(BoomError())
    with pytest.raises(CircuitOpenError):
        second.load(None)


async def coroutine_function() -> None:
    """Return a coroutine."""


async def async_generator_function() -> Any:
    """Return an asynchronous generator."""
    yield


def generator_function() -> Any:
    """Return a generator."""
    yield


@pytest.mark.parametrize(
    "function",
    [42, staticmethod(fail), classmethod(fail), coroutine_function, async_generator_function, generator_function],  # type: ignore[arg-type]
    ids=["number", "staticmethod", "classmethod", "coroutine", "async-generator", "generator"],
)
def test_what_ends_before_it_can_fail_is_not_decorated(function: Any) -> None:
    """What is no plain function is refused where it is decorated, not when it is called."""
    with pytest.raises(TypeError, match="decorates plain functions, got"):
        CircuitBreaker()(function)


def test_block_as_a_call(clock: FakeClock) -> None:
    """A with block counts as a call: its errors are failures, and it isn't entered while the circuit is open."""
    breaker = CircuitBreaker(failure_threshold=1)
    entered: list[int] = []

    with breaker.calling():
        entered.append(1)
    with pytest.raises(BoomError), breaker.calling():
        raise BoomError
    with pytest.raises(CircuitOpenError), breaker.calling():
        entered.append(2)

    assert entered == [1]


# Status


def test_status_in_each_state(clock: FakeClock) -> None:
    """The snapshot shows the state, the row of failures, the probes, and the time back to the opening and ahead."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=10.0)
    seen = [breaker.status()]
    fail_times(breaker, 1)
    clock.advance(4.0)
    seen.append(breaker.status())
    clock.advance(6.0)
    seen.append(breaker.status())
    breaker.allow()
    clock.advance(1.0)
    seen.append(breaker.status())

    assert seen == [
        CircuitBreakerStatus(state="closed", failures=0, probes=0, open_seconds=None, retry_after=0.0),
        CircuitBreakerStatus(state="open", failures=1, probes=0, open_seconds=4.0, retry_after=6.0),
        CircuitBreakerStatus(state="half-open", failures=1, probes=0, open_seconds=10.0, retry_after=0.0),
        CircuitBreakerStatus(state="half-open", failures=1, probes=1, open_seconds=11.0, retry_after=9.0),
    ]
    assert repr(breaker) == "<CircuitBreaker half-open failures=1 probes=1>"
    with pytest.raises(FrozenInstanceError):
        seen[0].failures = 1  # type: ignore[misc]


# Options


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"failure_threshold": 0}, ValueError, "failure_threshold must be an int of at least 1, got 0"),
        ({"failure_threshold": 2.0}, TypeError, "failure_threshold must be an int"),
        ({"reset_timeout": 0}, ValueError, "reset_timeout must be a positive number of seconds, got 0"),
        ({"reset_timeout": None}, TypeError, "reset_timeout must be a positive number of seconds, got None"),
        ({"half_open_calls": 0}, ValueError, "half_open_calls must be an int of at least 1, got 0"),
        ({"ignore": 3}, TypeError, "ignore must be an Exception class or several, got 3"),
        ({"ignore": (ValueError, "x")}, TypeError, "ignore must be .*'x'"),
        ({"ignore": KeyboardInterrupt}, TypeError, "ignore must be an Exception class"),
        ({"on_change": 1}, TypeError, "on_change must be callable or None, got 1"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], match: str) -> None:
    """A wrong option is refused at construction, with what was received."""
    with pytest.raises(error, match=match):
        CircuitBreaker(**options)


def test_error_can_be_copied() -> None:
    """A copy of the error, as each caller of a failed batch gets one, says the same."""
    error = copy.copy(CircuitOpenError(1.25))

    assert (error.retry_after, str(error)) == (1.25, "the circuit is open: try again in 1.25 seconds")


class Listener:
    """Counts how often it was rung."""

    def __init__(self) -> None:
        self.rings = 0

    def ring(self) -> None:
        """Count."""
        self.rings += 1


@pytest.mark.parametrize("report", ["record_success", "record_failure", "release"])
def test_listeners_hear_how_a_probe_ended(clock: FakeClock, report: str) -> None:
    """Who waits for a probe's place hears of every end of one, and of no other call; nobody is kept alive for that."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=1.0)
    listener, gone, early = Listener(), Listener(), Listener()
    died = weakref.ref(gone)
    breaker.listen(early)
    del early
    breaker.listen(gone)
    breaker.listen(listener)
    del gone
    fail_times(breaker, 1)
    assert listener.rings == 0
    clock.advance(1.0)
    probe = breaker.allow()
    assert probe is not None
    getattr(breaker, report)(probe)

    assert listener.rings == 1
    assert died() is None
