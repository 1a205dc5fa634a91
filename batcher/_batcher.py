"""`Batcher`, the façade."""

from __future__ import annotations

import itertools
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from batcher import _flusher
from batcher._cache import MISS
from batcher._drain import close, flush, request_flush
from batcher._failure import Failure
from batcher._flights import disbanded
from batcher._future import ItemFuture, claim_locked, settle_locked
from batcher._group import Ticket, is_tracked
from batcher._intake import CLOSED, Intake
from batcher._lifecycle import hook_exit, register, watch
from batcher._line import Line, nothing
from batcher._options import check_callable, check_flag, check_priority, check_seconds, check_weight
from batcher._process import alive, check_process
from batcher._settings import Settings
from batcher._status import State
from batcher.errors import BatcherClosedError, ItemTooHeavyError, QueueFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping, Sequence
    from concurrent.futures import Executor, Future
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Literal, Self

    from batcher._breaker import CircuitBreaker
    from batcher._retry import RetryPolicy
    from batcher._status import BatcherStatus, BatchRecord, FlushReport
    from batcher._throttle import Throttle
    from batcher.errors import BatcherError

T = TypeVar("T")
if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    # Any where the handler returns None, or isn't there yet.
    R = TypeVarWithDefault("R", default=Any)
    Handler = Callable[[list[T]], Sequence[R | Exception] | Mapping[Any, R | Exception] | None]
else:
    R = TypeVar("R")

_numbers = itertools.count(1)
_NORMAL = 0  # told by its identity: what is equal and isn't it only takes the slow way


class Batcher(Generic[T, R]):
    """Turns many single calls into few calls of a bulk handler.

    `add` puts an item into a queue and returns its Future at once. A background thread takes batches from
    the queue, calls `handler(items)`, and settles one Future per item. A batch leaves when it is full,
    when its oldest item has waited `max_delay` seconds, or when `flush` or `close` asks for it. The thread
    starts with the first item. At normal interpreter exit what is pending is delivered within
    `exit_timeout`; a forked child starts with an empty queue.

    The handler gets a list of its own and returns None, a sequence with a result for each item in order,
    or a mapping by item. A result that is an Exception fails that item alone; raising fails the batch.

    Thread safety: every method may be called from any thread. Handlers, hooks and callbacks may call
    `add`, `put` and `status`; there `flush`, `close` and waiting for an unsettled future raise
    `ReentrantCallError`. Signal handlers and destructors may call `add`, `put`, `status`, and `cancel`
    of a future.

    Example:
        >>> def square(numbers):
        ...     return [n * n for n in numbers]
        >>> with Batcher(square, max_delay=0.01) as squares:
        ...     squares.add(7).result()
        49
    """

    def __init__(
        self,
        handler: Handler[T, R] | None = None,
        *,
        max_batch_size: int = 100,
        max_delay: float | None = 0.05,
        adaptive: bool = True,
        max_batch_weight: float | None = None,
        weigh: Callable[[T], float] | None = None,
        batch_key: Callable[[T], Hashable] | None = None,
        dedup_key: Callable[[T], Hashable] | Literal[True] | None = None,
        cache: MutableMapping[Any, Any] | None = None,
        max_pending: int = 10_000,
        max_pending_weight: float | None = None,
        overflow: str = "block",
        max_concurrent: int = 1,
        executor: Executor | None = None,
        handler_timeout: float | None = None,
        retry: RetryPolicy | int | None = None,
        split_failed: bool = False,
        circuit_breaker: CircuitBreaker | None = None,
        throttle: Throttle | None = None,
        around_batch: Callable[[], AbstractContextManager[object]] | None = None,
        on_error: Callable[[BaseException, list[T]], object] | None = None,
        on_batch: Callable[[BatchRecord], object] | None = None,
        on_drop: Callable[[T, BaseException], object] | None = None,
        exit_timeout: float = 5.0,
        name: str | None = None,
    ) -> None:
        """Make a batcher; no thread is started before the first item.

        Args:
            handler: Called with a list of items; None: set later by `register_handler`.
            max_batch_size: The most items that one handler call gets, also on flush and close.
            max_delay: Seconds from the arrival of a batch's oldest item to its start. None: no time
                trigger. 0: at once.
            adaptive: Let a batch leave early when waiting can gather nothing more: a caller is blocked on one
                of its items (in `result`, `exception`, `concurrent.futures.wait` or `as_completed`), a
                handler may be called, and the callers that the last batch released are back, or overdue by
                what they usually take. And keep batches smaller where smaller ones are found to bring more
                items through. Never larger than `max_batch_size`, and not later than `max_delay`, but for
                one case: where the handler was busy for longer than that, callers who are all blocked also
                wait for those it has just released, at most `max_delay` from that release. With a `max_delay`
                of 0 this changes nothing. False: size and delay alone.
            max_batch_weight: The most that the items of one call may weigh together; needs `weigh`.
            weigh: Returns an item's weight, a finite number of 0 or more. Called in `add`.
            batch_key: Returns an item's key. Items of different keys never share a call; of one key, one
                call runs at a time, in order. Called in `add`.
            dedup_key: Returns an item's identity, True takes the item itself: items of equal keys that are
                under way at the same time share one place in a handler call, and its result. Each keeps its
                own future, timeout and cancel. Batch keys don't matter: what must not be shared (among
                credentials, say) belongs to this key. A key of None is shared with nobody. Called in `add`.
                A mapping that the handler returns is looked up by it.
            cache: Results by dedup key, a `cachetools.TTLCache`, say; it is used under a lock. Errors are
                never kept. A cache that raises is a miss, and is logged.
            max_pending: The most items that wait; items in a handler don't count.
            max_pending_weight: The most that the waiting items may weigh together; needs `weigh`.
            overflow: What `add` does when there is no room. "block": wait for it. "raise": raise
                QueueFullError. "drop_oldest": the item that waits longest fails with ItemDroppedError.
                "drop_newest": the new one does.
            max_concurrent: Handler calls at once. 1: one after another, in order.
            executor: Where handlers run, never shut down here. None: on the flusher thread, or on daemon
                threads where that can't do (several at once, timeouts).
            handler_timeout: Seconds for one handler call. Then its items fail with HandlerTimeoutError,
                its thread is given up and another takes its place. None: no limit.
            retry: What is done about failures: a Retry, another RetryPolicy, or a number of extra attempts.
                Only what failed is tried again. It waits without a thread, counts as pending, and nothing
                of its key overtakes it (without keys: at `max_concurrent=1`).
            split_failed: Halve a batch that failed as a whole, after its retries, again and again until the
                bad items stand alone: at most 2k*ceil(log2 n)+1 calls for k bad items of n. Off by default,
                because it repeats the side effects of the calls that failed.
            circuit_breaker: Spares the backend while it fails. A handler call fails when it raises, times out,
                or every result is an error. While the circuit is open, items fail at once with
                CircuitOpenError; with `Retry(attempts=None)` they wait instead. Of a batch that `split_failed`
                splits, the failures of its parts don't count: a bad item is no sign of a bad backend.
            throttle: Limits how often handler calls start, and how many run at once; may be shared. Until a
                call may start, its batch grows.
            around_batch: Returns a context manager that is entered around each handler call, on the
                thread that runs it (a Flask app's `app_context`, say).
            on_error: Called as `on_error(error, items)` once for each handler call with failed items: with
                the error and those items. Several errors come as an ExceptionGroup.
            on_batch: Called with a BatchRecord after each handler call.
            on_drop: Called as `on_drop(item, error)` for each dropped item.
            exit_timeout: Seconds that an unclosed batcher may take to drain at interpreter exit.
            name: For thread names and the log; by default "batcher-1" and so on.

        Raises:
            TypeError: An option has the wrong type.
            ValueError: An option is out of range, or needs another one.
        """
        self._options = Settings(
            handler=handler,
            max_batch_size=max_batch_size,
            max_delay=max_delay,
            adaptive=adaptive,
            max_batch_weight=max_batch_weight,
            weigh=weigh,
            batch_key=batch_key,
            dedup_key=dedup_key,
            cache=cache,
            max_pending=max_pending,
            max_pending_weight=max_pending_weight,
            overflow=overflow,
            max_concurrent=max_concurrent,
            executor=executor,
            handler_timeout=handler_timeout,
            retry=retry,
            split_failed=split_failed,
            circuit_breaker=circuit_breaker,
            throttle=throttle,
            around_batch=around_batch,
            on_error=on_error,
            on_batch=on_batch,
            on_drop=on_drop,
            exit_timeout=exit_timeout,
            name=f"batcher-{next(_numbers)}" if name is None else name,
        )
        self._warns = True
        self._pin: Callable[[], object] = nothing
        self._set_up(handler)

    def _set_up(self, handler: Callable[[list[Any]], object] | None, *, is_paused: bool = False) -> None:
        """Make the line, for this process."""
        line = Line(self._options)
        line.set_handler(handler)
        line.is_paused = is_paused
        line.pin = self._pin
        self._line = line
        self._intake = Intake(line, partial(_start, line))
        register(line, self)
        self._finalizer = watch(self, line, warns=self._warns)

    def restart(self) -> None:
        """Start anew with an empty line: this is a forked child, and the old one is the parent's."""
        self._finalizer.detach()
        call = self._line.call
        self._set_up(None if call is None else call.handler, is_paused=self._line.is_paused)

    def belong_to(self, instance: Callable[[], object] = nothing) -> None:
        """Be the batcher of a batched function: end silently with it, since nobody else can close this.

        What `instance()` returns is kept alive while items wait or run.
        """
        self._warns = False
        self._pin = instance
        self._finalizer.detach()
        self._finalizer = watch(self, self._line, warns=False)
        self._line.pin = instance

    # Items in

    def add(
        self, item: T, *, timeout: float | None = None, priority: int = _NORMAL, block_timeout: float | None = None
    ) -> Future[R]:
        """Put `item` into the queue and return its Future.

        Returns at once, unless the queue is full under overflow "block".

        Args:
            item: What the handler will get.
            timeout: The item's own deadline, in seconds from now. When it passes first, the future fails
                with ItemTimeoutError and the item leaves the queue; if a handler has it, what the handler
                returns for it is thrown away. None: no deadline.
            priority: A higher number leaves first, equal ones in order of arrival; a batch is filled up
                with lower ones. What has waited for `max(10 * max_delay, 0.1)` seconds leaves before
                all that hasn't (with `max_delay=None`: never). It orders what leaves: for room, callers
                wait in order of arrival.
            block_timeout: The longest wait for room, in seconds. None: as long as it takes (but no longer
                than `timeout`).

        Returns:
            A future that raises the handler's own exception, ItemTimeoutError, HandlerTimeoutError,
            ItemDroppedError, CircuitOpenError, ResultShapeError, MissingResultError, BatcherClosedError, or BatchError.

        Raises:
            BatcherClosedError: The batcher is closed.
            QueueFullError: No room, under "raise", or for `block_timeout` seconds under "block".
            ItemTooHeavyError: The item alone is above `max_batch_weight` or `max_pending_weight`.
            TypeError: `priority` isn't an int, or a timeout no number.
            Exception: Whatever `batch_key` or `weigh` raises; nothing was accepted.
        """
        if not alive[0]:
            check_process()  # before anything of the parent's is looked at
        line = self._line
        inbox = line.inbox
        future: ItemFuture[R] = ItemFuture(item, line)
        # The fast way. The gate is shut where there are keys, weights or priorities.
        if timeout is None and block_timeout is None and priority is _NORMAL and len(inbox) < line.gate:
            try:
                inbox.append(future)
                if len(inbox) >= line.ring_at:
                    self._intake.attend()
            except BaseException:  # Ctrl-C between the append and the ring
                self._intake.attend()
                raise
            return future
        if timeout is None and block_timeout is None and priority is _NORMAL and line.enter_dated(future):
            return future
        self._add_slowly(future, timeout, priority, block_timeout)
        return future

    def put(self, item: T, *, priority: int = _NORMAL, block_timeout: float | None = None) -> None:
        """Put `item` into the queue and forget it: no Future is made.

        A failure reaches `on_error`, or the log where there is none. Blocks and raises as `add`.
        """
        if not alive[0]:
            check_process()  # before anything of the parent's is looked at
        line = self._line
        inbox = line.inbox
        kind = type(item)
        if (
            block_timeout is None
            and priority is _NORMAL
            and len(inbox) < line.gate
            and kind is not ItemFuture
            and kind is not Ticket
        ):
            try:
                inbox.append(item)
                if len(inbox) >= line.ring_at:
                    self._intake.attend()
            except BaseException:  # Ctrl-C between the append and the ring
                self._intake.attend()
                raise
            return
        is_bare = kind is not ItemFuture and kind is not Ticket
        if is_bare and block_timeout is None and priority is _NORMAL and line.enter_dated(item):
            return
        needs_ticket = self._options.is_tracked or priority is not _NORMAL or is_tracked(item)
        self._add_slowly(Ticket(item) if needs_ticket else item, None, priority, block_timeout)

    def add_many(
        self,
        items: Iterable[T],
        *,
        timeout: float | None = None,
        priority: int = _NORMAL,
        block_timeout: float | None = None,
    ) -> list[Future[R]]:
        """Put all `items` into the queue, in order and under one lock, and return their Futures.

        Under overflow "raise" all enter or none. Under "block" they enter as room appears; when
        `block_timeout` ends, the futures of the rest come back failed with QueueFullError. Arguments
        and errors as `add`.
        """
        line = self._live_line()
        futures: list[ItemFuture[R]] = [ItemFuture(item, line) for item in items]
        seconds, until = self._limits(timeout, block_timeout)
        rank = check_priority(priority)
        if not futures:
            return []
        refused, error = self._enter([self._prepared(future, rank) for future in futures], until)
        if error is not None:
            if self._options.overflow != "block" or (
                len(refused) == len(futures) and not isinstance(error, QueueFullError)
            ):
                try:
                    raise error
                finally:
                    del error  # else the traceback's frame would refer to itself, and to the items
            self._fail(refused, error)
        self._set_deadlines([future for future in futures if not future.done()], seconds)
        return list(futures)

    def map(self, items: Iterable[T], *, timeout: float | None = None) -> Iterator[R]:
        """Yield the results of `items`, in order.

        Lazy: at most three batches of items are under way beyond the result that was yielded last, so
        that an infinite input is fine. When the input ends, what is left is sent at once.

        Args:
            items: May be lazy or infinite.
            timeout: Seconds, from this call, in which each result must be there. None: no limit.

        Raises:
            TimeoutError: The time is over.
            Exception: An item's own error, when it is that item's turn; or what `items` raises, after
                the results of what it gave before.
        """
        seconds = check_seconds("timeout", timeout)
        deadline = None if seconds is None else self._live_line().clock.monotonic() + seconds
        return self._results(iter(items), deadline)

    def _results(self, items: Iterator[T], deadline: float | None) -> Iterator[R]:
        ahead = min(3 * self._options.max_batch_size, self._options.max_pending)
        # Where items are kept apart or share places, this window may be full and no batch: without a time trigger
        # nothing would leave.
        options = self._options
        is_unhurried = options.max_delay is None and (options.batch_key or options.dedup_key) is not None
        under_way: deque[Future[R]] = deque()
        problem: BaseException | None = None
        is_open = True
        try:
            while is_open or under_way:
                while is_open and len(under_way) < ahead:
                    try:
                        under_way.append(self.add(next(items)))
                    except StopIteration:
                        is_open = False
                    except Exception as error:  # noqa: BLE001 - raised below, when it is its turn
                        is_open, problem = False, error
                    if not is_open:
                        request_flush(self._live_line())
                if under_way:
                    if is_unhurried and not under_way[0].done():
                        request_flush(self._live_line())
                    left = None if deadline is None else max(deadline - self._line.clock.monotonic(), 0.0)
                    result = under_way[0].result(left)
                    under_way.popleft()  # not before: what timed out is cancelled with the rest
                    yield result
            if problem is not None:
                raise problem
        finally:
            for future in under_way:
                future.cancel()

    def register_handler(self, handler: Handler[T, R]) -> Handler[T, R]:
        """Set the handler, and return it, so that this is a decorator as well.

        Items that were added before wait for it. A later call replaces the handler for the batches to
        come.

        Raises:
            TypeError: `handler` isn't callable.
        """
        check_callable("handler", handler, optional=False)
        line = self._live_line()
        line.set_handler(handler)
        _flusher.stir(line)
        return handler

    # Batches out

    def flush(self, timeout: float | None = None) -> FlushReport:
        """Send all that was added before this call, and wait until it is settled.

        A paused batcher sends as well. Without a handler this waits for one. The hooks of the last batch
        may still run when this returns.

        Args:
            timeout: The longest wait in seconds; what is left then goes on. None: no limit.

        Returns:
            What has become of those items; `complete` says whether all went well.

        Raises:
            ReentrantCallError: Called by the batcher's own handler, hook or callback, or by a signal
                handler or destructor on top of a call of this batcher.
        """
        return flush(self._live_line(), check_seconds("timeout", timeout))

    def pause(self) -> None:
        """Stop automatic batches: until `resume`, only `flush` and `close` send."""
        self._live_line().is_paused = True

    def resume(self) -> None:
        """Start automatic batches again."""
        line = self._live_line()
        line.is_paused = False
        _flusher.stir(line)

    def status(self) -> BatcherStatus:
        """Return a frozen snapshot of what waits, what runs, and what has become of all."""
        return self._live_line().status()

    def close(self, timeout: float | None = None, *, drain: bool = True) -> FlushReport:
        """Refuse new items, send what waits, and let the threads go.

        May be called again, from many threads. An item that is in a handler when the timeout ends keeps
        its future.

        Args:
            timeout: The longest wait in seconds; what is unsent then fails with BatcherClosedError and
                counts as dropped. None: no limit.
            drain: False: cancel what waits instead. (What was `put`, and so has no future to cancel,
                is dropped.)

        Returns:
            What has become of the items that were unsettled at the call.

        Raises:
            ReentrantCallError: As `flush`.
        """
        check_flag("drain", drain)
        report = close(self._live_line(), check_seconds("timeout", timeout), drain=drain)
        self._finalizer.detach()
        return report

    def __enter__(self) -> Self:
        """Return the batcher itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close: drain and wait, however long it takes."""
        self.close()

    def __repr__(self) -> str:
        """Show the name, the state and the counts."""
        status = self.status()
        return (
            f"<Batcher {self._options.name!r} {status.state} pending={status.pending} processing={status.processing}>"
        )

    def _live_line(self) -> Line:
        """Return this process's line."""
        check_process()
        return self._line

    # The slow way in

    def _limits(self, timeout: float | None, block_timeout: float | None) -> tuple[float | None, float | None]:
        """Return the items' deadline, and when to stop waiting for room."""
        if timeout is None and block_timeout is None:
            return None, None
        now = self._line.clock.monotonic()
        seconds = check_seconds("timeout", timeout)
        blocks = check_seconds("block_timeout", block_timeout)
        limits = [limit for limit in (seconds, blocks) if limit is not None]
        return None if seconds is None else now + seconds, now + min(limits) if limits else None

    def _prepared(self, member: ItemFuture[R] | Ticket, priority: int) -> ItemFuture[R] | Ticket:
        """Return what stands for an item in the queue, with all that the user's functions say of it."""
        options, entry = self._options, member
        shared_key: Hashable = None
        if options.dedup_key is not None:
            shared_key = options.dedup_key(member._result)
            hash(shared_key)  # here, where what it raises refuses the item
            entry = Ticket(None)
        if priority:
            entry._priority = priority
        if options.batch_key is not None:
            key = options.batch_key(member._result)
            hash(key)
            entry._key = key
        if options.weigh is not None:
            weight = check_weight(options.weigh(member._result))
            for name in ("max_batch_weight", "max_pending_weight"):
                limit = getattr(options, name)
                if limit is not None and weight > limit:
                    raise ItemTooHeavyError(f"the item weighs {weight}, and {name} is {limit}")
            entry._weight = weight
        if type(entry) is Ticket and entry is not member:
            entry.share(member, shared_key)  # last: the two refer to each other
        return entry

    def _add_slowly(
        self,
        entry: Any,  # noqa: ANN401 - a bare item can be anything
        timeout: float | None,
        priority: int,
        block_timeout: float | None,
    ) -> None:
        """Let one entry in by all the rules."""
        deadline, until = self._limits(timeout, block_timeout)
        rank = check_priority(priority)
        prepared = self._prepared(entry, rank) if self._options.is_tracked or rank else entry
        _, error = self._enter([prepared], until)
        if error is not None:
            try:
                raise error
            finally:
                del error  # else the traceback's frame would refer to itself, and to the item
        if deadline is not None and not entry.done():
            self._set_deadlines([entry], deadline)

    def _enter(self, entries: list[Any], until: float | None) -> tuple[list[Any], BatcherError | None]:
        """Let entries in, but for those whose results are known; return what had to stay outside, and why."""
        known, unknown = self._known(entries)
        entered, error = self._intake.admit(unknown, until) if unknown else (0, None)
        refused = disbanded(unknown[entered:])
        if known:
            outside, problem = self._settle_known(known, error)
            refused, error = outside + refused, error or problem
        _flusher.run_all_here(self._line)
        return refused, error

    def _known(self, entries: list[Any]) -> tuple[list[tuple[Any, Any]], list[Any]]:
        """Return the entries whose results the cache has, with those, and the others."""
        cache = self._line.cache
        if cache is None:
            return [], entries
        results = [MISS if entry.shared_key is None else cache.look_up(entry.shared_key) for entry in entries]
        pairs = list(zip(entries, results, strict=True))
        known = [(entry, result) for entry, result in pairs if result is not MISS]
        return known, [entry for entry, result in pairs if result is MISS]

    def _settle_known(
        self, known: list[tuple[Ticket, Any]], error: BatcherError | None
    ) -> tuple[list[Any], BatcherError | None]:
        """Settle items whose results the cache had, unless all are refused; return who is outside, and why.

        Args:
            known: The items, and their results.
            error: Why not all of the other items entered.
        """
        line = self._line
        with line.lock:
            if line.state is not State.OPEN or (error is not None and self._options.overflow == "raise"):
                line.counters.refused += len(known)
                return disbanded(ticket for ticket, _ in known), error or BatcherClosedError(CLOSED)
            for ticket, result in known:
                [member] = disbanded([ticket])
                # One straight line.
                line.counters.passed += 1
                line.counters.succeeded += 1
                line.counters.deduplicated += 1
                if type(member) is ItemFuture:
                    settle_locked(member, result)
        return [], None

    def _set_deadlines(self, futures: list[ItemFuture[R]], deadline: float | None) -> None:
        if deadline is None:
            return
        line = self._line
        with line.lock:
            for future in futures:
                line.set_deadline_locked(future, deadline)
        _flusher.relieve(line)
        line.wake()

    def _fail(self, entries: list[Any], error: BatcherError) -> None:
        """Settle the futures of items that never entered."""
        with self._line.lock:
            for future in entries:
                claim_locked(future)
                settle_locked(future, Failure(error, shared=len(entries) > 1))


def _start(line: Line) -> None:
    """Start the line's flusher, and have the process deliver at exit."""
    hook_exit()
    _flusher.start(line)
