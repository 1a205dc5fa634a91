"""The batchers of the site, and how many connections its process has open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from django.db import connection

from batcher import Batcher
from batcher.contrib.django import fresh_connections

from .models import Person

THREADS = 4
most_open = 0


def load_names(keys: list[int]) -> dict[int, str]:
    """Return the names of those people that exist, in one query."""
    global most_open  # noqa: PLW0603 - the view shows it
    names = {key: person.name for key, person in Person.objects.in_bulk(keys).items()}
    most_open = max(most_open, open_connections())
    return cast("dict[int, str]", names)


# Small batches on several threads: each thread has a connection of its own.
names = Batcher(load_names, max_batch_size=2, max_delay=0.002, max_concurrent=THREADS, around_batch=fresh_connections)


def open_connections() -> int:
    """Count the open connections of this process to a SQLite file, or those to a PostgreSQL database."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            count: int = cursor.fetchone()[0]
            return count
    database = Path(connection.settings_dict["NAME"]).stat()
    return sum(os.path.samestat(database, opened) for opened in _open_files())


def _open_files() -> list[os.stat_result]:
    found = []
    for descriptor in Path("/dev/fd").iterdir():
        try:
            found.append(os.fstat(int(descriptor.name)))
        except OSError:
            continue  # the one that listed the folder
    return found
