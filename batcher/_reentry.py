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

# A line's name across threads and processes: small, picklable, never used twice.
Token = tuple[int, int]
_numbers = itertools.count(1)


class _Here(threading.local):
    """The record of one thread; the class attributes are what a new thread starts with.

    Changed by plain assignments in `try: ... finally:`, and not by a context manager: Ctrl-C could land at
    the entry of its `__exit__`, and spoil the thread for good.

    Attributes:
        running: Tokens of the batchers whose code this thread runs.
        waits: How many calls on this thread's stack wait inside a batcher.
    """

    running: tuple[Token, ...] = ()
    waits: int = 0


here = _Here()


def new_token() -> Token:
    """Return a token that no other batcher of this or another process has."""
    return os.getpid(), next(_numbers)
