"""What a type checker must know of `Optimizer`. Read by mypy and pyright, never run.

A `type: ignore` marks a mistake that both of them must report.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import Any, assert_type

from batcher import BatcherStatus, Optimizer, OptimizerStatus, ThrottleStatus


def load() -> str:
    """Return something."""
    return "x"


def load_one(user_id: int) -> str:
    """Return something."""
    return "x" * user_id


read_from_a_file: dict[str, dict[str, Any]] = {}
Optimizer(**read_from_a_file)
Optimizer(batching={"max_size": 3, "max_delay": None}, throttling=None, monitoring={"on_threshold": print})
Optimizer({"max_size": 3})  # type: ignore[call-arg]
Optimizer(batching=3)  # type: ignore[arg-type]

with Optimizer() as optimizer:
    assert_type(optimizer, Optimizer)
    assert_type(optimizer.run(load, batch=True, throttle=True, debounce=True), str)
    assert_type(optimizer.run(lambda: 3), int)
    optimizer.run(load_one)  # type: ignore[arg-type]
    optimizer.run(load, True)  # type: ignore[call-arg]  # noqa: FBT003

status = optimizer.status()
assert_type(status, OptimizerStatus)
assert_type(status.batching, BatcherStatus | None)
assert_type(status.throttling, ThrottleStatus | None)
assert_type({name: each.p95 for name, each in status.performance.items()}, dict[str, float])
status.performance["x"] = 3  # type: ignore[index]
assert_type(optimizer.close(1.5), bool)
