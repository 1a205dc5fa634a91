"""From what a handler returned or raised to one outcome per item.

An outcome is the item's result, or a `Failure`. Runs no lock: looking an item up in a mapping, or
taking an array apart, is user code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from inspect import iscoroutine
from itertools import repeat
from typing import TYPE_CHECKING, Any

from batcher._failure import Failure
from batcher._kinds import kinds_of
from batcher.errors import MissingResultError, ResultShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXPECTED = "None, a sequence as long as the items, or a mapping by item"


def match(items: Sequence[Any], returned: object, keys: Sequence[Any] | None = None) -> list[Any]:
    """Return one outcome per item for what the handler returned; a mapping is looked up by `keys` if there are any.

    An answer that can't be matched fails every item with ResultShapeError. Raises nothing.
    """
    if returned is None:
        return [None] * len(items)
    try:
        if type(returned) is list:  # what nearly every handler returns
            results = returned.copy()  # first: what is measured is what is used, whoever else changes the list
            if len(results) == len(items):
                return _judge(results)
        if isinstance(returned, Mapping):
            return [_look_up(returned, key) for key in (items if keys is None else keys)]
        return _judge(_as_sequence(returned, len(items)))
    except BaseException as error:  # noqa: BLE001 - __len__ and __getitem__ are the user's
        return fail_all(len(items), error)


def fail_all(count: int, error: BaseException) -> list[Any]:
    """Return the outcomes of a batch that failed as a whole."""
    return list(repeat(Failure(error, shared=count > 1), count))


def _as_sequence(returned: Any, count: int) -> list[Any]:  # noqa: ANN401 - whatever a handler returns
    """Return the results in order, or raise ResultShapeError."""
    if iscoroutine(returned):
        returned.close()  # nobody will await it
        raise _shape_error(count, "a coroutine")
    if (
        isinstance(returned, (str, bytes, bytearray))
        or not hasattr(returned, "__len__")
        or not hasattr(returned, "__getitem__")
    ):
        raise _shape_error(count, f"a {type(returned).__name__}")
    if isinstance(returned, (list, tuple)):
        results = list(returned)  # first: what is measured is what is used, whoever else changes the list
        length = len(results)
    else:
        try:
            length = len(returned)
            results = [returned[i] for i in range(count)] if length == count else []
        except Exception as error:
            raise _shape_error(count, f"a {type(returned).__name__} without integer indexing") from error
    if length != count:
        raise _shape_error(count, f"a {type(returned).__name__} of length {length}")
    return results


def _shape_error(count: int, received: str) -> ResultShapeError:
    return ResultShapeError(f"the handler must return {_EXPECTED}: expected {count} results, got {received}")


def _judge(outcomes: list[Any]) -> list[Any]:
    """Turn the exception instances among the results into failures of their items alone."""
    for kind in kinds_of(outcomes):
        if issubclass(kind, Exception):
            break
    else:
        return outcomes
    failed = [i for i, outcome in enumerate(outcomes) if _is_error(outcome)]
    # The same object for several items must become an object for each.
    times = Counter(id(outcomes[i]) for i in failed)
    for i in failed:
        outcomes[i] = Failure(outcomes[i], shared=times[id(outcomes[i])] > 1)
    return outcomes


def _is_error(outcome: object) -> bool:
    """Say whether a result is an exception; `isinstance` would ask a proxy for its `__class__`, which may raise."""
    return issubclass(type(outcome), Exception)


def _look_up(returned: Mapping[Any, Any], item: object) -> Any:  # noqa: ANN401 - a result, or a Failure
    """Return the outcome of one item of a mapping."""
    try:
        found = returned[item]
    except KeyError:
        missing = MissingResultError("the mapping that the handler returned has no entry for this item")
        return Failure(missing, shared=False)
    except BaseException as error:  # noqa: BLE001 - the item's hash and equality are the user's
        return Failure(error, shared=False)
    return Failure(found, shared=True) if _is_error(found) else found
