"""A forked child is told apart from its parent, with a hook and without."""

import importlib.util
import mmap
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from batcher import _process
from batcher._process import PidWitness, check_process, make_witness, on_fork
from tests.forks import FORKS_WITHOUT_HOOKS, hookless_fork, in_child
from tests.scripts import VERSIONS, run_script

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux wipes a page in the child")


# In the child, after the first use of the library, the last references to threads of the parent go: while threads of
# the child's own have come and gone in memory that was theirs.
FORGETS_THREADS = """
import ctypes

def crowd():
    gate = threading.Barrier(17)
    threads = [threading.Thread(target=gate.wait) for _ in range(16)]
    for thread in threads:
        thread.start()
    gate.wait()
    return threads

with Batcher(deliver, max_delay=0.001) as batcher:
    batcher.add("parent").result(10)
    ended = crowd()
    while any(thread.is_alive() for thread in ended):
        time.sleep(0.001)
    child = ctypes.PyDLL(None).fork()
    if not child:
        batcher.add("child").result(10)
        for thread in crowd():
            thread.join()
        own = crowd()
        del ended, thread
        for thread in own:
            thread.join()
        batcher.add("again").result(10)
        os._exit(7)
    show(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(name="recoveries")
def _recoveries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Register a recovery of this test's own, beside no other; return what it notes."""
    notes: list[str] = []
    monkeypatch.setattr(_process, "_recoveries", [])
    on_fork(lambda: notes.append("recovered"))
    return notes


@pytest.mark.parametrize("make", [make_witness, PidWitness])
@needs_fork
def test_witness_is_true_here_and_false_in_a_child(make: Callable[[], _process.Witness]) -> None:
    """The witness holds in the process that set it, not in its child, and there again once set."""
    witness = make()

    def look() -> bool:
        if witness[0]:
            return False
        witness[0] = 1
        return bool(witness[0])

    assert witness[0]
    assert in_child(look)
    assert witness[0]


@linux_only
def test_linux_wipes_the_page() -> None:
    """Where the kernel can, the witness is a page of memory, which costs no call to read."""
    assert isinstance(make_witness(), mmap.mmap)


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError, ValueError])
def test_platform_without_such_a_page_compares_the_process_id(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Whatever way a platform refuses the page, the process id is compared instead."""

    def refuse(*_: object, **__: object) -> None:
        raise error("no such page")

    monkeypatch.setattr(mmap, "mmap", refuse)
    witness = make_witness()

    assert isinstance(witness, PidWitness)
    assert witness[0]


@needs_fork
def test_hook_recovers_once_in_the_child(recoveries: list[str]) -> None:
    """A fork through Python recovers before the child's first call, and no later call does it again."""

    def look() -> bool:
        before = list(recoveries)
        check_process()
        return before == ["recovered"] == recoveries

    assert in_child(look)
    assert recoveries == []


@FORKS_WITHOUT_HOOKS
def test_fork_without_hooks_is_seen_by_the_first_call(recoveries: list[str]) -> None:
    """A fork that runs no hook is noticed by the first check in the child, once."""

    def look() -> bool:
        before = list(recoveries)
        check_process()
        check_process()
        return before == [] and recoveries == ["recovered"]

    assert in_child(look, hookless_fork)
    assert recoveries == []


def test_parent_is_never_recovered(recoveries: list[str]) -> None:
    """In the process that the witness knows, a check does nothing."""
    check_process()

    assert recoveries == []


def test_recoveries_run_in_order_before_the_process_counts_as_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recoveries run in the order of their registration, all before the witness is set."""
    seen: list[tuple[str, bool]] = []
    witness = [0]
    monkeypatch.setattr(_process, "alive", witness)
    monkeypatch.setattr(_process, "_recoveries", [])
    on_fork(lambda: seen.append(("first", bool(witness[0]))))
    on_fork(lambda: seen.append(("second", bool(witness[0]))))

    _process._recover_in_child()

    assert seen == [("first", False), ("second", False)]
    assert witness == [1]


@needs_fork
def test_recovery_waits_for_no_lock_of_the_parent(recoveries: list[str]) -> None:
    """Whatever a thread of the parent was about to recover as the process forked, the child recovers by itself."""
    _process._recover_in_child()  # it makes the lock that it needs
    holds, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as locks:
            for lock in _process._locks.values():
                locks.enter_context(lock)
            holds.set()
            may_end.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait(10)

    assert in_child(lambda: recoveries == ["recovered"])
    may_end.set()
    thread.join(10)


@FORKS_WITHOUT_HOOKS
def test_threads_of_a_child_recover_once(recoveries: list[str]) -> None:
    """Of two threads that are the first in a child one recovers, and the other waits until that is done."""
    begun, may_end = threading.Event(), threading.Event()
    seen: list[list[str]] = []

    def recover() -> None:
        begun.set()
        may_end.wait(10)
        recoveries.append("slowly")

    def follow() -> None:
        check_process()
        seen.append(list(recoveries))

    def look() -> bool:
        first = threading.Thread(target=check_process)
        first.start()
        begun.wait(10)
        second = threading.Thread(target=follow)
        second.start()
        may_end.set()
        first.join(10)
        second.join(10)
        return seen == [["recovered", "slowly"]]

    on_fork(recover)
    assert in_child(look, hookless_fork)


@FORKS_WITHOUT_HOOKS
@pytest.mark.parametrize("version", VERSIONS)
def test_threads_of_the_parent_are_not_destroyed_in_a_child(tmp_path: Path, version: str) -> None:
    """A child whose fork ran no hook, and which forgets threads that its parent didn't join, goes on to work."""
    ended = run_script(FORGETS_THREADS, tmp_path, version=version)

    assert (ended.code, ended.errors) == (0, "")
    assert ended.lines == ["parent", "child", "again", "7"]


def test_interpreter_that_knows_no_threads_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, recoveries: list[str]
) -> None:
    """Where `threading` doesn't keep all threads in the place known to us, a child recovers nevertheless."""
    monkeypatch.delattr(threading, "_dangling")
    monkeypatch.setattr(_process, "alive", [0])

    check_process()

    assert recoveries == ["recovered"]


def test_platform_that_never_forks_needs_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python has no fork, importing the room asks for none, and the process is always its own."""
    monkeypatch.delattr(os, "register_at_fork")
    assert _process.__spec__ is not None
    assert _process.__spec__.loader is not None
    fresh = importlib.util.module_from_spec(_process.__spec__)
    _process.__spec__.loader.exec_module(fresh)

    assert fresh.alive[0]
    fresh.check_process()
    assert fresh.alive[0]
