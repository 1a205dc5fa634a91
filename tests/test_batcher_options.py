"""Construction: every option is checked, named and shown where it is wrong."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from batcher import Batcher
from tests import stage
from tests.stage import Maker, flusher_of

make = stage.make

NO_SECONDS = [math.nan, -1, -0.5, "1", True]
NO_COUNT = [0, -1, 1.5, math.nan, math.inf, "3", True, None]
NO_WEIGHT_LIMIT = [0, -1, math.nan, math.inf, "3", True]
WRONG: dict[str, list[Any]] = {
    "max_delay": NO_SECONDS,
    "handler_timeout": [*NO_SECONDS, 0],
    "exit_timeout": [*NO_SECONDS, None],
    "max_batch_size": NO_COUNT,
    "max_pending": NO_COUNT,
    "max_concurrent": NO_COUNT,
    "max_batch_weight": NO_WEIGHT_LIMIT,
    "max_pending_weight": NO_WEIGHT_LIMIT,
    "overflow": ["drop", "", None, 1],
    "executor": [object(), 4, ThreadPoolExecutor.__name__],
    "name": [3, b"name"],
    **{
        option: [3, "name", [print]]
        for option in ("handler", "weigh", "batch_key", "around_batch", "on_error", "on_batch", "on_drop")
    },
}


def double(items: list[int]) -> list[int]:
    """Answer each number with its double."""
    return [2 * item for item in items]


@pytest.mark.parametrize(
    ("option", "value"),
    [(option, value) for option, values in WRONG.items() for value in values],
    ids=[f"{option}-{number}" for option, values in WRONG.items() for number, _ in enumerate(values)],
)
def test_wrong_option_is_named_and_shown(option: str, value: Any) -> None:
    """An option of the wrong type or range is refused at construction; the message names it and shows what came."""
    options = {option: value} if option.endswith("weight") is False else {option: value, "weigh": len}

    with pytest.raises((TypeError, ValueError)) as caught:
        Batcher(**options)

    assert option in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("option", ["max_batch_weight", "max_pending_weight"])
def test_weight_limit_needs_weigh(option: str) -> None:
    """A limit for a weight that nothing tells is refused."""
    with pytest.raises(ValueError, match=r"need weigh.*2\.5"):
        Batcher(**{option: 2.5})  # type: ignore[arg-type]


def test_options_are_keyword_only() -> None:
    """Only the handler may be given by position."""
    with pytest.raises(TypeError):
        Batcher(double, 10)  # type: ignore[call-arg]


def test_endless_seconds_are_clamped(make: Maker) -> None:
    """An infinite delay is one that the platform can wait, and everything works with it."""
    batcher = make(double, max_delay=math.inf, handler_timeout=math.inf, exit_timeout=math.inf)

    future = batcher.add(4, timeout=math.inf)

    assert batcher.flush(math.inf).succeeded == 1
    assert future.result(math.inf) == 8


def test_names(make: Maker) -> None:
    """Each batcher has a name of its own; its thread is named after it."""
    first, second = make(double), make(double, name="users")
    third = make(double)

    second.put(1)

    assert repr(second).startswith("<Batcher 'users' open ")
    assert flusher_of(second).name == "batcher-users-flusher"
    assert repr(first).split()[1] != repr(third).split()[1]


def test_no_thread_before_the_first_item(make: Maker) -> None:
    """Making a batcher, asking for its status and flushing it start no thread."""
    before = threading.active_count()
    batcher = make(double)

    assert batcher.status().state == "open"
    assert batcher.flush().complete
    assert threading.active_count() == before
