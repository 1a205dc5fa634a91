"""Turn many single calls into few bulk calls, for Python code that has threads and no event loop."""

from batcher._batcher import Batcher
from batcher._breaker import CircuitBreaker
from batcher._bulk import BatchProcessor, process_batch
from batcher._circuit import CircuitBreakerStatus
from batcher._debounce import Debounce, DebounceStatus
from batcher._debounced import Debounced, DebouncedFunction, debounced
from batcher._decorators import Batched, BatchedMethod, batched
from batcher._execution import CurrentBatch, current_batch
from batcher._optimizer import Optimizer, OptimizerStatus
from batcher._progress import Progress
from batcher._result import BatchResult, FailedItem, Outcome
from batcher._retry import Retry, RetryPolicy
from batcher._sigterm import drain_on_sigterm
from batcher._status import BatcherStatus, BatchRecord, FlushReport
from batcher._throttle import Throttle, ThrottleStatus
from batcher._throttled import Throttled, throttled
from batcher.errors import (
    BatcherClosedError,
    BatcherError,
    BatchError,
    CheckpointError,
    CircuitOpenError,
    ForkedError,
    HandlerTimeoutError,
    ItemDroppedError,
    ItemTimeoutError,
    ItemTooHeavyError,
    MissingResultError,
    QueueFullError,
    ReentrantCallError,
    ResultShapeError,
)

__all__ = [
    "BatchError",
    "BatchProcessor",
    "BatchRecord",
    "BatchResult",
    "Batched",
    "BatchedMethod",
    "Batcher",
    "BatcherClosedError",
    "BatcherError",
    "BatcherStatus",
    "CheckpointError",
    "CircuitBreaker",
    "CircuitBreakerStatus",
    "CircuitOpenError",
    "CurrentBatch",
    "Debounce",
    "DebounceStatus",
    "Debounced",
    "DebouncedFunction",
    "FailedItem",
    "FlushReport",
    "ForkedError",
    "HandlerTimeoutError",
    "ItemDroppedError",
    "ItemTimeoutError",
    "ItemTooHeavyError",
    "MissingResultError",
    "Optimizer",
    "OptimizerStatus",
    "Outcome",
    "Progress",
    "QueueFullError",
    "ReentrantCallError",
    "ResultShapeError",
    "Retry",
    "RetryPolicy",
    "Throttle",
    "ThrottleStatus",
    "Throttled",
    "batched",
    "current_batch",
    "debounced",
    "drain_on_sigterm",
    "process_batch",
    "throttled",
]
