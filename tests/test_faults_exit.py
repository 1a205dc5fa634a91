"""Rows 14 and 15 of the faults: what happens to pending items, and to the process, when the interpreter exits.

Each test is a program run by a fresh interpreter, most of them by every Python on this machine: 3.12.0 to 3.12.2
can't start a thread in a hook of the exit, 3.13 can't once the main thread has ended. All delays are an hour:
only the exit sends.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.scripts import VERSIONS, run_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks")

ENDINGS = {
    "end of the program": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "uncaught exception": ("raise ValueError('the end')", 1),
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(10)", -signal.SIGINT),
}

BATCHERS = {
    "plain": "batcher = Batcher(deliver, max_delay=3600)",
    "several at once": "batcher = Batcher(deliver, max_delay=3600, max_concurrent=4)",
    "watched": "batcher = Batcher(deliver, max_delay=3600, handler_timeout=60)",
    "threads lent": "batcher = Batcher(deliver, max_delay=3600, executor=ThreadPoolExecutor(2))",
    "processes lent": "batcher = Batcher(deliver, max_delay=3600, executor=ProcessPoolExecutor(2))",
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_row_14_pending_items_are_delivered_however_the_program_ends(ending: str, version: str, tmp_path: Path) -> None:
    """A plain end, sys.exit, an exception and Ctrl-C: what is pending is delivered, and the exit status stays."""
    last, code = ENDINGS[ending]
    program = f"{BATCHERS['plain']}\nfutures = batcher.add_many(range(5)); batcher.put(5)\n{last}\n"
    ended = run_script(program, tmp_path, version=version)

    assert sorted(ended.lines) == ["0", "1", "2", "3", "4", "5"], ended.errors
    assert ended.code == code


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", BATCHERS)
def test_row_14_pending_items_are_delivered_wherever_handlers_run(kind: str, version: str, tmp_path: Path) -> None:
    """On the flusher, on workers, on a lent executor: at exit they all still run."""
    program = f"""
if __name__ == "__main__":
    {BATCHERS[kind]}
    [batcher.put(number) for number in range(250)]
"""
    ended = run_script(program, tmp_path, version=version)

    assert sorted(map(int, ended.lines)) == list(range(250)), ended.errors
    assert ended.code == 0


HANDLERS_OF_THEIR_OWN = {
    "starts a thread": """
        def handler(items):
            thread = threading.Thread(target=deliver, args=(items,))
            thread.start()
            thread.join()
    """,
    "has a pool": """
        pool = ThreadPoolExecutor(2)

        def handler(items):
            list(pool.map(show, items))
    """,
    "makes a pool": """
        def handler(items):
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(show, items))
    """,
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", HANDLERS_OF_THEIR_OWN)
def test_row_14_handlers_may_use_threads_at_exit(kind: str, version: str, tmp_path: Path) -> None:
    """A handler starts threads or uses a pool at exit as well; where this Python lets nobody, its error is told."""
    program = """
        batcher = Batcher(handler, max_delay=3600, on_error=lambda error, items: show(type(error).__name__, *items))
        batcher.put("last")
        show("no" if (3, 12, 0) <= sys.version_info < (3, 12, 3) else "yes")
    """
    ended = run_script(HANDLERS_OF_THEIR_OWN[kind] + program, tmp_path, version=version)

    assert ended.lines in (["yes", "last"], ["no", "RuntimeError", "last"]), ended.errors


@pytest.mark.parametrize("version", VERSIONS)
def test_row_14_handler_may_import_its_pool_late(version: str, tmp_path: Path) -> None:
    """A handler that asks for concurrent.futures' pool for the first time at exit gets it."""
    program = """
        from batcher import Batcher

        def handler(items):
            from concurrent.futures import ThreadPoolExecutor
            print(*items)

        batcher = Batcher(handler, max_delay=3600, on_error=print)
        batcher.put("last")
    """
    ended = run_script(program, tmp_path, version=version, preamble="")

    assert ended.lines == ["last"], ended.errors


@pytest.mark.parametrize("version", VERSIONS)
def test_row_14_threads_that_outlive_the_main_thread_may_add(version: str, tmp_path: Path) -> None:
    """What a non-daemon thread adds after the main thread has ended is delivered too."""
    program = """
        batcher = Batcher(deliver, max_delay=3600)
        batcher.put("before")

        def go_on():
            threading.main_thread().join()
            batcher.put("after")
            show("accepted")

        threading.Thread(target=go_on).start()
    """
    ended = run_script(program, tmp_path, version=version)

    assert sorted(ended.lines) == ["accepted", "after", "before"], ended.errors


@pytest.mark.parametrize("version", VERSIONS)
def test_row_14_exit_handlers_of_the_user_may_add(version: str, tmp_path: Path) -> None:
    """An atexit handler that runs before ours adds; one that runs after it is refused with a clear error."""
    program = """
        def add(item):
            try:
                batcher.put(item)
            except BatcherClosedError:
                show("refused:" + item)

        atexit.register(add, "registered-before")
        batcher = Batcher(deliver, max_delay=3600)
        batcher.put("pending")
        atexit.register(add, "registered-after")
    """
    ended = run_script(program, tmp_path, version=version)

    assert sorted(ended.lines) == ["pending", "refused:registered-before", "registered-after"], ended.errors


@pytest.mark.parametrize("version", VERSIONS)
def test_row_14_first_add_at_exit_is_delivered_or_refused(version: str, tmp_path: Path) -> None:
    """A batcher whose first item comes in an atexit handler delivers it or says clearly that it can't."""
    program = """
        batcher = Batcher(deliver, max_delay=3600)

        @atexit.register
        def add():
            try:
                batcher.put("late")
            except BatcherClosedError as error:
                show("refused")
    """
    ended = run_script(program, tmp_path, version=version)

    assert ended.lines in (["late"], ["refused"]), ended.errors


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("version", VERSIONS)
def test_row_14_children_of_multiprocessing_deliver(method: str, version: str, tmp_path: Path) -> None:
    """A child process of `multiprocessing` leaves without atexit handlers; what it has pending is delivered."""
    program = f"""
        batcher = Batcher(deliver, max_delay=3600)

        def work():
            batcher.put("of-the-child")

        if __name__ == "__main__":
            batcher.put("of-the-parent")
            child = multiprocessing.get_context({method!r}).Process(target=work)
            child.start()
            child.join()
            show("joined")
    """
    ended = run_script(program, tmp_path, version=version)

    assert ended.lines == ["of-the-child", "joined", "of-the-parent"], ended.errors


@pytest.mark.parametrize("version", VERSIONS)
def test_row_15_hung_handlers_hold_the_exit_up_for_their_budgets_side_by_side(version: str, tmp_path: Path) -> None:
    """Three handlers that never return, wherever they run, cost one exit_timeout, and the healthy batcher delivers."""
    program = """
        batchers = [
            Batcher(hang, max_delay=3600, exit_timeout=1.0),
            Batcher(hang, max_delay=3600, exit_timeout=1.0, max_concurrent=4),
            Batcher(hang, max_delay=3600, exit_timeout=0.5, handler_timeout=60),
            Batcher(deliver, max_delay=3600, exit_timeout=1.0),
        ]
        for number, batcher in enumerate(batchers):
            batcher.put(number)
        atexit.register(lambda: show("exit", round(time.monotonic() - began, 2)))
        began = time.monotonic()
    """
    ended = run_script(program, tmp_path, version=version)

    assert {"0", "1", "2", "3"} <= set(ended.lines), ended.errors
    assert 1.0 <= float(ended.lines[-1]) < 1.5
    assert ended.seconds < 3.0
    assert ended.code == 0


def test_row_15_hung_handler_with_a_backlog_ends_as_well(tmp_path: Path) -> None:
    """What waits behind a hung handler is dropped when the budget is used up, and its callers are told."""
    program = """
        batcher = Batcher(hang, max_batch_size=1, max_delay=0, exit_timeout=0.3, on_drop=lambda item, error: show(
            "dropped", item, type(error).__name__))
        batcher.put("hung")
        batcher.put("behind")
    """
    ended = run_script(program, tmp_path)

    assert ended.lines == ["hung", "dropped", "behind", "BatcherClosedError"], ended.errors
    assert ended.seconds < 3.0
