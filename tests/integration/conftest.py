"""Databases for the integration tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .postgres import Cluster, find_programs, throw_away_cluster
from .userbase import PostgresUsers, SQLiteUsers, Userbase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS = 400
DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A PostgreSQL server of our own."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs initdb and postgres are not on this machine")
    with throw_away_cluster(programs, tmp_path_factory.mktemp("postgres") / "log") as cluster:
        yield cluster


@pytest.fixture
def sqlite_users(tmp_path: Path) -> Userbase:
    """Users in a SQLite file."""
    userbase = SQLiteUsers(str(tmp_path / "users.db"))
    userbase.create(USERS)
    return userbase


@pytest.fixture(params=DATABASES)
def users(request: pytest.FixtureRequest) -> Userbase:
    """Users in SQLite, then in PostgreSQL."""
    if request.param == "sqlite":
        found: Userbase = request.getfixturevalue("sqlite_users")
        return found
    cluster: Cluster = request.getfixturevalue("cluster")
    userbase = PostgresUsers(cluster.dsn(cluster.create_database()))
    userbase.create(USERS)
    return userbase
