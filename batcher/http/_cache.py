"""An HTTP cache in front of the batches: hishel, with entries that are nobody else's."""

from __future__ import annotations

import hashlib
import sqlite3
from importlib import import_module
from typing import TYPE_CHECKING, Any

from batcher.http import _httpx
from batcher.http._sharing import PART_HEADERS, shared_headers

if TYPE_CHECKING:
    from types import ModuleType, TracebackType
    from typing import Self

_HINT = "cache= needs hishel 2 or newer: pip install 'thread-batcher[http-cache]'"


class CacheFront:
    """A transport that answers from a cache what it can, and hands on the rest.

    hishel stores answers under method and address. Here the headers that may say who is asking belong to
    the key as well, so that one client for many users mixes none of them up; and as entries are nobody
    else's, the rules are those of a private cache (RFC 9111).

    Thread safety: that of the storage; hishel's own may be used from any thread.
    """

    def __init__(self, line: ModuleType, behind: Any, *, cache: object) -> None:  # noqa: ANN401 - of either line
        """Put a cache in front of a transport of a line.

        Args:
            line: httpx2 or httpx.
            behind: The transport that is asked for what isn't in the cache.
            cache: A hishel storage, which isn't closed here, or True for one in memory.

        Raises:
            ImportError: hishel isn't there, or doesn't know this line.
            TypeError: `cache` is neither.
        """
        hishel = _load(line)
        self._own_storage = None
        if cache is True:
            connection = sqlite3.connect(":memory:", check_same_thread=False)
            cache = self._own_storage = hishel.SqliteStorage(connection=connection)
        elif not isinstance(cache, hishel.BaseStorage):
            raise TypeError(f"cache must be True, None or a hishel storage, got {cache!r}")
        self._behind = behind
        options = hishel.CacheOptions(shared=False)
        self._cache = import_module(f"hishel.{line.__name__}").CacheTransport(behind, cache, rfc=options)

    def handle_request(self, request: Any) -> Any:  # noqa: ANN401 - of either line
        """Answer a request."""
        head = _httpx.read_head(request)
        # One key for all methods, so that a PUT finds the entries that it makes stale.
        identity = repr((head.url, shared_headers(head, PART_HEADERS)))
        key = hashlib.sha256(identity.encode()).hexdigest()
        request.extensions = {**request.extensions, "caching": {"key": key, **request.extensions.get("caching", {})}}
        return self._cache.handle_request(request)

    def close(self) -> None:
        """Close the transport behind, and the storage if it was made here."""
        try:
            self._behind.close()
        finally:
            if self._own_storage is not None:
                self._own_storage.close()

    def __enter__(self) -> Self:
        """Enter the transport behind too."""
        self._behind.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Close."""
        self.close()


def _load(line: ModuleType) -> ModuleType:
    """Return hishel, if it has what a line needs."""
    try:
        hishel = import_module("hishel")
        served = import_module(f"hishel.{line.__name__}")
    except ImportError as error:
        raise ImportError(f"{_HINT} (for {line.__name__}: {error})") from error
    if not hasattr(served, "CacheTransport"):
        raise ImportError(f"{_HINT} (this one has no synchronous transport for {line.__name__})")
    return hishel
