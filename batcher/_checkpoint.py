"""Which items of a bulk run are done, on disk.

One table of keys in an SQLite file. What `record` has returned from survives a kill and a power failure:
the file is in WAL mode with `synchronous=FULL`, so that each commit is synced. A run holds the file by an
exclusive lock from its first to its last moment. A file that isn't such a checkpoint is refused before
anything is written to it.

A key is skipped if an earlier run has recorded it; the same key twice in one input is two items of one
run, and both are processed.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batcher._process import on_fork
from batcher.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID = 0x42_54_43_48  # "BTCH"; at byte 68 of the header, big-endian
_VERSION = 1  # at byte 60
_MOST_VARIABLES = 500

# The files that this process has open. SQLite's own lock would keep two runs of one process apart as well, but
# looking at a file's header and closing it again would take the lock of the first run away (fcntl locks end with
# the first close of the file by the process).
# Each with the checkpoint that has it, as long as that is alive: one that Ctrl-C kept from being closed is not.
_in_use: dict[tuple[int, int], weakref.ref[Checkpoint]] = {}
# Guards: _in_use. A list, to be filled anew in a forked child, where another thread may hold it for ever. What the
# parent has in use is in use for the child as well.
_in_use_locks = [threading.Lock()]


def _renew_lock() -> None:
    _in_use_locks[0] = threading.Lock()


on_fork(_renew_lock)


class Checkpoint:
    """The checkpoint file of one run.

    Thread safety: may be used from any thread, one call after another.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file, or make it, readable by its owner alone.

        Raises:
            CheckpointError: It isn't a checkpoint, it is damaged, or another run has it.
            OSError: It can't be opened.
        """
        self._path = os.fspath(path)
        # Guards: the connection.
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False
        try:
            _claim(self._path, self)
            with self._explained():
                # One after another is what the lock sees to, so any thread may do it.
                self._connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
                self._run = self._set_up(self._connection)
        except BaseException:
            self.close()
            raise

    def _set_up(self, connection: sqlite3.Connection) -> int:
        """Lock and check the file; return the number of this run."""
        execute = connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")  # before the first access: then WAL needs no shared memory
        execute("BEGIN EXCLUSIVE")
        if execute("PRAGMA application_id").fetchone()[0] == 0:
            execute("CREATE TABLE done (key TEXT PRIMARY KEY, run INTEGER NOT NULL) WITHOUT ROWID")
            execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            execute(f"PRAGMA user_version = {_VERSION}")
        execute("COMMIT")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        found = execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise CheckpointError(f"the checkpoint {self._path!r} is damaged: {found}")
        latest: int | None = execute("SELECT max(run) FROM done").fetchone()[0]
        return (latest or 0) + 1

    def done(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that an earlier run has recorded.

        Raises:
            CheckpointError: The file can't be read.
        """
        found: set[str] = set()
        with self._lock, self._explained():
            for start in range(0, len(keys), _MOST_VARIABLES):
                some = keys[start : start + _MOST_VARIABLES]
                marks = ", ".join("?" * len(some))
                query = f"SELECT key FROM done WHERE run < ? AND key IN ({marks})"  # noqa: S608 - question marks only
                found.update(row[0] for row in self._connected().execute(query, (self._run, *some)))
        return found

    def record(self, keys: Sequence[str]) -> None:
        """Put keys on disk, all or none; when it returns they are there.

        Raises:
            CheckpointError: They can't be written.
        """
        if not keys:
            return
        with self._lock, self._explained():
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany("INSERT OR IGNORE INTO done VALUES (?, ?)", [(key, self._run) for key in keys])
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    def close(self) -> None:
        """Let go of the file; may be repeated."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
            self._is_closed = True

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("it is closed")
        return self._connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise _in_use_error(self._path) from error
            raise CheckpointError(f"the checkpoint {self._path!r} can't be used: {error}") from error


def _claim(path: str, owner: Checkpoint) -> None:
    """Make the file if it isn't there, look whether it is a checkpoint, and note whose it is."""
    with _in_use_locks[0]:
        try:
            found = os.stat(path)  # noqa: PTH116 - the path may be anything that os.fspath takes
        except FileNotFoundError:
            pass
        else:
            _refuse_if_in_use(path, found)
            if not stat.S_ISREG(found.st_mode):
                raise CheckpointError(f"the checkpoint {path!r} is no regular file")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            header = os.read(descriptor, 100)
            opened = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        _refuse_if_in_use(path, opened)
        if header and not _is_ours(header):
            raise CheckpointError(f"{path!r} is there, and no checkpoint of this library; it is left as it is")
        if not header:
            os.chmod(path, 0o600)  # noqa: PTH101 - as above; it may have been there, empty and open to all
        for key in [key for key, other in _in_use.items() if not _is_open(other)]:
            del _in_use[key]
        _in_use[opened.st_dev, opened.st_ino] = weakref.ref(owner)


def _is_open(owner: weakref.ref[Checkpoint] | None) -> bool:
    checkpoint = None if owner is None else owner()
    return checkpoint is not None and not checkpoint._is_closed  # noqa: SLF001 - this module's own


def _is_ours(header: bytes) -> bool:
    """Say whether this is the header of a checkpoint that this version can read."""
    return (
        header.startswith(_MAGIC)
        and int.from_bytes(header[68:72]) == _APPLICATION_ID
        and int.from_bytes(header[60:64]) == _VERSION
    )


def _refuse_if_in_use(path: str, found: os.stat_result) -> None:
    if _is_open(_in_use.get((found.st_dev, found.st_ino))):
        raise _in_use_error(path)


def _in_use_error(path: str) -> CheckpointError:
    return CheckpointError(f"another run is using the checkpoint {path!r}")
