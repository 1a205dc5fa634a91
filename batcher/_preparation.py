"""The `prepare` step of a bulk run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batcher.errors import ResultShapeError

if TYPE_CHECKING:
    from collections.abc import Callable


def ready(prepare: Callable[[list[Any]], list[Any]], items: list[Any]) -> list[Any]:
    """Return what `prepare` makes of the items.

    Raises:
        ResultShapeError: It is no list of the same length.
    """
    prepared: object = None
    try:
        prepared = prepare(list(items))
        if not isinstance(prepared, list | tuple) or len(prepared) != len(items):
            length = f" of length {len(prepared)}" if isinstance(prepared, list | tuple) else ""
            raise ResultShapeError(
                f"prepare must return a list of {len(items)} items, got a {type(prepared).__name__}{length}"
            )
        return list(prepared)
    finally:
        del items, prepared
