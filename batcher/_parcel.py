"""What travels through a borrowed executor, and how it comes back.

A call is one positional payload, unlike any other: a cluster's executor takes some keyword arguments for
itself, looks for tasks inside of lists and tuples, and runs equal calls only once. What comes back from
another process is pickled by ourselves: an exception that can be pickled and not be unpickled, as many
with arguments of their own are, would break a whole process pool.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import pickle
import sys
import time
import traceback
import uuid
from typing import TYPE_CHECKING, Any, cast

from batcher._failure import Failure
from batcher._outcomes import fail_all, match
from batcher._preparation import ready
from batcher.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

# The results in order, and the errors of the items that failed, by index.
Returned = tuple[list[Any], dict[int, BaseException]]

_numbers = itertools.count(1)
_PROCESS = uuid.uuid4().hex  # shared with forked children, who have another process id


def _here() -> tuple[str, int]:
    """Return a name that no other process of this or another machine has."""
    return _PROCESS, os.getpid()


class Parcel:
    """One call on its way.

    Attributes:
        call: What is called, with the items.
        items: The items.
        origin: The process that sent it.
        number: Which of its calls it is.
    """

    __slots__ = ("call", "items", "number", "origin")

    def __init__(self, call: Callable[[list[Any]], object], items: list[Any]) -> None:
        """Make a call that is like no other."""
        self.call = call
        self.items = items
        self.origin = _here()
        self.number = next(_numbers)

    @property
    def is_home(self) -> bool:
        """Whether this is the process that sent it."""
        return self.origin == _here()

    def __dask_tokenize__(self) -> tuple[tuple[str, int], int]:
        """Tell Dask what makes this call another one than all others."""
        return self.origin, self.number


def deliver(parcel: Parcel) -> object:
    """Make the call; what runs on the executor's side.

    Raises:
        BaseException: What the call raises, or a BatchError in its place where that can't travel.
    """
    if parcel.is_home:
        return parcel.call(parcel.items)
    try:
        return parcel.call(parcel.items)
    except BaseException as error:
        safe = portable(error)
        if safe is error:
            raise
        raise safe from None


class BulkCall:
    """What a bulk run does with some items on the executor's side: all that a worker thread would do.

    Attributes:
        function: The user's function, of an item or of a list of them.
        takes_list: Which of both.
        prepare: The user's `prepare`, or None.
        delay: Seconds between two items.
    """

    __slots__ = ("delay", "function", "prepare", "takes_list")

    def __init__(
        self,
        function: Callable[[Any], object],
        *,
        takes_list: bool,
        prepare: Callable[[list[Any]], list[Any]] | None,
        delay: float,
    ) -> None:
        """Do it wherever it is called."""
        self.function = function
        self.takes_list = takes_list
        self.prepare = prepare
        self.delay = delay

    def __call__(self, items: list[Any]) -> Returned:
        """Process the items."""
        return contextvars.Context().run(self._process, items)

    def _process(self, items: list[Any]) -> Returned:
        try:
            if self.prepare is not None:
                items = ready(self.prepare, items)
            if self.takes_list:
                return _parted(match(items, self.function(list(items))))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns these items alone
            return _parted(fail_all(len(items), error))
        results: list[Any] = []
        errors: dict[int, BaseException] = {}
        for i, item in enumerate(items):
            if i and self.delay:
                time.sleep(self.delay)
            try:
                results.append(self.function(item))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this item alone
                errors[i] = Failure(error, shared=False).error
                results.append(None)
        return results, errors


def run_bulk_call(parcel: Parcel) -> object:
    """Do the items of a bulk run; what runs on the executor's side. `unpack` reads what it returns."""
    returned = cast("Returned", parcel.call(parcel.items))
    return returned if parcel.is_home else _packed(*returned)


def unpack(returned: object) -> list[Any]:
    """Return the outcomes that `run_bulk_call` came back with: results, and `Failure` objects among them."""
    if isinstance(returned, bytes):
        returned = pickle.loads(returned)  # noqa: S301 - what our own side has sent
    outcomes, errors = cast("Returned", returned)
    for i, error in errors.items():
        outcomes[i] = Failure(error, shared=False)
    return outcomes


def _parted(outcomes: list[Any]) -> Returned:
    errors = {i: outcome.own_copy() for i, outcome in enumerate(outcomes) if isinstance(outcome, Failure)}
    return [None if i in errors else outcome for i, outcome in enumerate(outcomes)], errors


def dumps(thing: object, *, plainly: bool = False) -> bytes:
    """Pickle; by cloudpickle where that is used anyway, as on a cluster, unless it has to be done `plainly`."""
    means: Any = pickle if plainly else sys.modules.get("cloudpickle", pickle)
    pickled: bytes = means.dumps(thing)
    return pickled


def pickles_plainly(executor: Executor) -> bool:
    """Say whether an executor pickles by Python's own means, whatever else this process has imported."""
    return any(kind.__module__ == "concurrent.futures.process" for kind in type(executor).__mro__)


def _packed(results: list[Any], errors: dict[int, BaseException]) -> bytes:
    """Pickle what comes back; a result that can't be pickled fails its item alone."""
    errors = {i: portable(error) for i, error in errors.items()}
    try:
        return dumps((results, errors))
    except Exception:  # noqa: BLE001, S110 - which result it was is looked for below
        pass
    for i, result in enumerate(results):
        try:
            dumps(result)
        except Exception as error:  # noqa: BLE001 - pickling runs the result's own code
            results[i] = None
            errors[i] = TypeError(f"the result can't be sent back from the worker process: {error}")
    return dumps((results, errors))


def portable(error: BaseException) -> BaseException:
    """Return the error with its traceback as a note; a BatchError in its place if it would not arrive."""
    note = "In the worker process:\n" + "".join(traceback.format_tb(error.__traceback__)).rstrip()
    try:
        error.add_note(note)
        if type(pickle.loads(dumps(error))) is type(error):  # noqa: S301 - made a moment ago
            return error
    except Exception:  # noqa: BLE001, S110 - an exception's own __reduce__ or __init__: anything may come
        pass
    safe = BatchError(f"the call raised {type(error).__name__}, which can't be sent back: {error}")
    safe.add_note(note)
    return safe
