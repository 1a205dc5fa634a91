"""`batched` on methods: a batcher for each instance, which the batcher doesn't keep alive but its items do."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Batched, BatchedMethod, _decorators, batched
from batcher.testing import FakeClock
from tests.forks import in_child
from tests.stage import PATIENCE, elsewhere, flusher_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batcher import Batcher


class Scale:
    """Multiplies: the plainest class with a batched method."""

    def __init__(self, factor: int = 1) -> None:
        """Multiply by `factor`."""
        self.factor = factor
        self.batches: list[list[int]] = []
        self.opened = threading.Event()
        self.opened.set()

    @batched(max_delay=None)
    def times(self, numbers: list[int]) -> list[int]:
        """Multiply."""
        self.batches.append(numbers)
        assert self.opened.wait(PATIENCE)
        return [self.factor * number for number in numbers]

    @batched(max_delay=0.0)
    def fail(self, numbers: list[int]) -> None:
        """Say who failed."""
        raise LookupError(self.factor)


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Have flushers sleep on a clock that tells when they do."""
    with FakeClock() as fake:
        yield fake


def close(*functions: Batched[Any, Any]) -> None:
    """Close the batchers of batched functions."""
    for function in functions:
        function.batcher.close()


def test_each_instance_has_its_batcher() -> None:
    """Items of two instances never share a call, and each is handled by its own instance."""
    two, three = Scale(2), Scale(3)
    futures = [two.times.submit(1), three.times.submit(1), two.times.submit(2), three.times.submit(2)]

    two.times.batcher.flush()
    three.times.batcher.flush()

    assert [future.result(0) for future in futures] == [2, 3, 4, 6]
    assert (two.batches, three.batches) == ([[1, 2]], [[1, 2]])
    close(two.times, three.times)


def test_batcher_stays_the_same() -> None:
    """Every look at a method finds the same batcher, another than that of the next method."""
    scale = Scale()

    assert scale.times.batcher is scale.times.batcher
    assert len({id(scale.times.batcher), id(scale.fail.batcher)}) == 2
    assert repr(scale.times.batcher) == "<Batcher 'Scale.times' open pending=0 processing=0>"


def test_every_way_to_call_a_method() -> None:
    """A method on an instance is a batched function: submit, map, bulk and batcher are there."""
    scale = Scale(2)

    assert isinstance(scale.times, Batched)
    assert list(scale.times.map([1, 2])) == [2, 4]
    assert scale.times.bulk([3]) == [6]
    future = scale.times.submit(4)
    scale.times.batcher.flush()
    assert future.result(0) == 8
    with pytest.raises(LookupError, match="2"):
        scale.fail(1)
    close(scale.times, scale.fail)


def test_method_keeps_its_name_and_documentation() -> None:
    """On the class and on an instance, a batched method looks like the one that was decorated."""
    for method in (Scale.times, Scale().times):
        assert (method.__name__, method.__doc__) == ("times", "Multiply.")  # type: ignore[union-attr]


def test_instance_is_not_kept_alive(clock: FakeClock) -> None:
    """An instance that nobody uses is freed, though its results are still around, and its thread ends silently."""
    scale = Scale(2)
    future = scale.times.submit(1)
    scale.times.batcher.flush()
    flusher, gone = flusher_of(scale.times.batcher), weakref.ref(scale)
    clock.wait_for_sleepers(1)

    del scale

    assert gone() is None
    flusher.join(PATIENCE)
    assert not flusher.is_alive()
    assert future.result(0) == 2


def test_waiting_items_keep_the_instance(clock: FakeClock) -> None:
    """An instance whose items wait lives until they are done, and no longer."""
    scale = Scale(2)
    futures = [scale.times.submit(number) for number in (1, 2)]
    batcher, gone = scale.times.batcher, weakref.ref(scale)
    clock.wait_for_sleepers(1)
    del scale
    gc.collect()
    assert gone() is not None

    batcher.flush()
    clock.wait_for_sleepers(1)

    assert [future.result(0) for future in futures] == [2, 4]
    assert gone() is None


def test_items_in_the_handler_keep_the_instance(clock: FakeClock) -> None:
    """An instance lives while its method runs, and is freed after."""
    scale = Scale(2)
    scale.opened.clear()
    opened = scale.opened
    batcher, gone = scale.times.batcher, weakref.ref(scale)
    result = elsewhere(next, scale.times.map([1]))
    del scale
    opened.set()

    assert result.result(PATIENCE) == 2
    clock.wait_for_sleepers(1)
    del result
    assert gone() is None
    assert batcher.status().succeeded == 1


def test_instance_in_a_circle_is_freed(clock: FakeClock) -> None:
    """An instance that only garbage collection can free is freed, with its thread."""
    scale = Scale()
    scale.circle = scale  # type: ignore[attr-defined]
    scale.times.submit(1)
    scale.times.batcher.flush()
    flusher = flusher_of(scale.times.batcher)
    clock.wait_for_sleepers(1)

    del scale
    gc.collect()

    flusher.join(PATIENCE)
    assert not flusher.is_alive()


def test_many_short_lived_instances(clock: FakeClock) -> None:
    """Nothing is left of instances that came and went."""
    kept = len(Scale.times._batchers)
    for number in range(20):
        scale = Scale(number)
        scale.times.submit(1)
        scale.times.batcher.flush()
        clock.wait_for_sleepers(1)
        flusher = flusher_of(scale.times.batcher)
        del scale
        flusher.join(PATIENCE)

    assert len(Scale.times._batchers) == kept


def test_destructor_that_adds(clock: FakeClock) -> None:
    """What a destructor submits is handled, by the instance that was about to go."""
    handled: list[tuple[str, list[str]]] = []

    class Log:
        name = "log"

        @batched(max_delay=0.0)
        def write(self, lines: list[str]) -> None:
            handled.append((self.name, lines))

        def __del__(self) -> None:
            flushers.append(flusher_of(self.write.batcher))
            self.write.submit("last")

    flushers: list[threading.Thread] = []
    log = Log()
    log.write("first")
    clock.wait_for_sleepers(1)
    del log

    flushers[0].join(PATIENCE)
    assert handled == [("log", ["first"]), ("log", ["last"])]


def test_new_owner_of_an_id_is_left_alone() -> None:
    """When an instance goes whose id has a new owner already, the new owner's batcher stays."""
    old, new = Scale(), Scale()
    old_ref, new_ref = weakref.ref(old), weakref.ref(new)
    batchers = {1: (new_ref, new.times.batcher)}

    _decorators._forget(batchers, 1, old_ref)
    assert list(batchers) == [1]
    _decorators._forget(batchers, 2, old_ref)
    assert list(batchers) == [1]
    _decorators._forget(batchers, 1, new_ref)
    assert not batchers


def test_two_threads_make_the_batcher_of_an_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that both find no batcher end up with the same one, and neither's item is lost."""
    both_are_making = threading.Barrier(2)
    make = _decorators._make

    def make_together(*args: Any) -> Batcher[Any, Any]:
        both_are_making.wait(PATIENCE)
        return make(*args)

    monkeypatch.setattr(_decorators, "_make", make_together)
    scale = Scale(2)
    futures = [elsewhere(scale.times.submit, number) for number in (1, 2)]
    results = [future.result(PATIENCE) for future in futures]
    scale.times.batcher.flush()

    assert [result.result(0) for result in results] == [2, 4]
    assert scale.times.batcher.status().accepted == 2
    close(scale.times)


def test_slots_with_weak_references() -> None:
    """A class with `__slots__` works as any other where "__weakref__" is among them."""

    class Slotted:
        __slots__ = ("__weakref__", "factor")

        def __init__(self, factor: int) -> None:
            self.factor = factor

        @batched(max_delay=0.0)
        def times(self, numbers: list[int]) -> list[int]:
            return [self.factor * number for number in numbers]

    two, three = Slotted(2), Slotted(3)

    assert (two.times(1), three.times(1)) == (2, 3)


def test_slots_without_weak_references() -> None:
    """A class whose instances can't be referred to weakly gets an error that says what to do."""

    class Slotted:
        __slots__ = ()

        @batched
        def times(self, numbers: list[int]) -> list[int]:
            return numbers

    slotted = Slotted()

    assert slotted.times.bulk([1]) == [1]
    with pytest.raises(TypeError, match=r'Slotted allows no weak references.*add "__weakref__" to its __slots__'):
        slotted.times(1)


def test_unhashable_and_equal_instances() -> None:
    """Instances are told apart by what they are, not by equality; they need no hash."""

    class Vector(list[int]):
        @batched(max_delay=0.0)
        def times(self, numbers: list[int]) -> list[int]:
            return [id(self) for _ in numbers]

    one, same = Vector([1]), Vector([1])

    assert one == same
    assert (one.times(1), same.times(1)) == (id(one), id(same))


def test_subclasses() -> None:
    """An inherited method handles the subclass's instance; an overriding one can use the plain one above it."""

    class Heir(Scale):
        pass

    class Doubling(Scale):
        @batched(max_delay=None)
        def times(self, numbers: list[int]) -> list[int]:
            return [2 * number for number in super().times.bulk(numbers)]

    heir, doubling = Heir(3), Doubling(3)

    assert next(heir.times.map([1])) == 3
    assert next(doubling.times.map([1])) == 6
    close(heir.times, doubling.times)


def test_method_on_the_class() -> None:
    """On the class there is no batcher, and a call says so."""
    assert isinstance(Scale.times, BatchedMethod)
    with pytest.raises(TypeError, match=r"Scale\.times is batched for each instance and was called without one"):
        Scale.times(Scale(), 1)


def test_function_of_two_parameters_outside_a_class() -> None:
    """What looks like a method and is none gets an error at the call, not a wrong result."""

    @batched
    def scaled(factor: int, numbers: list[int]) -> list[int]:
        return [factor * number for number in numbers]

    assert isinstance(scaled, BatchedMethod)
    with pytest.raises(TypeError, match=r"scaled is batched for each instance .* with 2 arguments"):
        scaled(1, [2])


def test_class_methods() -> None:
    """A class method has a batcher for each class, on the class and on its instances alike."""

    class Doubled:
        factor = 2

        @batched(max_delay=0.0)
        @classmethod
        def times(cls, numbers: list[int]) -> list[int]:
            """Multiply by the class's factor."""
            return [cls.factor * number for number in numbers]

    class Tripled(Doubled):
        factor = 3

    assert Doubled.times(1) == 2
    assert Tripled.times(1) == 3
    assert Tripled().times(1) == 3
    assert Doubled.times.batcher is Doubled().times.batcher
    assert Doubled.times.batcher is not Tripled.times.batcher
    assert Doubled.times.bulk([5]) == [10]
    assert Doubled.times.__doc__ == "Multiply by the class's factor."
    close(Doubled.times, Tripled.times)


def test_static_methods() -> None:
    """A static method has one batcher for all classes and instances, in either order of the decorators."""

    class Opposite:
        @batched(max_delay=0.0)
        @staticmethod
        def inside(numbers: list[int]) -> list[int]:
            return [-number for number in numbers]

        @staticmethod
        @batched(max_delay=0.0)
        def outside(numbers: list[int]) -> list[int]:
            return [-number for number in numbers]

    class Heir(Opposite):
        pass

    for functions in (
        (Opposite.inside, Opposite().inside, Heir.inside),
        (Opposite.outside, Opposite().outside, Heir.outside),
    ):
        assert [function(1) for function in functions] == [-1, -1, -1]
        assert len({id(function.batcher) for function in functions}) == 1
        close(functions[0])


def test_classmethod_outside() -> None:
    """Below a classmethod, `batched` works where classmethods chain, and else says what is wrong."""

    class Opposite:
        @classmethod
        @batched(max_delay=0.0)
        def of_class(cls, numbers: list[int]) -> list[int]:
            return [-number for number in numbers]

    of_class: Any = Opposite.of_class
    if sys.version_info < (3, 13):
        assert of_class(1) == -1
        close(of_class)
    else:
        with pytest.raises(TypeError, match="@batched must be the outermost decorator"):
            of_class(1)


def test_forked_child_has_its_own_batchers(clock: FakeClock) -> None:
    """In a child, the instance's method has nothing of the parent's, and its items keep the instance as ever."""
    scales = [Scale(2)]
    batcher, batches, gone = scales[0].times.batcher, scales[0].batches, weakref.ref(scales[0])
    scales[0].times.submit(1)
    batcher.flush()
    clock.wait_for_sleepers(1)

    def use() -> tuple[int, int, list[list[int]]]:
        future = scales[0].times.submit(5)
        accepted = batcher.status().accepted
        scales.clear()
        gc.collect()
        assert gone() is not None
        batcher.flush(PATIENCE)
        return future.result(0), accepted, batches

    assert in_child(use) == (10, 1, [[1], [5]])
    assert batches == [[1]]
    close(scales[0].times)
