"""What a type checker knows of the public interface.

mypy and pyright read this file, nobody runs it. A `type: ignore` marks a mistake that both of them must report: where
one of them doesn't, the comment itself is reported as unused.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, assert_type

from batcher import Batched, BatchedMethod, Batcher, BatcherStatus, FlushReport, batched
from batcher.testing import RecordingHandler


@dataclass
class User:
    """What the examples load."""

    id: int


class NotFoundError(Exception):
    """What the examples fail with."""


# Functions: bare and with options, by what they return.


@batched
def as_list(ids: list[int]) -> list[User]:
    """Return a list."""
    return [User(i) for i in ids]


@batched(max_batch_size=50, max_delay=0.01)
def with_options(ids: list[int]) -> list[User]:
    """Return a list."""
    return [User(i) for i in ids]


@batched
def as_tuple(ids: list[int]) -> tuple[User, ...]:
    """Return a tuple."""
    return tuple(User(i) for i in ids)


@batched
def as_sequence(ids: Sequence[int]) -> Sequence[User]:
    """Return some sequence, and ask for no more than one."""
    return [User(i) for i in ids]


@batched
def as_mapping(ids: list[int]) -> Mapping[int, User]:
    """Return a mapping by item."""
    return {i: User(i) for i in ids}


@batched(max_delay=None)
def as_dict(ids: list[int]) -> dict[int, User]:
    """Return a dict by item."""
    return {i: User(i) for i in ids}


@batched
def nothing(ids: list[int]) -> None:
    """Return nothing."""


@batched(name="nothing")
def nothing_with_options(ids: list[int]) -> None:
    """Return nothing."""


@batched
def some_missing(ids: list[int]) -> list[User | None]:
    """Return None in some places: a result as any other."""
    return [None for _ in ids]


@batched
def some_failing(ids: list[int]) -> list[User | Exception]:
    """Return an exception in some places: those calls raise it."""
    return [NotFoundError(i) for i in ids]


@batched(max_delay=0.0)
def some_failing_by_item(ids: list[int]) -> dict[int, User | Exception]:
    """Return exceptions in a mapping."""
    return {i: NotFoundError(i) for i in ids}


@batched
def unknown(ids: list[int]) -> Any:
    """Return what nobody has described."""
    return ids


def functions() -> None:
    """One item in, its result out; a batched function carries the types of both."""
    assert_type(as_list, Batched[int, User])
    assert_type(with_options, Batched[int, User])
    assert_type(as_list(1), User)
    assert_type(with_options(1), User)
    assert_type(as_tuple(1), User)
    assert_type(as_sequence(1), User)
    assert_type(as_mapping(1), User)
    assert_type(as_dict(1), User)
    assert_type(some_missing(1), User | None)
    assert_type(some_failing(1), User)
    assert_type(some_failing_by_item(1), User)
    assert_type(unknown(1), Any)
    assert_type(nothing, Batched[int, None])
    assert_type(nothing_with_options, Batched[int, None])


def ways_to_call() -> None:
    """Submit gives a Future, map an iterator, bulk the plain function, batcher the Batcher."""
    assert_type(as_list.submit(1), Future[User])
    assert_type(as_list.map([1, 2]), Iterator[User])
    assert_type(as_list.map(iter([1]), timeout=1.0), Iterator[User])
    assert_type(as_list.bulk, Callable[[list[int]], Any])
    assert_type(as_list.batcher, Batcher[int, User])
    assert_type(nothing.submit(1), Future[None])


def mistakes() -> None:
    """The wrong kind of item, several items, and unknown options are found."""
    as_list("1")  # type: ignore[arg-type]
    as_list([1])  # type: ignore[arg-type]
    as_list(1, 2)  # type: ignore[call-arg]
    as_list.submit("1")  # type: ignore[arg-type]
    as_list.map(["1"])  # type: ignore[list-item]
    as_list.bulk(1)  # type: ignore[arg-type]
    batched(max_batch=5)  # type: ignore[call-overload]
    batched(max_delay="5")  # type: ignore[call-overload]


# Methods: on an instance, on the class, on neither.


class Repository:
    """A class with every kind of batched method."""

    @batched
    def load(self, ids: list[int]) -> list[User]:
        """Be a plain method."""
        return [User(i) for i in ids]

    @batched(max_batch_size=50)
    def load_with_options(self, ids: list[int]) -> dict[int, User | Exception]:
        """Be a plain method."""
        return {i: User(i) for i in ids}

    @batched
    def save(self, users: list[User]) -> None:
        """Return nothing."""

    @batched
    @classmethod
    def of_class(cls, ids: list[int]) -> list[User]:
        """Be a class method."""
        return [User(i) for i in ids]

    @batched(max_batch_size=50)
    @classmethod
    def of_class_with_options(cls, ids: list[int]) -> None:
        """Be a class method that returns nothing."""

    @batched
    @staticmethod
    def static(ids: list[int]) -> list[User]:
        """Be a static method."""
        return [User(i) for i in ids]

    @batched(max_batch_size=50)
    @staticmethod
    def static_with_options(ids: list[int]) -> list[User]:
        """Be a static method."""
        return [User(i) for i in ids]

    @staticmethod
    @batched
    def static_outside(ids: list[int]) -> list[User]:
        """Be a static method in the other order of decorators."""
        return [User(i) for i in ids]


class Special(Repository):
    """A class that inherits them."""


def methods(repository: Repository, special: Special) -> None:
    """On an instance, a batched method is a batched function."""
    assert_type(repository.load, Batched[int, User])
    assert_type(repository.load(1), User)
    assert_type(repository.load_with_options(1), User)
    assert_type(repository.load.submit(1), Future[User])
    assert_type(repository.load.map([1]), Iterator[User])
    assert_type(repository.load.batcher, Batcher[int, User])
    assert_type(special.load(1), User)
    assert_type(repository.save, Batched[User, None])
    assert_type(Repository.load, BatchedMethod[Repository, int, User])
    repository.load("1")  # type: ignore[arg-type]
    repository.save(1)  # type: ignore[arg-type]


def methods_of_the_class(repository: Repository) -> None:
    """Class and static methods are batched functions on the class and on its instances."""
    assert_type(Repository.of_class, Batched[int, User])
    assert_type(Repository.of_class(1), User)
    assert_type(repository.of_class(1), User)
    assert_type(Special.of_class.submit(1), Future[User])
    assert_type(Repository.of_class_with_options, Batched[int, None])
    assert_type(Repository.static(1), User)
    assert_type(repository.static(1), User)
    assert_type(Repository.static_with_options(1), User)
    assert_type(Repository.static_outside(1), User)
    assert_type(repository.static_outside(1), User)
    Repository.of_class("1")  # type: ignore[arg-type]
    Repository.static("1")  # type: ignore[arg-type]


# Batcher: what goes in and what comes out follow from the handler.


def load(ids: list[int]) -> list[User]:
    """Return a list."""
    return [User(i) for i in ids]


def load_some(ids: list[int]) -> dict[int, User | Exception]:
    """Return a mapping with exceptions."""
    return {i: NotFoundError(i) for i in ids}


def save(users: list[User]) -> None:
    """Return nothing."""


def batcher() -> None:
    """No annotation is needed where there is a handler."""
    users = Batcher(load, max_batch_size=10, batch_key=lambda i: i % 7, weigh=float)
    assert_type(users, Batcher[int, User])
    assert_type(users.add(1), Future[User])
    assert_type(users.add(1).result(), User)
    assert_type(users.add(1, timeout=1.0, block_timeout=None).exception(), BaseException | None)
    assert_type(users.add_many([1, 2]), list[Future[User]])
    assert_type(users.add(1, priority=2), Future[User])
    assert_type(users.add_many([1, 2], priority=-1), list[Future[User]])
    assert_type(users.map(range(3)), Iterator[User])
    assert_type(users.flush(1.0), FlushReport)
    assert_type(users.close(drain=False), FlushReport)
    assert_type(users.status(), BatcherStatus)
    assert_type(Batcher(load_some), Batcher[int, User])
    assert_type(Batcher(save), Batcher[User, Any])
    with Batcher(load) as entered:
        assert_type(entered, Batcher[int, User])
    Batcher(RecordingHandler(), max_delay=None).put("anything")


def wrong_items() -> None:
    """Whatever doesn't fit the handler is found."""
    users = Batcher(load)
    users.add("1")  # type: ignore[arg-type]
    users.put("1")  # type: ignore[arg-type]
    users.add_many(["1"])  # type: ignore[list-item]
    users.map(["1"])  # type: ignore[list-item]
    users.put(1, timeout=1.0)  # type: ignore[call-arg]
    users.put(1, priority="high")  # type: ignore[arg-type]
    Batcher(load, 10)  # type: ignore[call-arg]
    Batcher(load, weigh=str)  # type: ignore[arg-type]


# The handler that comes later.

later: Batcher[int, User] = Batcher()
without_result: Batcher[User] = Batcher()


@later.register_handler
def load_later(ids: list[int]) -> list[User]:
    """Be registered by the decorator."""
    return [User(i) for i in ids]


@later.register_handler
def load_another(ids: list[int]) -> Mapping[int, User | Exception]:
    """Take the first one's place."""
    return {i: User(i) for i in ids}


without_result.register_handler(save)


def registering() -> None:
    """A handler that doesn't fit the batcher's annotation is found."""
    assert_type(later.add(1), Future[User])
    assert_type(without_result, Batcher[User, Any])
    without_result.put(User(1))
    without_result.put(1)  # type: ignore[arg-type]

    def names(ids: list[int]) -> list[str]:
        return [str(i) for i in ids]

    later.register_handler(names)  # type: ignore[arg-type]
    without_result.register_handler(load)  # type: ignore[arg-type]


# What can't be a bulk function, because its answer can't be matched to the items.


async def asynchronous(ids: list[int]) -> list[User]:
    """Return a coroutine."""
    return [User(i) for i in ids]


def generating(ids: list[int]) -> Iterator[User]:
    """Yield."""
    for i in ids:
        yield User(i)


def single(number: int) -> User:
    """Take one item already."""
    return User(number)


def unordered(ids: list[int]) -> set[int]:
    """Return what has no order."""
    return set(ids)


def wrong_handlers() -> None:
    """Coroutines, generators, sets, and functions of one item are no handlers."""
    Batcher(asynchronous)  # type: ignore[arg-type]
    Batcher(generating)  # type: ignore[arg-type]
    Batcher(single)  # type: ignore[arg-type]
    Batcher(unordered)  # type: ignore[arg-type]
    batched(asynchronous)  # type: ignore[arg-type]
    batched(generating)  # type: ignore[arg-type]
    batched(single)  # type: ignore[arg-type]
    batched(unordered)  # type: ignore[arg-type]
