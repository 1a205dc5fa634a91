"""What a bulk run tells of its items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class FailedItem(Generic[T]):
    """An item that ended with an error.

    Attributes:
        item: The item as it came from the input.
        error: What its last attempt ended with.
        attempts: How many attempts were made; 0 if the item never reached the processor.
    """

    item: T
    error: BaseException
    attempts: int


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T, R]):
    """How one item of a stream ended.

    Attributes:
        index: Its place in the input, counted from 0.
        item: The item as it came from the input.
        ok: Whether it has a result.
        result: What the processor returned; None where `ok` is False.
        error: What its last attempt ended with; None where `ok` is True.
        attempts: How many attempts were made.
    """

    index: int
    item: T
    ok: bool
    result: R | None
    error: BaseException | None
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult(Generic[T, R]):
    """What came of a bulk run.

    Attributes:
        successful: The items that succeeded, in the order of the input.
        results: Their results, in the same order; with `reduce`, the folded value.
        failed: The items that failed, in the order of the input.
        total_processed: How many items succeeded or failed.
        total_batches: How many batches they were in; retries aren't counted.
        skipped: How many items were left out, because the checkpoint had them.
        processing_time: Seconds.
        stopped: Whether the run ended before its input did.
    """

    successful: list[T]
    results: R
    failed: list[FailedItem[T]]
    total_processed: int
    total_batches: int
    skipped: int
    processing_time: float
    stopped: bool
