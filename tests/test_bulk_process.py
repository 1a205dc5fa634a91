"""Bulk runs and the process: forks in the middle of one, and exits with a thread that hangs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batcher import BatchProcessor, CheckpointError, process_batch
from batcher._checkpoint import _in_use_locks
from tests.bulk_tools import Elsewhere, Hold
from tests.forks import FORKS, in_child
from tests.scripts import VERSIONS, run_script


@pytest.mark.parametrize("fork", FORKS)
def test_fork_in_the_middle_of_a_run(fork: Callable[[], int], tmp_path: Path) -> None:
    """The child has no run, whatever lock was held, and makes its own; the parent's goes on."""
    path = tmp_path / "done"

    def look() -> tuple[str, list[int], list[int], str]:
        state = processor.status().state
        processor.stop()
        mine = process_batch(range(5), int, batch_size=2, checkpoint=tmp_path / "mine", item_key=str).results
        streamed = [outcome.index for outcome in BatchProcessor(int).stream(range(3))]
        try:
            process_batch([1], int, checkpoint=path, item_key=str)
        except CheckpointError as error:
            return state, mine, streamed, str(error)
        return state, mine, streamed, "not refused"

    with Hold() as hold:
        processor = BatchProcessor(hold, checkpoint=path, item_key=str)
        run = Elsewhere(lambda: processor.run([7]))
        hold.wait_for(1)
        books = processor._latest._books if processor._latest is not None else None
        assert books is not None
        with _in_use_locks[0], books._lock:
            found = in_child(look, fork)
        hold.may_go.set()
        assert run.result().results == [7]

    assert found[:3] == ("idle", [0, 1, 2, 3, 4], [0, 1, 2])
    assert "another run is using" in found[3]


PREAMBLE = """
import threading
from batcher import process_batch
"""


@pytest.mark.integration
@pytest.mark.parametrize("version", VERSIONS)
def test_hung_item_holds_up_no_exit(version: str, tmp_path: Path) -> None:
    """A program whose item hangs ends when its run has ended."""
    program = """
    def process(item):
        if item == 0:
            threading.Event().wait()
        return item

    print(process_batch([0, 1], process, timeout=0.2).results)
    """
    ending = run_script(program, tmp_path, version=version, preamble=PREAMBLE)

    assert (ending.code, ending.lines, ending.errors) == (0, ["[1]"], "")
    assert ending.seconds < 5


@pytest.mark.integration
@pytest.mark.parametrize("version", VERSIONS)
def test_run_at_exit(version: str, tmp_path: Path) -> None:
    """A run in an exit handler works, or is refused at once where Python starts no threads any more."""
    program = """
    import atexit

    def last():
        try:
            print(process_batch([1, 2], str).results)
        except RuntimeError as error:
            print("refused:", error)

    atexit.register(last)
    """
    ending = run_script(program, tmp_path, version=version, preamble=PREAMBLE)

    assert ending.code == 0
    refused = "refused: can't create new thread at interpreter shutdown"
    assert " ".join(ending.lines) in ("['1', '2']", refused)
    assert ending.seconds < 5
