"""Is this still the process that it was?

A fork leaves the child with the parent's batchers and none of its threads. `os.fork` runs hooks, but a
server that forks in C, as uWSGI does, runs none. So every add looks at `alive`: a byte in a page that
the kernel wipes in a forked child. Reading it takes a fifth of what `os.getpid()` takes. Where there is
no such page, the process id is compared after all.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_MADV_WIPEONFORK = 18  # Linux 4.14; the mmap module has no name for it


class Witness(Protocol):
    """A one-byte memory: `[0]` is true in the process that set it, false in a forked child."""

    def __getitem__(self, index: int, /) -> int:
        """Say whether this is the process that called `revive` last."""
        ...

    def __setitem__(self, index: int, value: int, /) -> None:
        """Make this process the one."""
        ...


class PidWitness:
    """The witness of platforms that can't wipe a page."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        """Remember this process."""
        self._pid = os.getpid()

    def __getitem__(self, index: int, /) -> int:
        """Compare the process id."""
        return self._pid == os.getpid()

    def __setitem__(self, index: int, value: int, /) -> None:
        """Remember this process."""
        self._pid = os.getpid()


def make_witness() -> Witness:
    """Return the cheapest witness that this platform has."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (AttributeError, OSError, TypeError, ValueError):
        return PidWitness()
    page[0] = 1
    return page


alive = make_witness()
_recoveries: list[Callable[[], None]] = []
_locks: dict[int, threading.RLock] = {}
_inherited: list[threading.Thread | None] = []


def on_fork(recover: Callable[[], None]) -> None:
    """Have `recover` called once in each forked child, before the child's first use of a batcher."""
    _recoveries.append(recover)


def check_process() -> None:
    """In a child that nobody has told of the fork, do what the fork hook would have done."""
    if not alive[0]:
        _recover_in_child()


def _recover_in_child() -> None:
    """Make everything fit for this process, a forked child; once, whoever comes first."""
    # A lock for each process: one of the parent's might be held by a thread that isn't here.
    with _locks.setdefault(os.getpid(), threading.RLock()):
        if not alive[0]:
            _keep_inherited_threads()
            for recover in _recoveries:
                recover()
            alive[0] = 1


def _keep_inherited_threads() -> None:
    """Have no `Thread` of the parent's destroyed in this child.

    From CPython 3.13 on, a `Thread` that nobody joined detaches its pthread as it is destroyed. Python's hooks
    mark those of the parent as done; where no hook ran, the detaching reaches into a stack that this process
    has unmapped, or has given to a thread of its own, and crashes one of them.
    """
    # Where `threading` keeps every Thread there is, ended ones too. A copy of the set's own data is made in one
    # step, so that no lock is needed and other threads may be starting.
    known = getattr(getattr(threading, "_dangling", None), "data", ())
    _inherited.extend([ref() for ref in list(known)])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_recover_in_child)
