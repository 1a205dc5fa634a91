"""`batched` on functions: a bulk function takes single items, and starts nothing before the first."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from batcher import Batched, Batcher, ReentrantCallError, batched
from batcher.testing import FakeClock, RecordingHandler
from tests.forks import in_child
from tests.stage import PATIENCE, elsewhere, flusher_of

if TYPE_CHECKING:
    from collections.abc import Callable

# Says what decorating at import has started and made.
IMPORT_PROBE = """
import gc, threading
from batcher import Batcher, batched

@batched
def f(items: list[int]) -> list[int]:
    return items

@batched(max_batch_size=5)
def g(items: list[int]) -> list[int]:
    return items

class C:
    @batched
    def m(self, items: list[int]) -> list[int]:
        return items

c = C()
c.m, C.m, f.bulk, f.submit
print(threading.active_count(), sum(isinstance(o, Batcher) for o in gc.get_objects()))
"""


def negate(numbers: list[int]) -> list[int]:
    """Answer with something that depends on the item."""
    return [-number for number in numbers]


def test_bare_decorator() -> None:
    """A call with one item blocks for its result."""
    opposite = batched(negate)

    assert isinstance(opposite, Batched)
    assert opposite(1) == -1
    opposite.batcher.close()


def test_decorator_with_options() -> None:
    """The options are those of Batcher, and rule the batches."""
    sizes: list[int] = []

    @batched(max_batch_size=2, max_delay=None)
    def opposite(numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        return negate(numbers)

    assert list(opposite.map([1, 2, 3])) == [-1, -2, -3]
    assert sizes == [2, 1]
    opposite.batcher.close()


def test_decorator_without_options_but_with_parentheses() -> None:
    """Empty parentheses are as good as none."""

    @batched()
    def opposite(numbers: list[int]) -> list[int]:
        return negate(numbers)

    assert opposite(1) == -1
    opposite.batcher.close()


def test_calls_at_the_same_time_become_one() -> None:
    """Callers in several threads share a call of the bulk function, and each gets its own result."""
    handler = RecordingHandler(negate)

    @batched(max_batch_size=3, max_delay=None, adaptive=False)
    def opposite(numbers: list[int]) -> list[int]:
        return list(handler(numbers))

    results = [elsewhere(opposite, number) for number in (1, 2, 3)]

    assert [result.result(PATIENCE) for result in results] == [-1, -2, -3]
    assert [sorted(batch) for batch in handler.batches] == [[1, 2, 3]]
    opposite.batcher.close()


def test_submit_returns_at_once() -> None:
    """A submitted item's Future is there before its batch is done."""

    @batched(max_delay=None)
    def opposite(numbers: list[int]) -> list[int]:
        return negate(numbers)

    futures = [opposite.submit(1), opposite.submit(2)]
    assert not any(future.done() for future in futures)

    opposite.batcher.flush()

    assert [future.result(0) for future in futures] == [-1, -2]
    opposite.batcher.close()


def test_map_times_out() -> None:
    """A map over a batched function takes the timeout of Batcher.map."""
    entered, opened = threading.Event(), threading.Event()

    @batched(max_delay=0.0)
    def hang(numbers: list[int]) -> None:
        entered.set()
        opened.wait(PATIENCE)

    with pytest.raises(TimeoutError):
        next(hang.map([1], timeout=0.01))
    assert entered.wait(PATIENCE)
    opened.set()
    hang.batcher.close()


def test_bulk_is_the_plain_function() -> None:
    """`bulk` is what was decorated, and needs no batcher."""

    def opposite(numbers: list[int]) -> list[int]:
        return negate(numbers)

    decorated = batched(opposite)

    assert decorated.bulk is opposite
    assert decorated.bulk([1, 2]) == [-1, -2]


def test_errors_reach_the_caller() -> None:
    """What the bulk function raises, or returns in an item's place, comes up at the call."""

    @batched
    def opposite(numbers: list[int]) -> list[int | Exception]:
        return [LookupError(number) if number < 0 else -number for number in numbers]

    assert opposite(1) == -1
    with pytest.raises(LookupError):
        opposite(-1)
    opposite.batcher.close()


def test_function_keeps_its_name_and_documentation() -> None:
    """A batched function looks like the one that was decorated."""

    @batched
    def opposite(numbers: list[int]) -> list[int]:
        """Tell the opposite."""
        return negate(numbers)

    assert (opposite.__name__, opposite.__doc__) == ("opposite", "Tell the opposite.")  # type: ignore[attr-defined]
    assert opposite.__module__ == __name__
    assert opposite.__wrapped__ is opposite.bulk  # type: ignore[attr-defined]


def test_batcher_is_named_after_the_function() -> None:
    """The batcher, and so its thread, has the function's name, unless another one was given."""
    plain, named = batched(negate), batched(name="mine")(negate)

    assert repr(plain.batcher) == "<Batcher 'negate' open pending=0 processing=0>"
    assert repr(named.batcher) == "<Batcher 'mine' open pending=0 processing=0>"


@pytest.mark.parametrize(
    "bulk",
    [functools.partial(map, str), len, lambda numbers: numbers, RecordingHandler()],
    ids=["partial", "builtin", "lambda", "object"],
)
def test_anything_callable_can_be_batched(bulk: Callable[[list[int]], list[int]]) -> None:
    """Partial functions, built-ins, lambdas and callable objects are functions as well."""
    decorated = batched(bulk)

    assert isinstance(decorated, Batched)
    assert decorated.bulk is bulk
    assert isinstance(decorated.batcher, Batcher)


def test_builtin_without_a_signature() -> None:
    """A built-in that doesn't say what it takes is taken for a function of a list."""
    assert isinstance(batched(dict), Batched)  # type: ignore[arg-type, unused-ignore]


def test_parameters_with_a_default_make_no_method() -> None:
    """Only two required parameters are taken for a method's."""

    @batched
    def scaled(numbers: list[int], factor: int = -1) -> list[int]:
        return [factor * number for number in numbers]

    assert isinstance(scaled, Batched)
    assert scaled(1) == -1
    scaled.batcher.close()


def test_what_is_no_function_is_refused() -> None:
    """Decorating what can't be called raises at once, and shows what it was."""
    with pytest.raises(TypeError, match="batched needs a function that takes a list, got 5"):
        batched(5)  # type: ignore[call-overload]


def test_wrong_options_raise_on_first_use() -> None:
    """The batcher checks its options, as ever; it is made by the first use."""
    opposite = batched(max_batch_size=0)(negate)

    for use in (opposite, opposite.submit):
        with pytest.raises(ValueError, match="max_batch_size must be an int of at least 1, got 0"):
            use(1)


def test_nothing_is_made_at_import() -> None:
    """Decorating starts no thread and makes no batcher; neither does looking at what was decorated."""
    probe = subprocess.run([sys.executable, "-c", IMPORT_PROBE], capture_output=True, text=True, check=True, timeout=30)

    assert probe.stdout.split() == ["1", "0"]


def test_batcher_is_made_once() -> None:
    """All uses share one batcher, which is there from the first use on."""
    opposite = batched(negate)
    made = opposite.batcher

    assert opposite(1) == -1
    assert opposite.batcher is made
    made.close()


def test_two_threads_make_the_batcher_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that both find no batcher end up with the same one, and neither's item is lost."""
    both_are_making = threading.Barrier(2)
    make = Batcher.__init__

    def make_together(self: Batcher[int, int], *args: object, **options: object) -> None:
        both_are_making.wait(PATIENCE)
        make(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Batcher, "__init__", make_together)
    opposite = batched(negate)
    results = [elsewhere(opposite, number) for number in (1, 2)]

    assert [result.result(PATIENCE) for result in results] == [-1, -2]
    assert opposite.batcher.status().succeeded == 2
    opposite.batcher.close()


def test_bulk_function_that_calls_itself() -> None:
    """A bulk function that waits for its own batcher gets a named error instead of hanging."""

    @batched(max_delay=0.0)
    def echo(numbers: list[int]) -> list[int]:
        return [echo(number) for number in numbers]

    with pytest.raises(ReentrantCallError):
        echo(1)
    echo.batcher.close()


def test_delay_follows_the_fake_clock() -> None:
    """A batcher that is made by the first use takes the clock of that moment."""
    opposite = batched(max_delay=60.0)(negate)
    with FakeClock() as clock:
        future = opposite.submit(1)
        clock.wait_for_sleepers(1)
        assert not future.done()

        clock.advance(60.0)

        assert future.result(PATIENCE) == -1
    opposite.batcher.close()


def test_batched_function_that_goes_away_is_silent(recwarn: pytest.WarningsRecorder) -> None:
    """The batcher of a function that is collected ends its thread without a warning: nobody could have closed it."""
    opposite = batched(negate)
    opposite(1)
    flusher = flusher_of(opposite.batcher)

    del opposite
    flusher.join(PATIENCE)

    assert not flusher.is_alive()
    assert not recwarn.list


def test_forked_child_has_its_own_batcher() -> None:
    """A child calls the same function, with its own thread and nothing of the parent's."""
    handler = RecordingHandler(negate)
    opposite: Batched[int, int] = batched(max_delay=3600.0)(handler)
    waiting = opposite.submit(1)

    def use() -> tuple[int, int, list[int]]:
        started_with = opposite.batcher.status().accepted
        future = opposite.submit(2)
        opposite.batcher.flush(PATIENCE)
        return started_with, future.result(0), handler.items

    assert in_child(use) == (0, -2, [2])
    opposite.batcher.flush()
    assert (waiting.result(0), handler.items) == (-1, [1])
    opposite.batcher.close()
