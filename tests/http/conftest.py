"""A server on loopback, and the three kinds of clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.http.batch_server import BatchServer, batch_server
from tests.http.kinds import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[BatchServer]:
    """A server that speaks every dialect."""
    with batch_server() as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of client in turn."""
    return KINDS[request.param]
