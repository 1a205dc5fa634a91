"""What a `Batcher` was made with, checked once."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batcher._options import (
    check_callable,
    check_choice,
    check_count,
    check_flag,
    check_partner,
    check_seconds,
    check_weight_limit,
    require_seconds,
)
from batcher._retry import as_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager

    from batcher._breaker import CircuitBreaker
    from batcher._status import BatchRecord
    from batcher._throttle import Throttle

_OVERFLOWS = ("block", "raise", "drop_oldest", "drop_newest")
_CALLABLES = ("handler", "weigh", "batch_key", "around_batch", "on_error", "on_batch", "on_drop")
_COUNTS = ("max_batch_size", "max_pending", "max_concurrent")
_FLAGS = ("adaptive", "split_failed")
_PARTNERS = ("executor", "circuit_breaker", "throttle")
_LIMITS = ("max_batch_weight", "max_pending_weight")


def _itself(item: Any) -> Any:  # noqa: ANN401
    """Be the dedup key of an item that is its own."""
    return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a `Batcher` was made with, validated."""

    handler: Callable[[list[Any]], object] | None
    max_batch_size: int
    max_delay: float | None
    adaptive: bool
    max_batch_weight: float | None
    weigh: Callable[[Any], float] | None
    batch_key: Callable[[Any], Hashable] | None
    dedup_key: Any  # given as for `Batcher`; then a callable or None
    cache: MutableMapping[Any, Any] | None
    max_pending: int
    max_pending_weight: float | None
    overflow: str
    max_concurrent: int
    executor: Executor | None
    handler_timeout: float | None
    retry: Any  # given as for `Batcher`; then a RetryPolicy or None
    split_failed: bool
    circuit_breaker: CircuitBreaker | None
    throttle: Throttle | None
    around_batch: Callable[[], AbstractContextManager[object]] | None
    on_error: Callable[[BaseException, list[Any]], object] | None
    on_batch: Callable[[BatchRecord], object] | None
    on_drop: Callable[[Any, BaseException], object] | None
    exit_timeout: float
    name: str

    @property
    def is_tracked(self) -> bool:
        """Whether items have a key or a weight, or share places, so that the queue must know each."""
        return self.batch_key is not None or self.weigh is not None or self.dedup_key is not None

    def __post_init__(self) -> None:
        """Check every option.

        Raises:
            TypeError: An option has the wrong type.
            ValueError: An option is out of range, or needs another one.
        """
        for name in _CALLABLES:
            check_callable(name, getattr(self, name))
        for name in _FLAGS:
            check_flag(name, getattr(self, name))
        for name in _COUNTS:
            check_count(name, getattr(self, name))
        for name in _LIMITS:
            self._set(name, check_weight_limit(name, getattr(self, name)))
        self._set("max_delay", check_seconds("max_delay", self.max_delay))
        self._set("handler_timeout", check_seconds("handler_timeout", self.handler_timeout, positive=True))
        self._set("exit_timeout", require_seconds("exit_timeout", self.exit_timeout))
        self._set("retry", as_retry("retry", self.retry))
        check_choice("overflow", self.overflow, _OVERFLOWS)
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a str or None, got {self.name!r}")
        self._check_sharing()
        for name in _PARTNERS:
            check_partner(name, getattr(self, name))

    def _check_sharing(self) -> None:
        """Check what makes items share places, results and batches."""
        if self.weigh is None and (self.max_batch_weight is not None or self.max_pending_weight is not None):
            raise ValueError(
                "max_batch_weight and max_pending_weight need weigh, "
                f"got {self.max_batch_weight!r} and {self.max_pending_weight!r} without it"
            )
        if self.dedup_key is True:
            self._set("dedup_key", _itself)
        elif self.dedup_key is not None and not callable(self.dedup_key):
            raise TypeError(f"dedup_key must be callable, True or None, got {self.dedup_key!r}")
        if self.cache is not None and not isinstance(self.cache, MutableMapping):
            raise TypeError(f"cache must be a MutableMapping or None, got a {type(self.cache).__name__}")
        if self.cache is not None and self.dedup_key is None:
            raise ValueError("cache needs dedup_key, got a cache without it")

    def _set(self, name: str, value: object) -> None:
        """Put the checked value in the place of what was given: seconds come as floats, not beyond all waits."""
        object.__setattr__(self, name, value)
