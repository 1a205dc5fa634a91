"""`throttled` on functions and methods."""

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from batcher import Throttle, throttled
from batcher.testing import FakeClock
from tests import stage
from tests.stage import PATIENCE, elsewhere

clock = stage.clock


def test_throttled_function_waits_for_its_start(clock: FakeClock) -> None:
    """Each call of a throttled function is a start of its own throttle, with arguments and result kept."""

    @throttled(max_per_second=1)
    def join(*parts: str, by: str) -> str:
        return by.join(parts)

    assert join("a", "b", by="-") == "a-b"
    future = elsewhere(join, "c", by="-")
    clock.wait_for_sleepers(1)
    assert join.throttle.status().waiting == 1
    clock.advance(1.0)
    assert future.result(PATIENCE) == "c"
    assert join.throttle.status().active == 0


def test_instances_share_the_throttle_of_a_method(clock: FakeClock) -> None:
    """A throttled method has one throttle for all instances, reached by class and instance."""

    class Client:
        def __init__(self, name: str) -> None:
            self.name = name

        @throttled(max_per_second=2)
        def get(self, path: str) -> str:
            return f"{self.name}:{path}"

    one, two = Client("one"), Client("two")

    assert (one.get("/a"), two.get(path="/b")) == ("one:/a", "two:/b")
    assert one.get.throttle is two.get.throttle is Client.get.throttle
    assert not Client.get.throttle.acquire(0)


def test_static_and_class_methods(clock: FakeClock) -> None:
    """Static and class methods are throttled whichever decorator stands above the other."""
    shared = Throttle(max_per_second=4)

    class Client:
        @staticmethod
        @throttled(shared)
        def below(number: int) -> int:
            return number

        @throttled(shared)
        @staticmethod
        def above(number: int) -> int:
            return number

        @classmethod
        @throttled(shared)
        def name_below(cls) -> str:
            return cls.__name__

        @throttled(shared)
        @classmethod
        def name_above(cls) -> str:
            return cls.__name__

    assert (Client.below(3), Client.above(4)) == (3, 4)
    assert (Client.name_below(), Client().name_above()) == ("Client", "Client")
    assert Client().above.throttle is Client.name_above.throttle
    assert not shared.acquire(0)


def test_functions_may_share_a_throttle(clock: FakeClock) -> None:
    """Functions that are given the same throttle count together."""
    shared = Throttle(max_per_second=2)

    @throttled(shared)
    def one() -> int:
        return 1

    @throttled(shared)
    def two() -> int:
        return 2

    assert (one(), two()) == (1, 2)
    assert one.throttle is two.throttle is shared
    assert not shared.acquire(0)


def test_function_keeps_its_looks() -> None:
    """Name, documentation and signature stay."""

    @throttled(max_concurrent=1)
    def documented(number: int = 3) -> int:
        """Say something."""
        return number

    looks: Any = documented
    assert looks.__name__ == "documented"
    assert looks.__doc__ == "Say something."
    assert str(inspect.signature(looks)) == "(number: int = 3) -> int"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((len,), {}, "throttled needs a Throttle or its options, got <built-in function len> and {}"),
        ((Throttle(max_concurrent=1),), {"max_burst": 3}, r"got Throttle\(max_concurrent=1\) and {'max_burst': 3}"),
    ],
    ids=["bare", "both"],
)
def test_throttle_or_options_are_needed(arguments: tuple[Any], options: dict[str, Any], message: str) -> None:
    """Without limits, as a bare decorator, or with a throttle and limits, it is refused."""
    decorator: Any = throttled
    with pytest.raises(TypeError, match=message):
        decorator(*arguments, **options)


def test_options_are_checked_at_once() -> None:
    """Bad limits are refused where the function is defined, not at its first call."""
    with pytest.raises(ValueError, match="at least one"):
        throttled()


def test_what_runs_later_is_refused() -> None:
    """What does nothing when it is called can't be throttled by its calls; nor can what can't be called."""

    async def coroutine() -> None:
        pass

    async def stream() -> AsyncIterator[int]:
        yield 1

    def generate() -> Iterator[int]:
        yield 1

    decorate: Any = throttled(max_concurrent=1)
    for function in (coroutine, stream, generate):
        with pytest.raises(TypeError, match="does its work when it is called"):
            decorate(function)
    with pytest.raises(TypeError, match="throttled needs a function, got 3"):
        decorate(3)
