"""What every workload asks of a contender: of us, of a library, of forty lines written by hand."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

Handler = Callable[[list[Any]], Any]


class MissingError(Exception):
    """A contender that isn't installed, or that can't do this workload."""


@dataclass(frozen=True)
class Settings:
    """What a workload fixes for all contenders alike.

    Attributes:
        max_batch_size: The most items of one handler call.
        max_delay: The window in seconds.
        capacity: The most items that wait. Contenders without a bound are left without one.
        batch_key: What keeps items apart; only we have one.
        is_slow: Whether the handler sleeps: those who must choose where it runs go by it.
    """

    max_batch_size: int = 100
    max_delay: float = 0.005
    capacity: int = 10_000
    is_slow: bool = False
    batch_key: Callable[[Any], Hashable] | None = None


class Pending(Protocol):
    """A future of whatever make."""

    def result(self) -> Any:  # noqa: ANN401 - whatever the handler returned
        """Block until the item's batch is done."""
        ...


class Contender(Protocol):
    """A batcher of whatever make. What it can't do it lacks, or raises MissingError."""

    def add(self, item: Any, /) -> Pending:  # noqa: ANN401
        """Queue an item."""
        ...

    def put(self, item: Any, /) -> None:  # noqa: ANN401
        """Queue an item and forget it."""
        ...

    def close(self) -> object:
        """Send what is queued and end, as far as the contender can."""
        ...


Make = Callable[[Handler, Settings], Contender]
Figures = dict[str, float]
