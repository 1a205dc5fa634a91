"""Make the site's tables and as many people as the argument says: `python -m ...populate 8`."""

from __future__ import annotations

import sys

import django
from django.core.management import call_command


def main(count: int) -> None:
    """Make the tables and the people 1 to `count`."""
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    from .models import Person  # noqa: PLC0415 - models exist after the setup

    Person.objects.bulk_create(Person(pk=key, name=f"person {key}") for key in range(1, count + 1))


if __name__ == "__main__":
    main(int(sys.argv[1]))
