"""What a `BatchProcessor` was made with, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batcher._options import (
    check_callable,
    check_count,
    check_does_its_work,
    check_flag,
    check_partner,
    check_seconds,
    require_seconds,
)
from batcher._retry import as_retry

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from concurrent.futures import Executor

    from batcher._breaker import CircuitBreaker
    from batcher._progress import Progress
    from batcher._retry import RetryPolicy
    from batcher._throttle import Throttle

_CALLABLES = ("processor", "batch_processor", "on_progress", "priority", "prepare", "item_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkSettings:
    """What a `BatchProcessor` was made with, validated."""

    processor: Callable[[Any], object] | None
    batch_processor: Callable[[list[Any]], object] | None
    batch_size: int
    max_concurrent: int
    delay: float
    timeout: float | None
    retries: RetryPolicy | int | None
    on_progress: Callable[[Progress], object] | None
    progress: bool
    total: int | None
    executor: Executor | None
    max_failures: float | None
    throttle: Throttle | None
    circuit_breaker: CircuitBreaker | None
    priority: Callable[[Any], Any] | None
    prepare: Callable[[list[Any]], list[Any]] | None
    reduce: tuple[Callable[[Any, Any], Any], Any] | None
    checkpoint: str | os.PathLike[str] | None
    item_key: Callable[[Any], str] | None
    name: str

    @property
    def policy(self) -> RetryPolicy | None:
        """The retry policy, None for no retries."""
        return as_retry("retries", self.retries)

    def __post_init__(self) -> None:
        """Check every option.

        Raises:
            TypeError: An option has the wrong type.
            ValueError: An option is out of range, or needs another one.
        """
        for name in _CALLABLES:
            check_callable(name, getattr(self, name))
        if (self.processor is None) is (self.batch_processor is None):
            raise TypeError(
                "one of processor and batch_processor must be given, and not both, "
                f"got {self.processor!r} and {self.batch_processor!r}"
            )
        check_does_its_work("processor", self.processor)
        check_count("batch_size", self.batch_size)
        check_count("max_concurrent", self.max_concurrent)
        check_flag("progress", self.progress)
        self._set("delay", require_seconds("delay", self.delay))
        if self.delay and self.batch_processor is not None:
            raise ValueError(
                f"delay is for a processor of single items, got {self.delay!r} with a batch_processor; "
                "a throttle limits how often that is called"
            )
        self._set("timeout", check_seconds("timeout", self.timeout, positive=True))
        as_retry("retries", self.retries)
        _check_total(self.total)
        _check_max_failures(self.max_failures)
        _check_reduce(self.reduce)
        for name in ("executor", "throttle", "circuit_breaker"):
            check_partner(name, getattr(self, name))
        if (self.checkpoint is None) is not (self.item_key is None):
            raise ValueError(f"checkpoint and item_key need each other, got {self.checkpoint!r} and {self.item_key!r}")
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a str or None, got {self.name!r}")

    def _set(self, name: str, value: object) -> None:
        """Put the checked value in the place of what was given: seconds come as floats, not beyond all waits."""
        object.__setattr__(self, name, value)


def _check_total(value: object) -> None:
    wanted = "an int of at least 0 or None"
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"total must be {wanted}, got {value!r}")
    if value is not None and value < 0:
        raise ValueError(f"total must be {wanted}, got {value!r}")


def _check_max_failures(value: object) -> None:
    wanted = "an int of at least 0, a float from 0.0 to 1.0, or None"
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"max_failures must be {wanted}, got {value!r}")
    # Written so that nan, which compares with nothing, fails.
    if not (value >= 0 and (isinstance(value, int) or value <= 1)):
        raise ValueError(f"max_failures must be {wanted}, got {value!r}")


def _check_reduce(value: object) -> None:
    if value is None:
        return
    if not isinstance(value, tuple) or len(value) != 2:  # noqa: PLR2004 - a pair
        raise TypeError(f"reduce must be a tuple (function, initial) or None, got {value!r}")
    check_callable("reduce[0]", value[0], optional=False)
