"""What the site knows."""

from __future__ import annotations

from django.db import models


class Person(models.Model):
    """Somebody with a name."""

    name: models.CharField[str, str] = models.CharField(max_length=100)

    def __str__(self) -> str:
        """Return the name."""
        return self.name
