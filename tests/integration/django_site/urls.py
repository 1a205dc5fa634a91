"""The site's views and their addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import JsonResponse
from django.urls import path

from . import people

if TYPE_CHECKING:
    from django.http import HttpRequest


def person(request: HttpRequest, key: int) -> JsonResponse:
    """Answer with a person's name."""
    return JsonResponse({"name": people.names.add(key).result(timeout=10)})


def status(request: HttpRequest) -> JsonResponse:
    """Tell the count of batches, and of the database's connections when all batches are over."""
    people.names.flush(timeout=5)
    return JsonResponse(
        {
            "batches": people.names.status().batches,
            "most_open": people.most_open,
            "open": people.open_connections(),
        }
    )


urlpatterns = [path("people/<int:key>", person), path("status", status)]
