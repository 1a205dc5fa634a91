"""A server on loopback, and the three kinds of clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batcher.http import Format, JSONBatch, MultipartBatch
from tests.http.batch_server import JSON_BATCH, MULTIPART_BATCH, BatchServer, batch_server
from tests.http.kinds import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def server() -> Iterator[BatchServer]:
    """A server that speaks every dialect."""
    with batch_server() as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of client in turn."""
    return KINDS[request.param]


DIALECTS: dict[str, Callable[[], Format]] = {
    "json": lambda: JSONBatch(JSON_BATCH),
    "multipart": lambda: MultipartBatch(MULTIPART_BATCH),
}


@pytest.fixture(params=DIALECTS)
def wire_format(request: pytest.FixtureRequest) -> Format:
    """Each format whose parts are whole requests in turn."""
    return DIALECTS[request.param]()
