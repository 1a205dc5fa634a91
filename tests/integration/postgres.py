"""A throw-away PostgreSQL: own files, own socket, no port, gone after the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from .servers import Program, running

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = "postgres"
OWNER = "batcher"


def find_programs() -> Path | None:
    """Return the folder of PostgreSQL's server programs, or None where there is none."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    # Debian keeps them off the PATH, by version.
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += sorted(Path("/usr").glob("pgsql*/bin"), reverse=True)
    return next((folder for folder in folders if all((folder / name).exists() for name in ("initdb", SERVER))), None)


class Cluster:
    """A running PostgreSQL server."""

    owner = OWNER

    def __init__(self, folder: str) -> None:
        """Know the server by the folder of its socket."""
        self.folder = folder
        self._made = 0

    def dsn(self, database: str) -> str:
        """Return the connection string of a database."""
        return f"host={self.folder} user={OWNER} dbname={database}"

    def is_ready(self) -> bool:
        """Say whether the server takes connections."""
        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self) -> str:
        """Create an empty database, with the server's count of statements; return its name."""
        self._made += 1
        name = f"test_{self._made}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with psycopg.connect(self.dsn(name), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        return name


def _account() -> dict[str, Any]:
    """Return the options of `Popen` for a user that PostgreSQL accepts: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    account = pwd.getpwnam(next(name for name in ("postgres", "nobody") if name in names))
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@contextmanager
def throw_away_cluster(programs: Path, log: Path) -> Iterator[Cluster]:
    """Make and run a PostgreSQL server, without a care for its files' survival."""
    account = _account()
    # Not below pytest's own folder: that one is closed to other users, and too long for a socket's name.
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        if account:
            shutil.chown(folder, account["user"], account["group"])
        data = f"{folder}/data"
        made = subprocess.run(
            [programs / "initdb", "-D", data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            **account,
        )
        assert made.returncode == 0, made.stderr
        settings = ("listen_addresses=", "fsync=off", "shared_preload_libraries=pg_stat_statements")
        command = [str(programs / SERVER), "-D", data, "-k", folder]
        for setting in settings:
            command += ["-c", setting]
        server = Program(command, log, cwd=folder, **account)
        # To PostgreSQL SIGTERM means "when all have left", SIGINT "now, but tidily".
        with running(server, stop=signal.SIGINT):
            cluster = Cluster(folder)
            server.wait_ready(cluster.is_ready)
            yield cluster
