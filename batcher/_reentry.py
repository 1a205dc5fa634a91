"""What this thread is doing for which batcher.

A handler, hook or callback that waits for its own batcher waits for itself. And a call that came in by
a signal or by garbage collection, on top of a call that waits, must not wait as well. Both are seen
here, in a thread-local record that costs nothing on the way of an item: it is read only by a call that
is about to wait.
"""

from __future__ import annotations

import itertools
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

# A line's name across threads and processes: small, picklable, never used twice.
Token = tuple[int, int]
_numbers = itertools.count(1)


class _Here(threading.local):
    """The record of one thread; the class attributes are what a new thread starts with."""

    running: tuple[Token, ...] = ()
    waits = 0


_here = _Here()


def new_token() -> Token:
    """Return a token that no other batcher of this or another process has."""
    return os.getpid(), next(_numbers)


class running:  # noqa: N801 - used as a verb: `with running(token):`
    """While entered, this thread runs user code for the batcher of `token`."""

    __slots__ = ("_before", "_token")

    def __init__(self, token: Token) -> None:
        """Remember whose code is about to run."""
        self._token = token

    def __enter__(self) -> None:
        """Note it."""
        self._before = _here.running
        _here.running = (*self._before, self._token)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore what was before."""
        _here.running = self._before


class waiting:  # noqa: N801 - used as a verb: `with waiting():`
    """While entered, this thread waits inside a batcher's call."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Note it."""
        _here.waits += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget it."""
        _here.waits -= 1


def is_running(token: Token) -> bool:
    """Say whether this thread runs user code for the batcher of `token`."""
    return token in _here.running


def is_waiting() -> bool:
    """Say whether a wait inside a batcher's call lies below this one on the stack."""
    return _here.waits > 0
