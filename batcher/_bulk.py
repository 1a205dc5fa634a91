"""`BatchProcessor` and `process_batch`: a function over many items, in batches, on several threads."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack, overload

from batcher._bulk_run import BulkRun
from batcher._bulk_settings import BulkSettings
from batcher._heirs import restart_in_child
from batcher._process import check_process
from batcher._progress import Progress

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from concurrent.futures import Executor

    from batcher._breaker import CircuitBreaker
    from batcher._result import BatchResult, Outcome
    from batcher._retry import RetryPolicy
    from batcher._throttle import Throttle

    BatchFunction = Callable[[list["T"]], Sequence["R | Exception"] | Mapping[Any, "R | Exception"] | None]

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A")


class BulkOptions(TypedDict, Generic[T], total=False):
    """The options of `BatchProcessor` beside the function, `reduce` and `name`; see there."""

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
    priority: Callable[[T], Any] | None
    prepare: Callable[[list[T]], list[T]] | None
    checkpoint: str | os.PathLike[str] | None
    item_key: Callable[[T], str] | None


_numbers = itertools.count(1)


class BatchProcessor(Generic[T, R]):
    """Processes many items by a function, in batches, several at once.

    The input may be a list or any iterable, lazy or endless: at most `batch_size * (max_concurrent + 1)`
    items are read ahead. It is read on the thread that calls `run` or `stream`. Batches run on threads of
    the run's own, `max_concurrent` at once; inside a batch one item comes after another. An item that
    fails, with whatever exception, fails alone.

    Thread safety: every method may be called from any thread; several runs at once have nothing in
    common. `pause`, `resume`, `stop` and `status` may be called from signal handlers, hooks and the
    processor itself.

    Example:
        >>> squares = BatchProcessor(lambda n: n * n, batch_size=10)
        >>> squares.run(range(5)).results
        [0, 1, 4, 9, 16]
        >>> sum(outcome.result for outcome in squares.stream(range(1000)))
        332833500
    """

    def __init__(
        self,
        processor: Callable[[T], R] | None = None,
        *,
        batch_processor: BatchFunction[T, R] | None = None,
        batch_size: int = 100,
        max_concurrent: int = 4,
        delay: float = 0.0,
        timeout: float | None = None,
        retries: RetryPolicy | int | None = 0,
        on_progress: Callable[[Progress], object] | None = None,
        progress: bool = False,
        total: int | None = None,
        executor: Executor | None = None,
        max_failures: float | None = None,
        throttle: Throttle | None = None,
        circuit_breaker: CircuitBreaker | None = None,
        priority: Callable[[T], Any] | None = None,
        prepare: Callable[[list[T]], list[T]] | None = None,
        reduce: tuple[Callable[[Any, R], Any], Any] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        item_key: Callable[[T], str] | None = None,
        name: str | None = None,
    ) -> None:
        """Make a processor; nothing is started before `run` or `stream`.

        Args:
            processor: Called with each item; what it returns is the item's result.
            batch_processor: Called with each batch instead, a list of items of its own. Returns None, a
                sequence with a result for each item in order, or a mapping by item. A result that is an
                Exception fails that item alone; raising fails the batch.
            batch_size: The most items in a batch.
            max_concurrent: Batches at once.
            delay: Seconds between two items of a batch. Not for a `batch_processor`.
            timeout: Seconds for an item; with `batch_processor`, for a call. Then it fails with
                ItemTimeoutError, its thread is given up and another takes its place; what comes of it
                later is thrown away. None: no limit.
            retries: A Retry, or a number of extra attempts for an item. Waiting for one holds no thread. An
                item that timed out is tried again only if the policy's `retry_on` names ItemTimeoutError.
            on_progress: Called with a Progress, one call after another, on a thread of the run's, at most ten
                times a second, and with the last state.
            progress: Draw a progress bar (extra `progress`).
            total: How many items there will be, where `len(items)` doesn't say.
            executor: Where the processor runs, never shut down here: a ProcessPoolExecutor, or a Dask
                cluster's `client.get_executor()`. None: on threads of the run's own. With a `timeout`, counted
                from its submission, each item is a call of its own there.
            max_failures: The most items that may fail: one more stops the run. A float is a part of all
                items; where their number is unknown, of those processed so far, from one batch on.
            throttle: Limits how often calls of the function start, and how many run at once; may be shared.
                With an `executor` it sees each item as a call of its own, and so does the circuit breaker.
            circuit_breaker: Spares the backend while it fails: while the circuit is open, items fail at once
                with CircuitOpenError, which a retry policy waits for. A batch function's call fails when it
                raises, times out, or every result is an error.
            priority: Returns an item's priority; the highest are begun first, among all items of a list, or
                among what may be read ahead of other input. Called on the thread that reads.
            prepare: Called with each batch before it is processed, in the worker; returns a list of as many
                items to process in their place. No timeout watches it.
            reduce: A pair `(function, initial)`: `value = function(value, result)` for each result, in
                order of completion, on a thread of the run's; `results` is the last value then, and no
                result is kept. Not for `stream`.
            checkpoint: A file of the keys of all items that succeeded. They are on disk before their batch
                counts as done; a later run with the same file skips them.
            item_key: Returns the item's key for the checkpoint.
            name: For thread names and the log; by default "bulk-1" and so on.

        Raises:
            TypeError: An option has the wrong type.
            ValueError: An option is out of range, or needs another one.
        """
        self._settings = BulkSettings(
            processor=processor,
            batch_processor=batch_processor,
            batch_size=batch_size,
            max_concurrent=max_concurrent,
            delay=delay,
            timeout=timeout,
            retries=retries,
            on_progress=on_progress,
            progress=progress,
            total=total,
            executor=executor,
            max_failures=max_failures,
            throttle=throttle,
            circuit_breaker=circuit_breaker,
            priority=priority,
            prepare=prepare,
            reduce=reduce,
            checkpoint=checkpoint,
            item_key=item_key,
            name=f"bulk-{next(_numbers)}" if name is None else name,
        )
        self._is_paused = False
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """Begin anew in a forked child: the runs are the parent's."""
        # Changed by single operations, which are atomic: a signal handler may come in anywhere.
        self._runs: dict[int, BulkRun] = {}
        self._latest: BulkRun | None = None
        self._last = Progress()

    def run(self, items: Iterable[T]) -> BatchResult[T, Any]:
        """Process all items and return what came of them; blocks until then.

        Ctrl-C ends it within a second: items that run may finish within half a second, or are given up.

        Raises:
            TypeError: `items` isn't iterable.
            CheckpointError: The checkpoint can't be used.
            Exception: What `items` raises, when all that was read is processed; or what `reduce` raises. The
                result so far is the error's `batch_result`.
        """
        check_process()
        run = BulkRun(items, self._settings, streams=False)
        try:
            self._enter(run)
            return run.run()
        finally:
            self._leave(run)

    def stream(self, items: Iterable[T], *, ordered: bool = False) -> Generator[Outcome[T, R], None, None]:
        """Process all items and yield an Outcome for each, in order of completion; memory stays flat.

        Nothing happens before the first outcome is asked for, and reading goes on when the next one is.
        Closing the generator ends the run. With a checkpoint an item is recorded when the outcome after it
        is asked for: what the caller has done with it by then is safe, and what it hasn't isn't skipped later.

        Args:
            items: May be lazy or endless.
            ordered: Yield the outcomes in the order of the input (with `priority`, in that order): a batch that
                takes longer holds up those after it, once all places are taken.

        Raises:
            Exception: As `run`, without a result.
        """
        if self._settings.reduce is not None:
            raise ValueError("a stream has no results to reduce: use run(), or fold the outcomes")
        return self._stream(items, is_ordered=ordered)

    def _stream(self, items: Iterable[T], *, is_ordered: bool) -> Generator[Outcome[T, R], None, None]:
        check_process()
        run = BulkRun(items, self._settings, streams=True, is_ordered=is_ordered)
        try:
            self._enter(run)
            yield from run.stream()
        finally:
            self._leave(run)

    def _enter(self, run: BulkRun) -> None:
        self._runs[id(run)] = self._latest = run
        while self._is_paused:
            run.control.pause()
            if self._is_paused:
                break
            run.control.resume()  # `resume` came in between: it has found this run, and not paused yet

    def _leave(self, run: BulkRun) -> None:
        """Keep of a run nothing but its last figures."""
        self._runs.pop(id(run), None)
        if self._latest is run:
            self._last = run.progress()
            self._latest = None

    def _present_runs(self) -> list[BulkRun]:
        check_process()
        return list(self._runs.values())

    def pause(self) -> None:
        """Begin no more items, in present and future runs, until `resume`; those that run go on."""
        self._is_paused = True
        for run in self._present_runs():
            run.control.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._is_paused = False
        for run in self._present_runs():
            run.control.resume()

    def stop(self) -> None:
        """Begin no more items in the present runs; they return when the items that run have ended.

        A run that waits for its input returns when that has given one more item: nobody can interrupt it.
        """
        for run in self._present_runs():
            run.control.stop()

    def status(self) -> Progress:
        """Return how far the run is, the latest one if there are several; after its end, how far it came."""
        check_process()
        run = self._latest
        return self._last if run is None else run.progress()


@overload
def process_batch(
    items: Iterable[T], processor: Callable[[T], R], **options: Unpack[BulkOptions[T]]
) -> BatchResult[T, list[R]]: ...
@overload
def process_batch(
    items: Iterable[T], *, batch_processor: Callable[[list[T]], None], **options: Unpack[BulkOptions[T]]
) -> BatchResult[T, list[None]]: ...
@overload
def process_batch(
    items: Iterable[T], *, batch_processor: BatchFunction[T, R], **options: Unpack[BulkOptions[T]]
) -> BatchResult[T, list[R]]: ...
@overload
def process_batch(
    items: Iterable[T],
    processor: Callable[[T], R],
    *,
    reduce: tuple[Callable[[A, R], A], A],
    **options: Unpack[BulkOptions[T]],
) -> BatchResult[T, A]: ...
@overload
def process_batch(
    items: Iterable[T],
    *,
    batch_processor: BatchFunction[T, R],
    reduce: tuple[Callable[[A, R], A], A],
    **options: Unpack[BulkOptions[T]],
) -> BatchResult[T, A]: ...
def process_batch(
    items: Iterable[Any],
    processor: Callable[[Any], Any] | None = None,
    *,
    batch_processor: Callable[[list[Any]], Any] | None = None,
    reduce: tuple[Callable[[Any, Any], Any], Any] | None = None,
    **options: Unpack[BulkOptions[Any]],
) -> BatchResult[Any, Any]:
    """Process all items by a function, in batches, several at once, and return what came of them.

    `processor(item)` is called for each item, or `batch_processor(items)` for each batch. An item that
    fails, with whatever exception, fails alone.

    Args:
        items: A list or any iterable, lazy or endless.
        processor: Called with each item.
        batch_processor: Called with each batch instead.
        reduce: A pair `(function, initial)` to fold the results by.
        options: Those of `BatchProcessor`, which tells more of each:

            - `batch_size=100`: the most items in a batch.
            - `max_concurrent=4`: batches at once.
            - `delay=0.0`: seconds between two items of a batch.
            - `timeout=None`: seconds for an item, or for a call of `batch_processor`.
            - `retries=0`: a Retry, or a number of extra attempts for an item.
            - `on_progress=None`: called with a Progress, at most ten times a second.
            - `progress=False`: draw a progress bar (extra `progress`).
            - `total=None`: how many items there will be, where `len(items)` doesn't say.
            - `executor=None`: where the processor runs; None: on threads of the run's own.
            - `max_failures=None`: the most items that may fail; a float is a part of all.
            - `throttle=None`: a Throttle for the calls.
            - `circuit_breaker=None`: a CircuitBreaker for the calls.
            - `priority=None`: returns an item's priority; the highest are begun first.
            - `prepare=None`: called with each batch before it is processed.
            - `checkpoint=None`: a file of the keys of all items that succeeded; they are skipped later.
            - `item_key=None`: returns the item's key for the checkpoint.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: An option is out of range, or needs another one.
        Exception: As `BatchProcessor.run`.

    Example:
        >>> result = process_batch(["3", "x", "5"], int)
        >>> result.successful, result.results
        (['3', '5'], [3, 5])
        >>> [(failed.item, type(failed.error).__name__) for failed in result.failed]
        [('x', 'ValueError')]
    """
    maker: BatchProcessor[Any, Any] = BatchProcessor(
        processor, batch_processor=batch_processor, reduce=reduce, **options
    )
    return maker.run(items)
