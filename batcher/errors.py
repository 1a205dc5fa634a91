"""Every error that batcher raises itself, under one root.

A handler's own exception reaches the caller as its own type. The errors here stand for what batcher
decided: an item was refused, dropped, expired, or the handler's answer could not be matched.
"""

__all__ = [
    "BatchError",
    "BatcherClosedError",
    "BatcherError",
    "CheckpointError",
    "CircuitOpenError",
    "ForkedError",
    "HandlerTimeoutError",
    "ItemDroppedError",
    "ItemTimeoutError",
    "ItemTooHeavyError",
    "MissingResultError",
    "QueueFullError",
    "ReentrantCallError",
    "ResultShapeError",
]


class BatcherError(Exception):
    """The root of every error that batcher raises itself."""


class BatcherClosedError(BatcherError, RuntimeError):
    """The batcher is closed: a new item is refused, or an accepted one was unsent when close ended."""


class QueueFullError(BatcherError):
    """The pending queue had no room and the overflow policy, or the block timeout, refused the item."""


class ItemTimeoutError(BatcherError, TimeoutError):
    """The item's own deadline passed before its result was there."""


class HandlerTimeoutError(BatcherError, TimeoutError):
    """One handler call took longer than `handler_timeout`; its thread was given up."""


class ItemDroppedError(BatcherError):
    """The item was accepted and then dropped by the overflow policy."""


class ItemTooHeavyError(BatcherError, ValueError):
    """The item alone weighs more than a batch or the queue may hold."""


class ResultShapeError(BatcherError):
    """The handler returned something that can't be matched to its items."""


class MissingResultError(BatcherError):
    """The mapping that the handler returned has no entry for this item."""


class BatchError(BatcherError):
    """A handler's exception that can't be copied for each caller; the original is the `__cause__`."""


class CheckpointError(BatcherError):
    """The checkpoint file can't be used: it is another program's, damaged, in use, or can't be written."""


class ReentrantCallError(BatcherError, RuntimeError):
    """A handler, hook or callback waited for work that only its own thread can do."""


class ForkedError(BatcherError):
    """The future was made before a fork; its item belongs to the parent process."""


class CircuitOpenError(BatcherError):
    """A circuit breaker refused the call.

    Attributes:
        retry_after: Seconds after which it makes sense to ask again: until the next probe may pass, or, if one
            is on its way, until its result is known at the latest.
    """

    def __init__(self, retry_after: float) -> None:
        """Say when to ask again."""
        super().__init__(retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        """Say it in words."""
        return f"the circuit is open: try again in {self.retry_after:.3g} seconds"
