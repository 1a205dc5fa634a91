"""tenacity's own objects decide here as they do in tenacity."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st
from tenacity import (
    RetryCallState,
    TryAgain,
    retry_all,
    retry_always,
    retry_any,
    retry_if_exception,
    retry_if_exception_cause_type,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_type,
    retry_if_result,
    retry_never,
    retry_unless_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    stop_any,
    stop_before_delay,
    stop_never,
    stop_when_event_set,
    wait_chain,
    wait_combine,
    wait_exception,
    wait_exponential,
    wait_exponential_jitter,
    wait_fixed,
    wait_incrementing,
    wait_none,
    wait_random,
    wait_random_exponential,
)

from batcher import Batcher
from batcher._retry import RetryPolicy, as_retry
from batcher.contrib.tenacity import TenacityRetry

Stop = Callable[[RetryCallState], bool]
Wait = Callable[[RetryCallState], float]


def ask(policy: TenacityRetry, attempts: int = 1, elapsed: float = 0.0, error: BaseException | None = None) -> Any:
    """Ask a policy what to do."""
    return policy.wait_after(error or OSError("busy"), attempts=attempts, elapsed=elapsed)


def test_is_a_retry_policy() -> None:
    """It is taken where a Retry is."""
    policy = TenacityRetry(stop=stop_after_attempt(2))

    assert isinstance(policy, RetryPolicy)
    assert as_retry("retry", policy) is policy


def test_defaults_are_those_of_tenacity() -> None:
    """Without arguments it tries again for ever and at once, after any Exception."""
    policy, theirs = TenacityRetry(), tenacity.Retrying()

    assert ask(policy, 10**6, 1e9) == 0.0
    assert ask(policy, error=KeyboardInterrupt()) is None
    assert policy.stop is theirs.stop
    assert type(policy.wait) is type(theirs.wait)
    assert type(policy.retry) is type(theirs.retry)


@pytest.mark.parametrize(
    ("stop", "last"),
    [
        (stop_never, None),
        (stop_after_attempt(3), 3),
        (stop_after_delay(10), 6),
        (stop_before_delay(10), 5),
        (stop_any(stop_after_attempt(9), stop_after_delay(4)), 3),
        (stop_all(stop_after_attempt(9), stop_after_delay(4)), 9),
        (stop_after_attempt(4) | stop_after_delay(100), 4),
        (stop_after_attempt(4) & stop_after_delay(10), 6),
        (lambda state: state.attempt_number >= 2, 2),
    ],
    ids=["never", "attempt", "delay", "before", "any", "all", "or", "and", "function"],
)
def test_stops_after(stop: Stop, last: int | None) -> None:
    """With two seconds between the attempts each of tenacity's stops ends it after the attempt that it should."""
    policy = TenacityRetry(stop=stop, wait=wait_fixed(2))
    answers = [ask(policy, attempts, elapsed=2.0 * (attempts - 1)) for attempts in range(1, 21)]

    assert answers == [2.0 if last is None or attempts < last else None for attempts in range(1, 21)]


def test_stops_when_an_event_is_set() -> None:
    """An event of the user's ends it."""
    event = threading.Event()
    policy = TenacityRetry(stop=stop_when_event_set(event))

    assert ask(policy) == 0.0
    event.set()
    assert ask(policy) is None


@pytest.mark.parametrize("elapsed", [0.1 + 0.2, 1e-9, 1e6 / 3], ids=repr)
def test_time_is_exact(elapsed: float) -> None:
    """A limit that is reached exactly is reached, whatever the clock of the machine shows."""
    assert ask(TenacityRetry(stop=stop_after_delay(elapsed)), 2, elapsed) is None
    assert ask(TenacityRetry(stop=stop_after_delay(elapsed * 1.001)), 2, elapsed) == 0.0


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (wait_none(), [0, 0, 0, 0]),
        (wait_fixed(3), [3, 3, 3, 3]),
        (wait_incrementing(start=1, increment=2, max=4), [1, 3, 4, 4]),
        (wait_exponential(multiplier=2, max=9), [2, 4, 8, 9]),
        (wait_chain(wait_fixed(1), wait_fixed(5)), [1, 5, 5, 5]),
        (wait_combine(wait_fixed(1), wait_fixed(5)), [6, 6, 6, 6]),
        (wait_fixed(1) + wait_incrementing(1, 1), [2, 3, 4, 5]),
        (wait_exception(lambda error: float(len(str(error)))), [4, 4, 4, 4]),
        (lambda state: state.attempt_number * 10, [10, 20, 30, 40]),
    ],
    ids=["none", "fixed", "incrementing", "exponential", "chain", "combine", "plus", "exception", "function"],
)
def test_waits(wait: Wait, expected: list[float]) -> None:
    """Each of tenacity's waits gives what it should, as a float."""
    answers = [ask(TenacityRetry(wait=wait), attempts) for attempts in (1, 2, 3, 4)]

    assert answers == expected
    assert all(type(answer) is float for answer in answers)


@given(st.integers(1, 5000))
def test_random_waits_stay_in_their_bounds(attempts: int) -> None:
    """Waits with jitter lie between the bounds that they were made with, after any number of attempts."""
    for wait, longest in (
        (wait_random(1, 2), 2.0),
        (wait_random_exponential(multiplier=0.5, max=60), min(0.5 * 2.0 ** min(attempts - 1, 20), 60.0)),
        (wait_exponential_jitter(max=60, jitter=2), min(2.0 ** min(attempts - 1, 20) + 2, 60.0)),
    ):
        assert 0 <= ask(TenacityRetry(wait=wait), attempts) <= longest


class TransientError(OSError):
    """An error that passes."""


def caused(cause: BaseException) -> Exception:
    """Return an error with a cause."""
    error = ValueError("told")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("retry", "error", "goes_on"),
    [
        (retry_if_exception_type(OSError), TransientError(), True),
        (retry_if_exception_type(OSError), ValueError(), False),
        (retry_if_exception_type((OSError, ValueError)), ValueError(), True),
        (retry_if_not_exception_type(OSError), TransientError(), False),
        (retry_unless_exception_type(OSError), ValueError(), True),
        (retry_if_exception(lambda error: "busy" in str(error)), OSError("busy"), True),
        (retry_if_exception_message(match="bu.*"), OSError("busy"), True),
        (retry_if_exception_cause_type(OSError), caused(TransientError()), True),
        (retry_if_exception_cause_type(OSError), OSError(), False),
        (retry_any(retry_if_exception_type(OSError), retry_if_exception_type(KeyError)), KeyError(), True),
        (retry_all(retry_if_exception_type(OSError), retry_if_exception_message("no")), OSError("busy"), False),
        (retry_if_exception_type(OSError) | retry_if_exception_type(KeyError), ValueError(), False),
        (retry_if_exception_type(OSError) & retry_if_exception_message("busy"), OSError("busy"), True),
        (retry_if_result(lambda result: True), OSError(), False),
        (retry_never, OSError(), False),
        (retry_always, KeyboardInterrupt(), True),
        (retry_never, TryAgain(), True),
    ],
    ids=[
        "type",
        "other type",
        "types",
        "not type",
        "unless type",
        "predicate",
        "message",
        "cause",
        "no cause",
        "any",
        "all",
        "or",
        "and",
        "result",
        "never",
        "always",
        "try again",
    ],
)
def test_tries_again_after(retry: Stop, error: BaseException, *, goes_on: bool) -> None:
    """Each of tenacity's conditions sees the error as the outcome of a failed attempt."""
    assert (ask(TenacityRetry(retry=retry), error=error) is not None) == goes_on


def test_parts_see_a_state_as_in_tenacity() -> None:
    """The state is one of tenacity's own, and each part is asked in tenacity's order, with what it has then."""
    seen: list[tuple[str, RetryCallState, float]] = []

    def note(name: str, answer: Any) -> Callable[[RetryCallState], Any]:
        def part(retry_state: RetryCallState) -> Any:
            seen.append((name, retry_state, retry_state.upcoming_sleep))
            return answer

        return part

    error = OSError("busy")
    policy = TenacityRetry(stop=note("stop", answer=False), wait=note("wait", 2), retry=note("retry", answer=True))

    assert policy.wait_after(error, attempts=3, elapsed=7.5) == 2.0
    assert [(name, upcoming) for name, _, upcoming in seen] == [("retry", 0.0), ("wait", 0.0), ("stop", 2.0)]
    state = seen[0][1]
    assert isinstance(state, RetryCallState)
    assert (state.attempt_number, state.seconds_since_start, state.idle_for) == (3, 7.5, 7.5)
    assert state.outcome_timestamp is not None
    assert state.outcome_timestamp - state.start_time == pytest.approx(7.5)
    assert isinstance(state.outcome, tenacity.Future)
    assert (state.outcome.failed, state.outcome.exception(), state.outcome.attempt_number) == (True, error, 3)
    assert (state.fn, state.args, state.kwargs, state.next_action) == (None, (), {}, None)
    assert (state.retry_object.stop, state.retry_object.wait) == (policy.stop, policy.wait)
    assert "attempt #3" in repr(state)


def test_first_attempt_has_not_waited() -> None:
    """Before the second attempt nothing was waited, however long the first one took."""
    policy = TenacityRetry(stop=lambda state: state.idle_for > 0)

    assert ask(policy, 1, elapsed=5.0) == 0.0
    assert ask(policy, 2, elapsed=5.0) is None


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), "1", None, True], ids=repr)
def test_wait_that_is_no_time_is_refused(wrong: Any) -> None:
    """A function that returns no time is told so, where it would otherwise upset every other wait."""
    policy = TenacityRetry(wait=lambda state: wrong)

    with pytest.raises((TypeError, ValueError), match=r"^wait\(retry_state\) must be a non-negative number of seconds"):
        ask(policy)


def test_endless_wait_is_clamped() -> None:
    """What tenacity takes for no limit is longer than a platform can wait."""
    assert 1e8 < ask(TenacityRetry(wait=wait_fixed(1e300))) < 1e10


def test_batcher_tries_again_by_it() -> None:
    """A batcher calls its handler as often as the policy says, and no further."""
    calls: list[list[str]] = []

    def fail(items: list[str]) -> None:
        calls.append(items)
        raise OSError("busy")

    policy = TenacityRetry(stop=stop_after_attempt(3), retry=retry_if_exception_type(OSError))
    with Batcher(fail, max_delay=0.0, retry=policy) as batcher:
        with pytest.raises(OSError, match="busy"):
            batcher.add("item").result(10)

        assert calls == [["item"]] * 3
        assert batcher.status().retried == 2


@pytest.mark.parametrize("name", ["stop", "wait", "retry"])
@pytest.mark.parametrize("wrong", [3, None, stop_after_attempt], ids=["number", "none", "class"])
def test_other_parts_are_refused(name: str, wrong: Any) -> None:
    """What can't be called is refused at once, and so is a class whose arguments were forgotten."""
    with pytest.raises(TypeError, match=f"^{name} must be "):
        TenacityRetry(**{name: wrong})


def test_repr_shows_the_parts() -> None:
    """The parts can be seen."""
    policy = TenacityRetry(stop=stop_never)

    assert repr(policy).startswith(f"TenacityRetry(stop={stop_never!r}, wait=<tenacity.wait.wait_none")


def test_without_tenacity() -> None:
    """Without the extra the import says which one is missing; the library itself doesn't need it."""
    code = "import sys; sys.modules['tenacity'] = None; import batcher; import batcher.contrib.tenacity"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)

    assert ended.returncode == 1
    wanted = "ImportError: batcher.contrib.tenacity needs tenacity: pip install 'thread-batcher[tenacity]'"
    assert wanted in ended.stderr
