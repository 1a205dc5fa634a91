"""An error reaches each caller as its own object, of the handler's own type."""

import asyncio
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any, NoReturn, Self

import pytest

from batcher import BatchError
from batcher._failure import Failure
from tests.lone_owner import LoneOwner, meanwhile


class Rejected(Exception):  # noqa: N818 - the name of some handler's error
    """A handler's error with a state of its own."""

    def __init__(self, code: int) -> None:
        """Keep the code."""
        super().__init__(code)
        self.code = code


class Unlucky(Exception):  # noqa: N818
    """An error whose copy fails: its arguments aren't those that it is made with."""

    def __init__(self, code: int, reason: str) -> None:
        """Say only half of it."""
        super().__init__(f"{code}: {reason}")


class Lossy(Exception):  # noqa: N818
    """An error whose copy isn't the same."""

    def __copy__(self) -> Self:
        """Make something else."""
        return type(self)("something else")


class Single(Exception):  # noqa: N818
    """An error that gives itself for its copy."""

    def __copy__(self) -> Self:
        """Stay one."""
        return self


class Foreign(Exception):  # noqa: N818
    """An error whose copy is of another type."""

    def __copy__(self) -> Exception:
        """Make another error."""
        return ValueError(*self.args)


class Explosive(Exception):  # noqa: N818
    """An error whose copying would end the thread."""

    def __reduce__(self) -> NoReturn:
        """Leave."""
        raise SystemExit


def raised(error: BaseException) -> BaseException:
    """Return the error as a handler's frames left it."""

    def handler() -> NoReturn:
        raise error

    try:
        handler()
    except BaseException as caught:
        own = caught.__traceback__
        return caught.with_traceback(own and own.tb_next)


def functions(error: BaseException) -> list[str]:
    """Name the functions of an error's traceback."""
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]


@pytest.fixture(name="owner")
def _owner() -> LoneOwner:
    """What stands for the batcher."""
    return LoneOwner()


def failed(owner: LoneOwner, error: BaseException, count: int = 2) -> list[Any]:
    """Return futures of a batch that failed with `error`."""
    futures = owner.futures(count)
    failure = Failure(raised(error), shared=count > 1)
    owner.settle_all((future, failure) for future in futures)
    return futures


def test_each_future_raises_its_own_object(owner: LoneOwner) -> None:
    """Futures of one failed batch raise equal errors of the handler's type, and never the same object."""
    error, cause = Rejected(418), KeyError("cause")
    error.__cause__ = cause
    own = []
    for future in failed(owner, error, 3):
        with pytest.raises(Rejected) as caught:
            future.result()
        own.append(caught.value)

    assert len({id(each) for each in [*own, error]}) == 4
    assert [(type(each), each.args, each.code) for each in own] == [(Rejected, (418,), 418)] * 3
    assert [each.__cause__ for each in own] == [cause] * 3
    assert [each.__suppress_context__ for each in own] == [True] * 3


def test_context_is_kept(owner: LoneOwner) -> None:
    """What the handler was handling when it raised is there to see in each copy."""
    error = Rejected(418)
    error.__context__ = context = OSError("context")
    copies = [future.exception() for future in failed(owner, error)]

    assert [each.__context__ for each in copies] == [context] * 2
    assert [each.__suppress_context__ for each in copies] == [False] * 2


def test_same_object_each_time(owner: LoneOwner) -> None:
    """One future gives the same error however often, and whichever way, it is asked."""
    future = failed(owner, Rejected(1))[0]
    with pytest.raises(Rejected) as first:
        future.result()
    with pytest.raises(Rejected) as second:
        future.result(0)

    assert first.value is second.value is future.exception()


def test_error_of_one_item_comes_as_it_is(owner: LoneOwner) -> None:
    """Where only one future raises an error there is nothing to copy."""
    error = Unlucky(1, "alone")

    assert failed(owner, error, 1)[0].exception() is error


def test_note_of_one_caller_is_nobody_elses(owner: LoneOwner) -> None:
    """Notes that the handler made reach everybody; what a caller adds stays with that caller."""
    error = Rejected(1)
    error.add_note("of the handler")
    first, second = (future.exception() for future in failed(owner, error))
    first.add_note("of the first caller")

    assert first.__notes__ == ["of the handler", "of the first caller"]
    assert second.__notes__ == ["of the handler"]


@pytest.mark.parametrize("count", [1, 2], ids=["alone", "shared"])
def test_traceback_does_not_grow(owner: LoneOwner, count: int) -> None:
    """However often an error is raised its traceback shows the present caller's frames and the handler's."""
    futures = failed(owner, Rejected(1), count)
    seen = []
    for _ in range(100):
        for future in futures:
            with pytest.raises(Rejected) as caught:
                future.result()
            seen.append(functions(caught.value))

    assert seen == [["test_traceback_does_not_grow", "result", "handler"]] * 100 * count


@pytest.mark.parametrize("make", [lambda: Rejected(1), lambda: Unlucky(1, "x")], ids=["copied", "wrapped"])
@pytest.mark.parametrize("count", [1, 2], ids=["alone", "shared"])
def test_error_that_nobody_raised_yet_shows_the_handler(
    owner: LoneOwner, count: int, make: Callable[[], Exception]
) -> None:
    """`exception()` gives an error whose traceback leads to the handler, as that of any Future does."""
    for future in failed(owner, make(), count):
        assert functions(future.exception()) == ["handler"]


def test_awaited_error_shows_the_handler(owner: LoneOwner) -> None:
    """An error that comes through asyncio leads to the handler as well."""
    future = failed(owner, Rejected(1))[0]

    async def main() -> None:
        await asyncio.wrap_future(future)

    with pytest.raises(Rejected) as caught:
        asyncio.run(main())
    assert functions(caught.value)[-1] == "handler"


@pytest.mark.parametrize(
    "error",
    [Unlucky(1, "x"), Lossy("x"), Single("x"), Foreign("x"), Explosive("x")],
    ids=lambda error: type(error).__name__,
)
def test_uncopyable_error_comes_wrapped(owner: LoneOwner, error: Exception) -> None:
    """An error with no true copy comes wrapped, with the original as cause; each future has its own wrapper."""
    own = []
    for future in failed(owner, error):
        with pytest.raises(BatchError, match=rf"^the handler raised {type(error).__name__}, which") as caught:
            future.result()
        own.append(caught.value)

    assert own[0] is not own[1]
    assert [each.__cause__ for each in own] == [error] * 2
    assert [functions(each)[-1] for each in own] == ["handler"] * 2


def test_wrapper_does_not_grow(owner: LoneOwner) -> None:
    """Raised a hundred times, neither the wrapper's traceback nor the original's gets longer."""
    error = Unlucky(1, "x")
    futures = failed(owner, error)
    depths = set()
    for _ in range(100):
        for future in futures:
            with pytest.raises(BatchError) as caught:
                future.result()
            depths.add((len(functions(caught.value)), len(functions(error))))

    assert depths == {(3, 1)}


@pytest.mark.parametrize("kind", [StopIteration, type("Ended", (StopIteration,), {})], ids=["itself", "subclass"])
@pytest.mark.parametrize("count", [1, 2], ids=["alone", "shared"])
def test_stop_iteration_becomes_a_runtime_error(owner: LoneOwner, kind: type[StopIteration], count: int) -> None:
    """A StopIteration of a handler ends no caller's loop: it comes as a RuntimeError, with itself as cause."""
    stop = kind("last value")
    futures = failed(owner, stop, count)

    class Results:
        def __iter__(self) -> Iterator[Any]:
            return self

        def __next__(self) -> Any:
            return futures[0].result()

    with pytest.raises(RuntimeError, match=r"^the handler raised StopIteration$") as caught:
        list(Results())
    assert type(caught.value) is RuntimeError
    assert caught.value.__cause__ is stop


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_error_outside_exception_comes_through(owner: LoneOwner, kind: type[BaseException]) -> None:
    """What a handler raises outside the class Exception reaches its callers as well."""
    for future in failed(owner, kind()):
        with pytest.raises(kind):
            future.result()


def test_group_of_errors_is_copied(owner: LoneOwner) -> None:
    """A group comes as a group of the same errors, an own one for each future."""
    first, second = (future.exception() for future in failed(owner, ExceptionGroup("all", [ValueError(1)])))

    assert first is not second
    assert first.exceptions == second.exceptions
    assert type(first) is type(second) is ExceptionGroup


def test_callers_of_one_future_agree_on_the_error(owner: LoneOwner) -> None:
    """Two threads that ask at once get the same object: the copy that came second is forgotten."""
    inner: list[object] = []
    futures = owner.futures(2)

    class Asking(Exception):  # noqa: N818
        def __copy__(self) -> "Asking":
            if not inner:
                inner.append("asked")
                # Another thread comes in while this one copies, and is faster.
                with meanwhile(futures[0].exception) as ends:
                    pass
                inner[:] = ends
            return Asking(*self.args)

    failure = Failure(Asking("x"), shared=True)
    owner.settle_all((future, failure) for future in futures)
    outer = futures[0].exception()

    assert isinstance(outer, Asking)
    assert inner == [outer]
    assert futures[1].exception() is not outer


def test_failed_futures_are_done(owner: LoneOwner) -> None:
    """A failed future is an ended one for everybody who looks."""
    futures = failed(owner, Rejected(1), 3)

    assert all(future.done() and not future.cancelled() and not future.running() for future in futures)
    assert wait(futures, 0) == (set(futures), set())
