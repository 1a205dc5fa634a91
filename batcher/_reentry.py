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
from typing import Any, Protocol

# A line's name across threads and processes: small, picklable, never used twice.
Token = tuple[int, int]
_numbers = itertools.count(1)


class Here(Protocol):
    """The record of one thread.

    Changed by plain assignments in `try: ... finally:`, and not by a context manager: Ctrl-C could land at
    the entry of its `__exit__`, and spoil the thread for good.

    Attributes:
        running: Tokens of the batchers whose code this thread runs.
        waits: How many calls on this thread's stack wait inside a batcher.
        callers: What the batchers that it waits for know of the thread; a dict of its own, or None.
    """

    running: tuple[Token, ...]
    waits: int
    callers: dict[Token, Any] | None


def _new_here() -> Here:
    class _Here(threading.local):
        # What a thread starts with.
        running: tuple[Token, ...] = ()
        waits: int = 0
        callers: dict[Token, Any] | None = None

    return _Here()


here = _new_here()


def follow_patches() -> None:
    """Make a new record if `threading.local` is another class by now; called when a batcher starts.

    gevent replaces it when a server's worker begins, which may be after this module was imported. The old
    record would be one for all greenlets together.
    """
    global here  # noqa: PLW0603
    if not isinstance(here, threading.local):
        here = _new_here()


def new_token() -> Token:
    """Return a token that no other batcher of this or another process has."""
    return os.getpid(), next(_numbers)
