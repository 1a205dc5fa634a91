"""Users and their visits in SQLite or PostgreSQL, and a count of the queries for users.

Used on both sides: by the application under a server, and by the test, which makes the users and reads
the rest.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Protocol

import psycopg


class Userbase(Protocol):
    """Users and their visits."""

    where: str

    def create(self, count: int) -> None:
        """Create the tables and the users 1 to `count`."""
        ...

    def names(self, numbers: list[int]) -> dict[int, str]:
        """Return the names of those users that exist, in one query."""
        ...

    def query_count(self) -> int:
        """Return how often `names` has been asked, by whichever process."""
        ...

    def record_visits(self, numbers: list[int]) -> None:
        """Note that these users were asked for."""
        ...

    def visits(self) -> list[int]:
        """Return the users that were asked for, in the order of their numbers."""
        ...


def open_userbase(where: str) -> Userbase:
    """Return the database that `where` (as in its attribute `where`) names."""
    kind, _, rest = where.partition(":")
    return SQLiteUsers(rest) if kind == "sqlite" else PostgresUsers(rest)


def name_of(number: int) -> str:
    """Return the name that `create` gives a user."""
    return f"user no. {number}"


class SQLiteUsers:
    """A SQLite file in which each query leaves a row."""

    def __init__(self, path: str) -> None:
        """Know the file."""
        self.where = f"sqlite:{path}"
        self._path = path

    def create(self, count: int) -> None:
        """Create the tables and the users 1 to `count`."""
        with closing(self._connect()) as connection, connection:
            connection.execute("CREATE TABLE users (number INTEGER PRIMARY KEY, name TEXT)")
            connection.execute("CREATE TABLE queries (size INTEGER)")
            connection.execute("CREATE TABLE visits (number INTEGER)")
            connection.executemany("INSERT INTO users VALUES (?, ?)", _rows(count))

    def names(self, numbers: list[int]) -> dict[int, str]:
        """Return the names of those users that exist, in one query."""
        marks = ",".join("?" * len(numbers))
        with closing(self._connect()) as connection, connection:
            connection.execute("INSERT INTO queries VALUES (?)", (len(numbers),))
            return dict(connection.execute(f"SELECT number, name FROM users WHERE number IN ({marks})", numbers))  # noqa: S608

    def query_count(self) -> int:
        """Return how many rows the queries left."""
        with closing(self._connect()) as connection:
            count: int = connection.execute("SELECT count(*) FROM queries").fetchone()[0]
            return count

    def record_visits(self, numbers: list[int]) -> None:
        """Note that these users were asked for."""
        with closing(self._connect()) as connection, connection:
            connection.executemany("INSERT INTO visits VALUES (?)", [(number,) for number in numbers])

    def visits(self) -> list[int]:
        """Return the users that were asked for, in the order of their numbers."""
        with closing(self._connect()) as connection:
            return [number for (number,) in connection.execute("SELECT number FROM visits ORDER BY number")]

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=20)


class PostgresUsers:
    """A PostgreSQL database, whose server counts the calls of each statement."""

    def __init__(self, dsn: str) -> None:
        """Know the connection string."""
        self.where = f"postgresql:{dsn}"
        self._dsn = dsn

    def create(self, count: int) -> None:
        """Create the tables and the users 1 to `count`."""
        with psycopg.connect(self._dsn) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE users (number integer PRIMARY KEY, name text)")
            cursor.execute("CREATE TABLE visits (number integer)")
            cursor.executemany("INSERT INTO users VALUES (%s, %s)", _rows(count))

    def names(self, numbers: list[int]) -> dict[int, str]:
        """Return the names of those users that exist, in one query."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            rows = connection.execute("SELECT number, name FROM users WHERE number = ANY(%s)", (numbers,))
            return dict(rows.fetchall())

    def query_count(self) -> int:
        """Return the server's own count."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            row = connection.execute(
                "SELECT coalesce(sum(calls), 0)::integer FROM pg_stat_statements"
                " JOIN pg_database ON pg_database.oid = dbid AND datname = current_database()"
                " WHERE query LIKE 'SELECT number, name FROM users %'"
            ).fetchone()
        assert row is not None
        count: int = row[0]
        return count

    def record_visits(self, numbers: list[int]) -> None:
        """Note that these users were asked for."""
        with psycopg.connect(self._dsn) as connection:
            connection.execute("INSERT INTO visits SELECT unnest(%s::integer[])", (numbers,))

    def visits(self) -> list[int]:
        """Return the users that were asked for, in the order of their numbers."""
        with psycopg.connect(self._dsn) as connection:
            return [number for (number,) in connection.execute("SELECT number FROM visits ORDER BY number")]


def _rows(count: int) -> list[tuple[int, str]]:
    return [(number, name_of(number)) for number in range(1, count + 1)]
