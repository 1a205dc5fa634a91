"""Settings of the Django project; the environment names the database."""

import os
from typing import Any


def _database(where: str) -> dict[str, Any]:
    """Turn "sqlite:FILE" or "postgresql:FOLDER OF THE SOCKET:USER:NAME" into Django's terms."""
    kind, *parts = where.split(":")
    if kind == "sqlite":
        # A test database on file too: one in memory would be shared by all threads, and never closed.
        name = parts[0]
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "TEST": {"NAME": f"{name}.test"}}
    folder, user, name = parts
    return {"ENGINE": "django.db.backends.postgresql", "HOST": folder, "USER": user, "NAME": name}


DATABASES = {"default": _database(os.environ["SITE_DATABASE"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["tests.integration.django_site"]
ROOT_URLCONF = "tests.integration.django_site.urls"
WSGI_APPLICATION = "tests.integration.django_site.wsgi.application"
SECRET_KEY = "of a throw-away site"  # noqa: S105
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
