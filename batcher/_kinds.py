"""Which classes are among many objects: in C, for batches of thousands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def kinds_of(values: Sequence[object]) -> Iterable[type]:
    """Return the classes of the values, each once where that is cheap.

    To be compared by identity: a class of the user's may have a class of its own, with an equality of its own.
    """
    try:
        return set(map(type, values))
    except Exception:  # noqa: BLE001 - that class has no hash, or one that raises
        return list(map(type, values))


def has_kind(values: Sequence[object], kind: type) -> bool:
    """Say whether one of the values is of this very class."""
    return any(each is kind for each in kinds_of(values))
