"""Whatever a handler returns or raises becomes one outcome per item, its own or a named error."""

import array
import collections
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from batcher import MissingResultError, ResultShapeError
from batcher._failure import Failure
from batcher._outcomes import fail_all, match


class Table:
    """What array libraries return: a length and integer indexing, and neither a list nor registered as one."""

    def __init__(self, *rows: object) -> None:
        """Hold the rows."""
        self.rows = rows

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> object:
        """Return one row."""
        return self.rows[index]


class Columns(Table):
    """A table that is indexed by name: `__len__` and `__getitem__` alone don't make a sequence."""

    def __getitem__(self, index: object) -> object:
        """Refuse numbers."""
        raise KeyError(index)


class Broken(Table):
    """A table whose length can't be told."""

    def __len__(self) -> int:
        """Raise what the first row is."""
        error = self.rows[0]
        assert isinstance(error, BaseException)
        raise error


class Growing(list[Any]):
    """A list to which another thread appends after its length was looked at."""

    def __iter__(self) -> Iterator[Any]:
        """Give what has come meanwhile as well."""
        yield from super().__iter__()
        yield "appended meanwhile"


def errors(outcomes: list[Any]) -> list[BaseException | None]:
    """Return the error of each outcome, None for a result."""
    return [outcome.error if isinstance(outcome, Failure) else None for outcome in outcomes]


def test_none_resolves_every_item_to_none() -> None:
    """A handler that returns nothing has nothing to say of any item."""
    assert match(["a", "b", "c"], None) == [None] * 3


@pytest.mark.parametrize(
    "returned",
    [[10, 20], (10, 20), range(10, 30, 10), array.array("i", [10, 20]), collections.deque([10, 20]), Table(10, 20)],
    ids=lambda returned: type(returned).__name__,
)
def test_sequence_gives_each_item_its_own_result(returned: object) -> None:
    """Result i of anything with a length and integer indexing is item i's."""
    assert match(["a", "b"], returned) == [10, 20]


def test_falsy_results_are_results() -> None:
    """None, zero and empty values in a sequence or mapping are what the item gets."""
    assert match(["a", "b", "c"], [None, 0, ""]) == [None, 0, ""]
    assert match(["a", "b"], {"a": None, "b": False}) == [None, False]


def test_outcomes_are_apart_from_the_returned_list() -> None:
    """What a handler does to its list after returning it changes no outcome."""
    returned = [1, 2]
    outcomes = match(["a", "b"], returned)
    returned[:] = [8, 9]

    assert outcomes == [1, 2]


@pytest.mark.parametrize(
    ("returned", "received"),
    [
        ([], "a list of length 0"),
        ([1], "a list of length 1"),
        ((1, 2, 3), "a tuple of length 3"),
        (range(5), "a range of length 5"),
        (Table(1), "a Table of length 1"),
        ("ab", "a str"),
        (b"ab", "a bytes"),
        (bytearray(b"ab"), "a bytearray"),
        ({1, 2}, "a set"),
        (frozenset({1, 2}), "a frozenset"),
        (7, "a int"),
        (True, "a bool"),
        (iter([1, 2]), "a list_iterator"),
        (map(str, [1, 2]), "a map"),
        (Columns(1, 2), "a Columns without integer indexing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_shape_fails_every_item(returned: object, received: str) -> None:
    """A wrong length, or what is no sequence, fails all items, and says what was expected and what came."""
    outcomes = match(["a", "b"], returned)

    assert [type(error) for error in errors(outcomes)] == [ResultShapeError] * 2
    assert all(outcome.shared for outcome in outcomes)
    assert str(outcomes[0].error) == (
        "the handler must return None, a sequence as long as the items, or a mapping by item: "
        f"expected 2 results, got {received}"
    )


def test_generator_is_not_run() -> None:
    """A handler that yields is a mistake, and nothing of it runs."""
    ran = []

    def handler() -> Iterator[int]:
        ran.append(1)
        yield 1

    outcomes = match(["a"], handler())

    assert type(outcomes[0].error) is ResultShapeError
    assert "got a generator" in str(outcomes[0].error)
    assert ran == []


def test_coroutine_is_closed() -> None:
    """An async handler fails its batch, without a second complaint that nobody awaited it."""

    async def handler() -> list[int]:
        return [1]

    coroutine = handler()
    outcomes = match(["a"], coroutine)

    assert "got a coroutine" in str(outcomes[0].error)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        coroutine.send(None)


def test_error_of_indexing_is_the_cause() -> None:
    """Where indexing fails the named error says why."""
    (outcome,) = match(["a"], Columns(1))

    assert isinstance(outcome.error.__cause__, KeyError)


@pytest.mark.parametrize("error", [OSError("unreadable"), MemoryError()], ids=repr)
def test_answer_whose_length_cannot_be_told_fails_the_batch(error: Exception) -> None:
    """What an answer's length raises is the cause of every item's error."""
    outcomes = match(["a", "b"], Broken(error))

    assert [type(each) for each in errors(outcomes)] == [ResultShapeError] * 2
    assert outcomes[0].error.__cause__ is error


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt()], ids=repr)
def test_length_that_would_end_the_thread_fails_the_batch(error: BaseException) -> None:
    """A length that raises outside the class Exception is every item's error, and nobody else's."""
    outcomes = match(["a", "b"], Broken(error))

    assert errors(outcomes) == [error] * 2


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt()], ids=repr)
def test_indexing_that_would_end_the_thread_fails_the_batch(error: BaseException) -> None:
    """An index that raises outside the class Exception is every item's error as well."""

    class Leaving(Table):
        def __getitem__(self, index: int) -> object:
            raise error

    assert errors(match(["a", "b"], Leaving(1, 2))) == [error] * 2


def test_list_that_grows_fails_the_batch() -> None:
    """A list that is still appended to gives no more outcomes than items: it is of another shape."""
    outcomes = match(["a", "b"], Growing([1, 2]))

    assert len(outcomes) == 2
    assert [type(error) for error in errors(outcomes)] == [ResultShapeError] * 2


def test_exception_among_results_fails_its_item_alone() -> None:
    """A result that is an exception is that item's error; the neighbours have their results."""
    bad = ValueError("bad")
    outcomes = match(["a", "b", "c"], ["A", bad, "C"])

    assert errors(outcomes) == [None, bad, None]
    assert [outcomes[0], outcomes[2]] == ["A", "C"]
    assert not outcomes[1].shared


def test_exception_in_an_array_fails_its_item_alone() -> None:
    """It doesn't matter what kind of sequence the exception is in."""
    bad = ValueError("bad")

    assert errors(match(["a", "b"], Table("A", bad))) == [None, bad]


def test_same_exception_for_several_items_is_shared() -> None:
    """One object given to several items is copied for each; one that comes once is not."""
    twice, once = ValueError("twice"), ValueError("once")
    outcomes = match(["a", "b", "c", "d"], [twice, once, twice, "D"])

    assert errors(outcomes) == [twice, once, twice, None]
    assert [outcome.shared for outcome in outcomes[:3]] == [True, False, True]


def test_exception_classes_and_exits_are_results() -> None:
    """Only an instance of Exception fails an item: a class, or an exit that was returned, is a result."""
    exits, bad = SystemExit(3), ValueError("bad")
    outcomes = match(["a", "b", "c"], [ValueError, exits, bad])

    assert outcomes[:2] == [ValueError, exits]
    assert errors(outcomes) == [None, None, bad]


def test_mapping_is_looked_up_by_item() -> None:
    """The order of a mapping means nothing, and what nobody asked for is left out."""
    assert match(["a", "b", "a"], {"c": 3, "b": 2, "a": 1}) == [1, 2, 1]
    assert match(["a", "b"], collections.ChainMap({"b": 2}, {"a": 1})) == [1, 2]


def test_missing_key_fails_that_item_alone() -> None:
    """An item that the mapping doesn't have gets a named error, which doesn't name the item."""
    outcomes = match(["a", "secret", "c"], {"a": 1, "c": 3})

    assert [outcomes[0], outcomes[2]] == [1, 3]
    assert type(outcomes[1].error) is MissingResultError
    assert not outcomes[1].shared
    assert "secret" not in str(outcomes[1].error)


def test_exception_in_a_mapping_fails_its_items() -> None:
    """A value that is an exception fails the items that find it, each with a copy of its own."""
    bad = ValueError("bad")
    outcomes = match(["a", "b", "a"], {"a": bad, "b": 2})

    assert errors(outcomes) == [bad, None, bad]
    assert outcomes[0].shared
    assert outcomes[2].shared


@pytest.mark.parametrize("error", [TypeError("unhashable"), SystemExit()], ids=repr)
def test_item_that_cannot_be_looked_up_fails_alone(error: BaseException) -> None:
    """What an item's own hash raises is that item's error."""

    class Odd:
        def __hash__(self) -> int:
            raise error

    outcomes = match(["a", Odd(), []], {"a": 1})

    assert outcomes[0] == 1
    assert outcomes[1].error is error
    assert isinstance(outcomes[2].error, TypeError)


def test_empty_mapping_is_no_sequence() -> None:
    """A mapping is one whatever its length: none of its items is there."""
    returned: Mapping[str, int] = {}

    assert [type(error) for error in errors(match(["a", "b"], returned))] == [MissingResultError] * 2


def test_answer_that_cannot_be_classified_fails_the_batch() -> None:
    """An answer that raises when asked for its class fails every item."""

    class Hidden:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise SystemExit

    assert [type(error) for error in errors(match(["a", "b"], Hidden()))] == [SystemExit] * 2


def test_batch_that_failed_as_a_whole() -> None:
    """One failure stands for all items, and is copied only where there is more than one."""
    error = ValueError()
    (alone,) = fail_all(1, error)
    first, second = fail_all(2, error)

    assert alone.error is first.error is error
    assert first is second
    assert (alone.shared, first.shared) == (False, True)


class Proxy:
    """What stands for an object that isn't there: even its class can't be told."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Raise, as a proxy does outside of its context."""
        raise RuntimeError("outside of the context")


class Unhashable(type):
    """A class of classes with an equality of its own, and so without a hash."""

    def __eq__(cls, other: object) -> bool:
        """Be equal to nothing."""
        return False

    __hash__ = None  # type: ignore[assignment]


class Odd(metaclass=Unhashable):
    """An instance of a class that no set can hold."""


@pytest.mark.parametrize("kind", [Proxy, Odd])
def test_results_may_be_of_any_class(kind: type) -> None:
    """Whatever the classes of the results do, results come back as they are, and errors among them are errors."""
    result, error = kind(), ValueError()
    first, second = match([1, 2], [result, error])

    assert first is result
    assert type(second) is Failure
    assert second.error is error
    assert match([1], {1: result})[0] is result
