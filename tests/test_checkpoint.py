"""Checkpoints: what is recorded is on disk, what is on disk is skipped, and no other file is touched."""

import itertools
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batcher import BatchProcessor, CheckpointError, process_batch
from batcher._checkpoint import Checkpoint
from tests.bulk_tools import SECONDS, Elsewhere, Hold, becomes

ROOT = Path(__file__).parents[1]


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    """A path where there is nothing yet."""
    return tmp_path / "done.checkpoint"


def recorded(path: Path) -> set[str]:
    """Return the keys in a checkpoint that nobody uses."""
    with closing(sqlite3.connect(path)) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM done")}


def test_recorded_keys_are_done_for_later_runs(path: Path) -> None:
    """What one run has recorded, the next one finds; the same run doesn't skip its own."""
    first = Checkpoint(path)
    first.record(["a", "ü", "c'"])
    first.record([])
    assert first.done(["a"]) == set()
    first.close()
    first.close()
    second = Checkpoint(str(path))
    try:
        assert second.done(["a", "b", "ü", "c'"]) == {"a", "ü", "c'"}
        assert second.done([]) == set()
        second.record(["a", "d"])
    finally:
        second.close()

    assert recorded(path) == {"a", "ü", "c'", "d"}


def test_many_keys_at_once(path: Path) -> None:
    """More keys than a statement takes variables are looked up as well."""
    keys = [str(number) for number in range(1234)]
    first = Checkpoint(path)
    first.record(keys)
    first.close()
    second = Checkpoint(path)
    try:
        assert second.done([*keys, "x"]) == set(keys)
    finally:
        second.close()


def test_file_is_the_owners_alone(path: Path) -> None:
    """The file and what SQLite puts beside it can be read by nobody else, an empty file that was there as well."""
    path.touch(0o644)
    before = os.umask(0)
    try:
        checkpoint = Checkpoint(path)
        checkpoint.record(["a"])
        modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        checkpoint.close()
    finally:
        os.umask(before)

    assert modes == {0o600}
    assert list(path.parent.iterdir()) == [path]


def test_every_commit_is_synced(path: Path) -> None:
    """The connection syncs the write-ahead log at each commit, and shares the file with nobody."""
    checkpoint = Checkpoint(path)
    try:
        assert checkpoint._connection is not None
        pragmas = [
            checkpoint._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "locking_mode")
        ]
    finally:
        checkpoint.close()

    assert pragmas == ["wal", 2, "exclusive"]


@pytest.mark.parametrize(
    "content",
    [b"name,age\n", b"SQLite format 3\0" + bytes(84), b"x" * 5000],
    ids=["text", "headed", "long"],
)
def test_foreign_file_is_left_as_it_is(path: Path, content: bytes) -> None:
    """A file that is no checkpoint is refused, and not a byte of it changes."""
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="no checkpoint of this library"):
        process_batch([1], int, checkpoint=path, item_key=str)

    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_foreign_database_is_left_as_it_is(path: Path) -> None:
    """Another program's database is refused too."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE done (key)")
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match="no checkpoint of this library"):
        Checkpoint(path)

    assert path.read_bytes() == content


def test_newer_version_is_refused(path: Path) -> None:
    """A checkpoint of a later layout isn't guessed at."""
    Checkpoint(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(CheckpointError, match="no checkpoint of this library"):
        Checkpoint(path)


@pytest.mark.parametrize("place", [4096, 8192 + 8], ids=["table", "later"])
def test_damaged_checkpoint_is_refused(path: Path, place: int) -> None:
    """A checkpoint whose pages are spoilt is refused, and left as it is."""
    checkpoint = Checkpoint(path)
    checkpoint.record([f"a long key for a large table, {number}" for number in range(2000)])
    checkpoint.close()
    content = bytearray(path.read_bytes())
    content[place : place + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged|can't be used"):
        Checkpoint(path)

    assert path.read_bytes() == content


def test_truncated_checkpoint_is_refused(path: Path) -> None:
    """So is one that was cut off."""
    checkpoint = Checkpoint(path)
    checkpoint.record([str(number) for number in range(5000)])
    checkpoint.close()
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(CheckpointError):
        Checkpoint(path)


def test_directory_is_refused(tmp_path: Path) -> None:
    """A path that is no file is refused; one that can't be made raises what the system says."""
    with pytest.raises(CheckpointError, match="no regular file"):
        Checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError):
        Checkpoint(tmp_path / "missing" / "file")


def test_second_run_in_the_same_process_is_refused(path: Path) -> None:
    """While one run has the file, by whatever path, another is refused; afterwards it isn't."""
    link = path.with_name("link")
    with Hold() as hold:
        run = Elsewhere(lambda: process_batch([1], hold, checkpoint=path, item_key=str))
        hold.wait_for(1)
        link.symlink_to(path)
        for name in (path, link):
            with pytest.raises(CheckpointError, match="another run is using"):
                process_batch([2], int, checkpoint=name, item_key=str)
        hold.may_go.set()
        run.result()

    assert process_batch([1, 2], int, checkpoint=link, item_key=str).skipped == 1


def test_second_run_in_another_process_is_refused(path: Path) -> None:
    """So is a run of another process, also after one of this process was refused."""
    program = f"from batcher._checkpoint import Checkpoint; Checkpoint({str(path)!r})"
    checkpoint = Checkpoint(path)
    with pytest.raises(CheckpointError, match="another run is using"):
        Checkpoint(path)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT
        )
    finally:
        checkpoint.close()

    assert ended.returncode == 1
    assert "another run is using the checkpoint" in ended.stderr


def test_checkpoint_that_cannot_be_written(path: Path) -> None:
    """A failed write leaves the earlier keys; the run ends with the error, and carries its result."""
    Checkpoint(path).close()

    def process(item: int) -> int:
        if item == 5:
            # What a full disk, or a file system gone read-only, comes to.
            assert processor._latest is not None
            checkpoint = processor._latest._checkpoint
            assert checkpoint is not None
            assert checkpoint._connection is not None
            checkpoint._connection.execute("PRAGMA query_only = 1")
        return item

    processor = BatchProcessor(process, batch_size=1, max_concurrent=1, checkpoint=path, item_key=str)
    with pytest.raises(CheckpointError, match="can't be used") as caught:
        processor.run(itertools.count())

    assert caught.value.batch_result.stopped  # type: ignore[attr-defined]
    # The last one before may be a step behind.
    assert {"0", "1", "2", "3"} <= recorded(path) <= {"0", "1", "2", "3", "4"}


def test_full_disk(path: Path) -> None:
    """Of keys for which there is no room none is recorded, and earlier ones stay."""
    checkpoint = Checkpoint(path)
    try:
        checkpoint.record(["a"])
        assert checkpoint._connection is not None
        checkpoint._connection.execute("PRAGMA max_page_count = 3")
        with pytest.raises(CheckpointError, match="full"):
            checkpoint.record([f"{number:0100}" for number in range(1000)])
        checkpoint.record(["b"])
    finally:
        checkpoint.close()

    assert recorded(path) == {"a", "b"}


def test_closed_checkpoint_says_so(path: Path) -> None:
    """After close there is nothing to ask or write."""
    checkpoint = Checkpoint(path)
    checkpoint.close()
    with pytest.raises(CheckpointError, match="it is closed"):
        checkpoint.done(["a"])


# Runs


def test_rerun_skips_what_succeeded(path: Path) -> None:
    """A second run over the same input does only what has failed or is new."""
    calls: list[int] = []

    def process(item: int) -> float:
        calls.append(item)
        return 1 / (item % 5) if len(calls) <= 20 else 0.0

    first = process_batch(range(20), process, batch_size=6, checkpoint=path, item_key=str)
    del calls[:]
    calls += [-1] * 20
    second = process_batch(iter(range(25)), process, batch_size=6, checkpoint=path, item_key=str)

    assert [failed.item for failed in first.failed] == [0, 5, 10, 15]
    assert second.skipped == 16
    assert second.successful == [0, 5, 10, 15, 20, 21, 22, 23, 24]
    assert sorted(calls[20:]) == second.successful
    assert second.total_processed == 9


def test_equal_keys_in_one_run(path: Path) -> None:
    """The same key twice in one input is two items; a later run skips both."""
    assert process_batch([1, 1, 1], int, batch_size=1, checkpoint=path, item_key=str).results == [1, 1, 1]
    assert process_batch([1, 1, 1], int, batch_size=1, checkpoint=path, item_key=str).skipped == 3


def test_key_that_cannot_be_had(path: Path) -> None:
    """An item without a proper key fails alone, before it is tried."""

    def key(item: object) -> Any:
        if item == "raises":
            raise LookupError
        return 7 if item == "number" else "\ud800" if item == "surrogate" else item

    items = ["raises", "number", "surrogate", "good"]
    result = process_batch(items, str.upper, checkpoint=path, item_key=key)

    assert result.results == ["GOOD"]
    assert [(type(failed.error), failed.attempts) for failed in result.failed] == [
        (LookupError, 0),
        (TypeError, 0),
        (UnicodeEncodeError, 0),
    ]
    only_bad = process_batch(items[:2], str.upper, checkpoint=path, item_key=key, max_failures=0)
    assert (len(only_bad.failed), only_bad.stopped) == (2, True)


def test_checkpoint_with_priority_and_total(path: Path) -> None:
    """Skipped items take no place among those with a priority; the total of batches is unknown until the end."""
    process_batch(range(0, 20, 2), int, checkpoint=path, item_key=str)
    begun: list[int] = []
    result = process_batch(
        range(20), begun.append, checkpoint=path, item_key=str, priority=lambda n: n, batch_size=5, max_concurrent=1
    )

    assert begun == list(range(19, 0, -2))
    assert (result.skipped, result.total_batches) == (10, 2)


def test_key_that_cannot_be_had_with_a_priority(path: Path) -> None:
    """An item without a key is asked for no priority."""

    def key(item: int) -> str:
        return str(1 / item)

    result = process_batch([0, 1, 2], int, checkpoint=path, item_key=key, priority=lambda item: 1 / item)
    assert (result.results, [failed.item for failed in result.failed]) == ([1, 2], [0])


def test_batches_are_recorded_as_they_end(path: Path) -> None:
    """Keys are on disk while the run goes on, and what had ended when it was stopped is, too."""
    with Hold(5, 6) as hold:
        processor = BatchProcessor(hold, batch_size=3, max_concurrent=1, checkpoint=path, item_key=str)
        run = Elsewhere(lambda: processor.run(range(9)))
        hold.wait_for(6)
        becomes(lambda: processor.status().processed == 5)
        processor.stop()
        hold.may_go.set()
        assert run.result().results == [0, 1, 2, 3, 4, 5]

    assert recorded(path) == {"0", "1", "2", "3", "4", "5"}


def test_stream_records_what_the_caller_has_dealt_with(path: Path) -> None:
    """An item is recorded when the outcome after it is asked for, in whatever order they come."""
    for ordered in (False, True):
        path.unlink(missing_ok=True)
        processor = BatchProcessor(int, batch_size=4, max_concurrent=1, checkpoint=path, item_key=str)
        stream = processor.stream(range(100), ordered=ordered)
        for _ in range(11):
            next(stream)
        stream.close()
        assert recorded(path) == {str(number) for number in range(10)}


def test_stream_that_is_never_read_holds_no_file(path: Path) -> None:
    """The file is taken when the first outcome is asked for."""
    processor = BatchProcessor(int, checkpoint=path, item_key=str)
    stream = processor.stream([1])
    assert not path.exists()
    assert [outcome.item for outcome in stream] == [1]
    assert recorded(path) == {"1"}


def test_input_that_cannot_be_iterated_releases_the_file(path: Path) -> None:
    """A run that fails before it begins lets go of the file."""
    items: Any = 5
    with pytest.raises(TypeError):
        process_batch(items, int, checkpoint=path, item_key=str)
    assert process_batch([5], int, checkpoint=path, item_key=str).results == [5]


PROGRAM = """
import os, sys
from batcher import process_batch

log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def process(item):
    os.write(log, b"%d\\n" % item)
    return item

result = process_batch(
    range(2000), process, batch_size=10, max_concurrent=2, checkpoint=sys.argv[1], item_key=str
)
print(result.skipped, result.total_processed)
"""


@pytest.mark.parametrize("step", [97, 410])
def test_killed_run_goes_on_where_it_was(path: Path, tmp_path: Path, step: int) -> None:
    """Killed again and again at any moment, no item is lost, and each kill repeats at most what was in flight."""
    log = tmp_path / "log"
    log.touch()
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    kills = 0
    while True:
        goal = log.read_bytes().count(b"\n") + step
        child = subprocess.Popen(
            [sys.executable, str(program), str(path), str(log)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        becomes(lambda child=child, goal=goal: child.poll() is not None or log.read_bytes().count(b"\n") >= goal)  # type: ignore[misc]
        child.kill()
        output = child.communicate(timeout=SECONDS)[0]
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        kills += 1

    calls = Counter(map(int, log.read_text().split()))
    assert kills >= 3
    assert sorted(calls) == list(range(2000))
    # A kill loses at most what was read ahead and not recorded.
    assert sum(calls.values()) - 2000 <= kills * 30
    skipped, processed = map(int, output.split())
    assert skipped + processed == 2000
    assert skipped > 0
    assert recorded(path) == {str(number) for number in range(2000)}
