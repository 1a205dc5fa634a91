"""Fork a process in a test, with Python's hooks and without, and learn what the child found."""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# A child that takes longer hangs; the parent ends it.
CHILD_SECONDS = 10.0


def hookless_fork() -> int:
    """Fork as uWSGI does, in C; the interpreter's lock stays held, as by a caller inside the interpreter."""
    _let_others_rest()
    return int(ctypes.PyDLL(None).fork())


def _let_others_rest() -> None:
    """Wait until no other thread runs, or waits for the interpreter's own lock.

    Whoever waits for that lock at a fork without hooks leaves it unusable in the child, and no child can do
    anything then. A thread that waits for it wakes up while this one sleeps; one that has slept through it rests.
    """
    deadline = time.monotonic() + CHILD_SECONDS
    before = _sleepers()
    while True:
        time.sleep(0.002)
        now = _sleepers()
        if now is not None and now == before:
            return
        assert time.monotonic() < deadline, f"the other threads don't come to rest: {before}, {now}"
        before = now


def _sleepers() -> dict[str, str] | None:
    """Return how often each of the other threads has been woken; None if one of them isn't asleep."""
    woken: dict[str, str] = {}
    own = str(threading.get_native_id())
    for thread in Path("/proc/self/task").iterdir():
        try:
            status = "" if thread.name == own else Path(thread, "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None  # it has just ended
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        if not fields.get("State", "S").startswith("S"):
            return None
        woken[thread.name] = fields.get("voluntary_ctxt_switches", "")
    return woken


FORKS_WITHOUT_HOOKS = pytest.mark.skipif(sys.platform != "linux", reason="how Linux servers fork")
FORKS = [
    pytest.param(os.fork, id="hooked"),
    pytest.param(hookless_fork, id="hookless", marks=FORKS_WITHOUT_HOOKS),
]


def in_child(look: Callable[[], T], fork: Callable[[], int] = os.fork) -> T:
    """Return what `look` returns in a forked child; fail with the child's traceback if it raises, or if it hangs."""
    written = _ask_child(look, fork)
    assert written, "the child hangs, or died without a word"
    went_well, found = pickle.loads(written)  # noqa: S301 - written by our own child
    assert went_well, f"in the child:\n{found}"
    answered: T = found
    return answered


def _ask_child(look: Callable[[], object], fork: Callable[[], int]) -> bytes:
    """Return what one child writes; nothing if it hangs."""
    reading, writing = os.pipe()
    child = fork()
    if not child:  # pragma: no cover - the child's side ends in os._exit
        try:
            try:
                answer: tuple[bool, object] = True, look()
            except BaseException:
                answer = False, traceback.format_exc()
            os.write(writing, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writing)
    if not select.select([reading], [], [], CHILD_SECONDS)[0]:
        os.kill(child, signal.SIGKILL)
    with open(reading, "rb") as pipe:  # noqa: PTH123 - a file descriptor has no path
        written = pipe.read()
    os.waitpid(child, 0)
    return written


class Ledger:
    """A handler that notes each item and the process that got it, in a pipe that parent and child share."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)

    def __call__(self, items: list[Any]) -> list[Any]:
        """Note the items, and return them as the results."""
        for item in items:
            os.write(self._writing, f"{os.getpid()} {item}\n".encode())
        return items

    def deliveries(self) -> dict[tuple[str, str], int]:
        """Return how often each item was delivered by the parent or by a child; nothing may come after."""
        os.close(self._writing)
        with open(self._reading, "rb") as pipe:  # noqa: PTH123 - a file descriptor has no path
            lines = (pipe.read() or b"").decode().splitlines()
        pairs = [line.split(" ", 1) for line in lines]
        return dict(Counter(("parent" if int(pid) == os.getpid() else "child", item) for pid, item in pairs))
