"""A handler call brings its own list, runs inside `around_batch`, and leaves no batch in its errors."""

import contextlib
import contextvars
import gc
import pickle
import threading
import traceback
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from typing import Any, NoReturn

import pytest

from batcher import _reentry
from batcher._execution import HandlerCall, free_frames, trim


class Payload:
    """Something whose end can be seen."""


@pytest.fixture(name="token")
def _token() -> _reentry.Token:
    """The name of some batcher."""
    return _reentry.new_token()


@pytest.fixture(name="no_gc")
def _no_gc() -> Iterator[None]:
    """Only reference counts free what is freed in the test."""
    gc.disable()
    yield
    gc.enable()


def test_handler_gets_a_list_of_its_own(token: _reentry.Token) -> None:
    """What a handler does to its list changes nothing for anybody else; its answer comes back as it is."""
    given = ("a", "b")
    answer = object()

    def handler(items: list[Any]) -> object:
        assert type(items) is list
        assert items == ["a", "b"]
        items.clear()
        return answer

    items = list(given)
    assert HandlerCall(handler, None, token)(items) is answer
    assert HandlerCall(handler, contextlib.nullcontext, token)(given) is answer
    assert items == ["a", "b"]


def test_handler_and_context_run_as_the_batchers_own(token: _reentry.Token) -> None:
    """Handler and `around_batch` know for which batcher they run; afterwards the thread is free again."""
    seen: list[tuple[str, bool]] = []

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        seen.append(("enter", token in _reentry.here.running))
        yield
        seen.append(("exit", token in _reentry.here.running))

    def handler(items: list[Any]) -> None:
        seen.append(("handler", token in _reentry.here.running))

    HandlerCall(handler, around, token)([1])

    assert seen == [("enter", True), ("handler", True), ("exit", True)]
    assert token not in _reentry.here.running


def test_nothing_passes_from_context_to_context(token: _reentry.Token) -> None:
    """A call sees no context variable of its thread, and leaves none behind; inline it is part of its caller."""
    user = contextvars.ContextVar("user", default="nobody")
    user.set("caller")

    def handler(items: list[Any]) -> str:
        before = user.get()
        user.set("handler")
        return before

    assert HandlerCall(handler, None, token)([1]) == "nobody"
    assert HandlerCall(handler, contextlib.nullcontext, token)([1]) == "nobody"
    assert user.get() == "caller"
    assert HandlerCall(handler, None, token)([1], is_inline=True) == "caller"
    assert user.get() == "handler"


def test_context_is_made_for_each_call(token: _reentry.Token) -> None:
    """The factory is called once a batch, and sees the handler's error before anybody else."""
    errors: list[type[BaseException] | None] = []

    class Around(contextlib.AbstractContextManager[None]):
        def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
            errors.append(kind)

    def handler(items: list[Any]) -> None:
        if items == ["bad"]:
            raise ValueError

    call = HandlerCall(handler, Around, token)
    call(["good"])
    with pytest.raises(ValueError):
        call(["bad"])

    assert errors == [None, ValueError]
    assert token not in _reentry.here.running


def test_swallowed_error_is_an_answer_of_none(token: _reentry.Token) -> None:
    """Where `around_batch` swallows the handler's error the call returns None."""

    def handler(items: list[Any]) -> NoReturn:
        raise ValueError

    assert HandlerCall(handler, lambda: contextlib.suppress(ValueError), token)([1]) is None


def test_call_is_frozen_and_travels(token: _reentry.Token) -> None:
    """What is sent to an executor can be pickled where its parts can, and can't be changed on the way."""
    call = HandlerCall(len, contextlib.nullcontext, token)
    with pytest.raises(FrozenInstanceError):
        call.handler = sum  # type: ignore[misc]
    arrived = pickle.loads(pickle.dumps(call))  # noqa: S301 - made on the same line

    assert arrived == call
    assert arrived([1, 2, 3]) == 3


def functions(error: BaseException) -> list[str]:
    """Name the functions of an error's traceback."""
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]


def caught(call: Callable[[], object]) -> BaseException:
    """Return what a call raises, as seen from the call."""
    try:
        call()
    except BaseException as error:
        own = error.__traceback__
        return error.with_traceback(own and own.tb_next)
    pytest.fail("nothing was raised")


def test_own_frames_are_taken_off(token: _reentry.Token) -> None:
    """An error begins where the handler does; what the handler called is all there."""

    def deep() -> NoReturn:
        raise ValueError

    def handler(items: list[Any]) -> None:
        deep()

    error = caught(lambda: HandlerCall(handler, None, token)([1]))
    error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    assert functions(error)[-2:] == ["handler", "deep"]
    assert len(functions(error)) > 2

    assert trim(error) is error
    assert functions(error) == ["handler", "deep"]


def test_frames_of_ours_below_the_handler_stay(token: _reentry.Token) -> None:
    """A handler that itself uses a batcher has the whole way in its traceback."""

    def inner(items: list[Any]) -> NoReturn:
        raise ValueError

    def outer(items: list[Any]) -> None:
        HandlerCall(inner, None, token)(items)

    error = caught(lambda: HandlerCall(outer, None, token)([1]))
    error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)

    found = functions(trim(error))
    assert found[0] == "outer"
    assert found[-1] == "inner"
    assert "__call__" in found


def test_error_without_a_traceback_is_left_alone() -> None:
    """An error that nobody raised, or that only our own frames raised, ends without any."""
    error = ValueError()
    assert trim(error).__traceback__ is None
    ours = caught(lambda: HandlerCall(len, None, (0, 0))(None))  # type: ignore[arg-type]
    ours = ours.with_traceback(ours.__traceback__ and ours.__traceback__.tb_next)

    assert set(functions(ours)) == {"__call__", "_call"}
    assert trim(ours).__traceback__ is None


def test_frame_without_a_module_ends_the_trimming() -> None:
    """Code that runs in a namespace without a name is not ours."""
    nameless = types.FunctionType(compile("def f(): 1 / 0", "<code>", "exec").co_consts[0], {})
    error = caught(nameless)

    assert functions(trim(error)) == ["f"]


@pytest.mark.usefixtures("no_gc")
def test_errors_let_go_of_the_batch() -> None:
    """Once freed, an error keeps none of what its frames held, but still says where it was."""
    seen: list[weakref.ref[Payload]] = []

    def handler() -> NoReturn:
        payload = Payload()
        seen.append(weakref.ref(payload))
        raise ValueError

    error = caught(handler)
    assert seen[0]() is not None
    places = traceback.extract_tb(error.__traceback__)
    free_frames(error)

    assert seen[0]() is None
    assert traceback.extract_tb(error.__traceback__) == places


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("link", ["cause", "context", "group", "nested"])
def test_errors_behind_the_error_let_go_as_well(link: str) -> None:
    """Causes, contexts and the members of a group hold frames too, at any depth."""
    seen: list[weakref.ref[Payload]] = []

    def handler() -> NoReturn:
        payload = Payload()
        seen.append(weakref.ref(payload))
        raise ValueError

    inner = caught(handler)
    outer: BaseException = OSError()
    if link == "cause":
        outer.__cause__ = inner
    elif link == "context":
        outer.__context__ = inner
    elif link == "group":
        outer = BaseExceptionGroup("all", [inner])
    else:
        outer.__cause__ = BaseExceptionGroup("all", [OSError(), inner])
    free_frames(outer)

    assert seen[0]() is None


def test_circle_of_errors_comes_to_an_end() -> None:
    """Errors that are each other's context are each looked at once."""
    first, second = caught(lambda: 1 / 0), caught(lambda: 1 / 0)
    first.__context__, second.__context__ = second, first
    free_frames(first)

    assert functions(first) == functions(second) == ["<lambda>"]


def test_running_frame_goes_on() -> None:
    """A frame that still runs, such as the caller's own, keeps its variables."""
    local = "still here"
    try:
        raise ValueError
    except ValueError as error:
        free_frames(error)

    assert local == "still here"


def test_suspended_generator_goes_on() -> None:
    """A generator that caught an error and waits isn't closed under its user's hands."""

    def numbers() -> Iterator[object]:
        try:
            raise ValueError
        except ValueError as error:
            yield error
        yield "next"

    generator = numbers()
    error = next(generator)
    assert isinstance(error, ValueError)
    free_frames(error)

    assert next(generator) == "next"


def test_error_on_another_thread_is_freed_safely() -> None:
    """An error whose frames run on another thread at the moment disturbs nothing there."""
    errors: list[BaseException] = []
    ready, may_end = threading.Event(), threading.Event()
    ends: list[str] = []

    def run() -> None:
        local = "still here"
        try:
            raise ValueError
        except ValueError as error:
            errors.append(error)
        ready.set()
        may_end.wait(10)
        ends.append(local)

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    free_frames(errors[0])
    may_end.set()
    thread.join(10)

    assert ends == ["still here"]
