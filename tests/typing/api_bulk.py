"""What a type checker knows of bulk runs; see `api.py`."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

from batcher import (
    BatchProcessor,
    BatchResult,
    CircuitBreaker,
    FailedItem,
    Outcome,
    Progress,
    Retry,
    Throttle,
    process_batch,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor


def load(number: int) -> str:
    """Process an item."""
    return str(number)


def load_all(numbers: list[int]) -> list[str | Exception]:
    """Process a batch."""
    return [str(number) for number in numbers]


def load_mapping(numbers: list[int]) -> Mapping[int, str]:
    """Process a batch, by item."""
    return {number: str(number) for number in numbers}


def save_all(numbers: list[int]) -> None:
    """Process a batch without results."""


def add(total: float, result: str) -> float:
    """Fold a result."""
    return total + len(result)


assert_type(process_batch([1], load), BatchResult[int, list[str]])
assert_type(process_batch([1], batch_processor=load_all), BatchResult[int, list[str]])
assert_type(process_batch([1], batch_processor=load_mapping), BatchResult[int, list[str]])
assert_type(process_batch([1], batch_processor=save_all), BatchResult[int, list[None]])
assert_type(process_batch([1], load, reduce=(add, 0.0)), BatchResult[int, float])
assert_type(process_batch([1], load).failed, list[FailedItem[int]])
assert_type(process_batch([1], load).failed[0].item, int)
assert_type(process_batch([1], load).successful, list[int])


def all_options(executor: Executor) -> None:
    """Accept every option."""
    process_batch(
        range(3),
        load,
        batch_size=2,
        max_concurrent=3,
        delay=0.1,
        timeout=None,
        retries=Retry(3),
        on_progress=print,
        progress=False,
        total=3,
        executor=executor,
        max_failures=0.1,
        throttle=Throttle(max_per_second=3),
        circuit_breaker=CircuitBreaker(),
        priority=lambda number: -number,
        prepare=sorted,
        checkpoint="done",
        item_key=str,
    )


processor = BatchProcessor(load, max_failures=3)
assert_type(processor, BatchProcessor[int, str])
assert_type(processor.status(), Progress)
for outcome in processor.stream(range(3), ordered=True):
    assert_type(outcome, Outcome[int, str])
    assert_type(outcome.result, str | None)
    assert_type(outcome.error, BaseException | None)
assert_type(BatchProcessor(batch_processor=load_all), BatchProcessor[int, str])

process_batch(["1"], load)  # type: ignore[list-item, arg-type, call-overload, unused-ignore]
process_batch([1], load, batch_size="2")  # type: ignore[call-overload, arg-type, unused-ignore]
process_batch([1], load, no_such_option=2)  # type: ignore[call-overload, unused-ignore]
processor.run(["1"])  # type: ignore[list-item]
