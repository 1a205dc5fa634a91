"""What happens to the windows of debounces that are open when the interpreter exits, or SIGTERM comes.

Each test is a program run by a fresh interpreter. All waits are an hour: only the exit runs anything.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.scripts import PREAMBLE, VERSIONS, run_script
from tests.test_faults_exit import ENDINGS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

PROLOGUE = f"{PREAMBLE}\nfrom batcher import Debounce, drain_on_sigterm\n"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_open_window_is_flushed_however_the_program_ends(ending: str, version: str, tmp_path: Path) -> None:
    """A plain end, sys.exit, an exception and Ctrl-C: the run comes, once, and the exit status stays."""
    last, code = ENDINGS[ending]
    program = f"saving = Debounce(show, 3600)\nsaving('draft')\nsaving('final')\n{last}\n"
    ended = run_script(program, tmp_path, version=version, preamble=PROLOGUE)

    assert ended.lines == ["final"], ended.errors
    assert ended.code == code


def test_debounce_that_was_dropped_runs_at_exit(tmp_path: Path) -> None:
    """Dropping a debounce takes nothing back."""
    ended = run_script("Debounce(show, 3600)('dropped')\n", tmp_path, preamble=PROLOGUE)

    assert (ended.lines, ended.code) == (["dropped"], 0), ended.errors


def test_program_without_a_call_ends_at_once(tmp_path: Path) -> None:
    """A debounce that was never called, or is idle, has nothing to do at exit."""
    program = """
        never = Debounce(show, 3600)
        idle = Debounce(show, 0)
        idle("ran").result()
    """
    ended = run_script(program, tmp_path, preamble=PROLOGUE)

    assert (ended.lines, ended.code, ended.errors) == (["ran"], 0, "")


def test_function_that_hangs_holds_the_exit_up_no_longer_than_allowed(tmp_path: Path) -> None:
    """All debounces together have one budget for both steps of the exit; who hangs is left behind, others run."""
    program = """
        from batcher import _debounce

        _debounce._exit_budget[0] = 1.0
        hanging = [Debounce(hang, 3600) for _ in range(3)]
        for number, debounce in enumerate(hanging):
            debounce([number])
        began = time.monotonic()
        atexit.register(lambda: show("early" if time.monotonic() - began < 0.9 else "in-time"))
        Debounce(show, 3600)("other")
    """
    ended = run_script(program, tmp_path, preamble=PROLOGUE)

    # 3.12.0 to 3.12.2 start no thread at exit: there the timer's own thread runs what it can, one after another.
    can_start = not (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 2)
    assert sorted(ended.lines) == (["0", "1", "2", "in-time", "other"] if can_start else ["0", "in-time"]), ended.errors
    assert ended.code == 0
    assert ended.seconds < 8.0


def test_what_a_run_adds_to_a_batcher_at_exit_is_delivered(tmp_path: Path) -> None:
    """A debounced function that feeds a batcher does so before the batcher closes."""
    program = """
        batcher = Batcher(deliver, max_delay=3600)
        batcher.put("before")
        Debounce(batcher.put, 3600)("late")
    """
    ended = run_script(program, tmp_path, preamble=PROLOGUE)

    assert (ended.lines, ended.code) == (["before", "late"], 0), ended.errors


def test_call_after_the_exit_has_begun_is_refused(tmp_path: Path) -> None:
    """A call in a hook of the exit that runs after ours is refused by name, on a debounce old or new."""
    program = """
        def late():
            for debounce in (saving, Debounce(show, 0)):
                try:
                    debounce("late")
                except BatcherClosedError:
                    show("refused")

        atexit.register(late)
        saving = Debounce(show, 3600)
        saving("in-time")
    """
    ended = run_script(program, tmp_path, preamble=PROLOGUE)

    assert (ended.lines, ended.code) == (["in-time", "refused", "refused"], 0), ended.errors


def test_sigterm_delivers_where_it_was_asked_for(tmp_path: Path) -> None:
    """`drain_on_sigterm` runs what is to come, before the process dies of the signal."""
    program = """
        drain_on_sigterm()
        saving = Debounce(show, 3600)
        saving("draft")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    """
    ended = run_script(program, tmp_path, preamble=PROLOGUE)

    assert (ended.lines, ended.code) == (["draft"], -signal.SIGTERM), ended.errors
    assert ended.seconds < 5.0


def test_sigterm_on_top_of_a_call_comes_again(tmp_path: Path) -> None:
    """A signal that finds the debounce's lock in the hands of the interrupted code waits until it has let go."""
    program = """
        drain_on_sigterm()
        saving = Debounce(show, 3600)
        saving("draft")
        with saving._bursts.owner.lock:
            os.kill(os.getpid(), signal.SIGTERM)
            show("held")
        time.sleep(10)
    """
    ended = run_script(program, tmp_path, preamble=PROLOGUE)

    assert (ended.lines, ended.code) == (["held", "draft"], -signal.SIGTERM), ended.errors
    assert ended.seconds < 5.0
