"""One batcher's line: the state that its producers, its threads and its futures share.

What comes in, what is in handlers, what has become of all: everything here is read and changed under
one lock, in short steps. What is decided here is carried out elsewhere, after the lock is released:
`_intake` lets items in, `_flusher` runs batches, `_drain` flushes and closes.

Three parties come without the lock, or on top of somebody who has it:

- `add` on its fast way only looks at `gate`, appends to the inbox, and looks at `ring_at`. `gate` is how
  long the inbox may get before an add must come under the lock (0: always); `ring_at` is how long it must
  get to ring the flusher. The flusher, going to sleep, first lowers `ring_at` and then looks at the
  inbox once more, so that either it sees the item or the add sees the lower mark.
- A signal handler or a destructor may interrupt a thread that holds the lock and call in from there.
  The lock is re-entrant, so nothing blocks, and `is_nested` tells: then only single appends are made,
  and the accounting is left to the next call that isn't nested.
- In a forked child the lock may be held by a thread that isn't there. The child gets a new line; the
  old one only serves to fail the futures that were inherited (`is_forked`).
"""

from __future__ import annotations

import heapq
import math
import os
import sys
import threading
import weakref
from collections import deque
from concurrent.futures._base import FINISHED, PENDING, RUNNING
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from batcher import _reentry
from batcher._cache import ResultCache
from batcher._clock import Bell, current_clock
from batcher._execution import HandlerCall, is_inside
from batcher._failure import Failure
from batcher._flights import ticket_of
from batcher._future import (
    ItemFuture,
    cancelled_state,
    fail_forked,
    is_running,
    settle_locked,
)
from batcher._group import Batch
from batcher._pending import PendingQueue
from batcher._process import check_process
from batcher._regroup import Caller, Regroup
from batcher._report import Reporter
from batcher._starts import Starts
from batcher._status import BatcherStatus, Counters, State
from batcher.errors import ItemTimeoutError, ReentrantCallError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from batcher._flights import Flights
    from batcher._group import Ticket
    from batcher._settings import Settings
    from batcher._workers import DaemonPool

NEVER = sys.maxsize  # as a length of the inbox
_OPEN = State.OPEN  # on Python 3.11 an enum's own names are slow
_MOST_CALLERS = 16  # batchers that one thread is known to
_SMALL = 256  # of a smaller queue every place is given out under the lock


class InlineMode:
    """Whether handlers run on the threads that add, for tests; see `batcher.testing.inline`."""

    __slots__ = ("depth",)

    def __init__(self) -> None:
        """Start switched off."""
        self.depth = 0


inline_mode = InlineMode()


class Post:
    """Where one flusher thread is reached.

    While nothing is pending the thread knows only its post, and the post knows no batcher: a batcher
    that nobody uses any more can be collected. `held` is set by the add that ends the quiet.
    """

    __slots__ = ("bell", "held", "is_in_handler", "is_over", "starter", "thread")

    def __init__(self) -> None:
        """Make a post whose thread isn't started yet."""
        self.bell = Bell()
        self.held: Line | None = None
        self.is_over = False  # its thread has ended, or is about to
        self.is_in_handler = False
        self.starter = threading.get_ident()
        self.thread: threading.Thread | None = None


@dataclass(slots=True, eq=False)
class Waiter:
    """A producer, and the one entry that it waits with for room."""

    bell: Bell
    entry: tuple[Any]  # a tuple: it enters as the only one of its kind
    weight: float
    is_admitted: bool = False
    error: BaseException | None = None  # of its key's equality


def nothing() -> None:
    """Pin nothing."""


class Line:
    """The shared state of one batcher in one process."""

    def __init__(self, options: Settings) -> None:
        """Start an empty line."""
        self.options = options
        self.clock = current_clock()
        self.token = _reentry.new_token()
        self.uid = os.urandom(8).hex()  # not `random`, which forks without hooks would repeat
        self.reporter = Reporter(options.name, self.clock)
        self.is_forked = False
        # Guards: everything below, as the module says. Re-entrant for signal handlers and destructors.
        self.lock = threading.RLock()
        self.queue = PendingQueue(
            max_batch_size=options.max_batch_size,
            max_delay=options.max_delay,
            max_batch_weight=options.max_batch_weight,
            is_tracked=options.is_tracked,
            keeps_order=options.overflow == "drop_oldest",
            is_in_order=options.max_concurrent == 1,
            shares=options.dedup_key is not None,
        )
        self.inbox = self.queue.inbox
        self.flights = self.queue.flights
        self.cache = None if options.cache is None else ResultCache(options.cache, self.reporter)
        self.starts = self._make_starts()
        # With a delay of 0 nobody is waited for in any case.
        self.regroup = Regroup() if options.adaptive and options.max_delay != 0 else None
        # Whether an add may be quick: there are no keys and weights, and the room isn't small.
        self.is_quick = not options.is_tracked and options.max_pending >= _SMALL
        # The last of the room is given out under the lock, one by one: between the look at the gate and
        # the append other threads may append too, but never that many.
        self._spare = min(_SMALL, options.max_pending // 4)
        self.is_plain = self._judge_plain()
        self.gives_up = options.retry is None and not options.split_failed  # what failed isn't tried again
        self.listens = False  # the flusher sleeps, and is to be rung when enough callers are blocked
        self.blocked_target = 0  # how many are enough, whoever else is expected
        self.gate = 0
        self.ring_at = NEVER
        self.is_lingering = False  # the flusher sleeps until a batch is due or full
        self.was_full = False  # an item found no room since the last batch was cut
        self.state = State.OPEN
        self.is_paused = False
        self.call: HandlerCall | None = None  # of the handler, once there is one
        self.counters = Counters()
        self.processing = 0  # items in handlers that haven't ended
        self.running: set[Batch] = set()
        self.stuck = 0
        self.waiters: deque[Waiter] = deque()  # producers that wait for room, in order
        self.deadlines: list[tuple[float, int, weakref.ref[ItemFuture[Any]]]] = []
        self.untold: deque[ItemFuture[Any]] = deque()  # settled by a thread that was interrupted there
        self.returned: deque[tuple[Batch, Future[object]]] = deque()  # from the executor, to be settled
        self.post: Post | None = None
        self.relieved: list[threading.Thread] = []  # former flushers, in their last handler
        self.pool: DaemonPool | None = None
        self.was_started: list[bool] = []  # empty until the first item; outlives the line, see `_lifecycle`
        self.is_exiting = False  # the interpreter is: executors refuse
        self.exit_spent = 0.0  # seconds of `exit_timeout`
        self.drain_by: float | None = None  # when a close that has begun stops to wait
        self.drop_at: float | None = None  # when the flusher itself drops what an abandoned batcher left
        self.last_batch_time: float | None = None  # by the wall clock
        self.last_batch_seconds: float | None = None
        self._last_deadline = 0
        # What else must stay alive while items wait or run: the instance of a batched method. `pin`
        # returns it; `pinned` refers to it from the add that ends the quiet until the next quiet.
        self.pin: Callable[[], object] = nothing
        self.pinned: object = None

    def _judge_plain(self) -> bool:
        """Say whether one call at a time on the flusher itself is all there is, and a turn may be short."""
        options = self.options
        return (
            self.is_quick
            and options.max_concurrent == 1
            and options.executor is None
            and options.handler_timeout is None
            and self.starts is None
        )

    def _make_starts(self) -> Starts | None:
        options = self.options
        if options.throttle is None and options.circuit_breaker is None:
            return None
        return Starts(
            options.throttle,
            options.circuit_breaker,
            holds=getattr(options.retry, "attempts", 0) is None,
            clock=self.clock,
            wake=self.wake,
        )

    def set_handler(self, handler: Callable[[list[Any]], object] | None) -> None:
        """Have `handler` called from now on."""
        around = self.options.around_batch
        self.call = None if handler is None else HandlerCall(handler, around, self.token, self.uid)

    def disown(self) -> None:
        """Be the line of the parent process: in this child, only its futures are left to be failed.

        Every lock may be held by a thread that isn't here, and is replaced.
        """
        self.lock = threading.RLock()
        self.reporter = Reporter(self.options.name, self.clock)
        if self.pool is not None:
            self.pool.forget()
        self.is_forked = True
        self.state = State.CLOSED
        self.post = None  # a fork inside a handler returns to the flusher's own code: it ends there

    # What a future asks of its owner

    def check_fork(self, future: ItemFuture[Any]) -> None:
        """Fail `future` if it is a parent process's; raises nothing."""
        check_process()
        if self.is_forked:
            fail_forked(future)

    def check_reentry(self, future: ItemFuture[Any]) -> None:
        """Raise ReentrantCallError if this thread would wait for a batch that waits for it."""
        if not self.is_own_thread:
            return
        if self.options.max_concurrent == 1:
            raise ReentrantCallError("result() of an unsettled future, called by the batcher's own handler or hook")
        ticket = ticket_of(future)
        batch = None if ticket is None else ticket._place
        if isinstance(batch, Batch) and is_inside(self.uid, batch.number):
            raise ReentrantCallError("result() of an item whose key the calling handler has itself")

    def cancel(self, future: ItemFuture[Any]) -> bool:
        """Cancel `future` if it still waits; the future announces it."""
        is_nested = self.is_nested
        with self.lock:
            if not self.queue.end(future, cancelled_state(future), "cancelled", self.counters):
                return False
            bells = []
            if not is_nested:
                self.queue.account_for_ended()
                bells = self.admit_waiters_locked()  # here, since the flusher may be in a handler
                self.refresh_gate_locked()
        for bell in bells:
            bell.ring()
        self.wake_if_due()
        return True

    def tell_later(self, future: ItemFuture[Any]) -> None:
        """Have the flusher announce a future that may have been cancelled just now."""
        self.untold.append(future)
        self.wake()

    def begin_wait(self, future: ItemFuture[Any]) -> Caller | None:
        """Note that this thread blocks on `future`: perhaps its batch leaves for that."""
        regroup = self.regroup
        if regroup is None or self.is_nested:
            return None
        caller = self._this_caller()
        now = self.clock.monotonic()
        try:
            with self.lock:
                regroup.come_back(caller, now)
                is_due = False
                if future._state is PENDING:
                    self.queue.block(future)
                    is_due = self.listens and (not regroup.expected or self.queue.blocked >= self.blocked_target)
                    self.listens = self.listens and not is_due
            if is_due:
                self.wake()
        except BaseException:  # Ctrl-C, perhaps when others had stopped to be listened to
            self.wake()
            raise
        return caller

    def end_wait(self, future: ItemFuture[Any]) -> None:
        """Note that a thread has given up to wait for `future`."""
        if self.regroup is not None and not self.is_nested:
            with self.lock:
                if future._state is PENDING:
                    self.queue.unblock(future)

    def _this_caller(self) -> Caller:
        """Return what this batcher knows of the thread."""
        callers = _reentry.here.callers
        if callers is None:
            callers = _reentry.here.callers = {}
        caller = callers.get(self.token)
        if caller is None:
            if len(callers) >= _MOST_CALLERS:
                callers.clear()  # batchers that are gone, mostly
            caller = callers[self.token] = Caller()
        return caller

    def callback_failed(self, error: BaseException) -> None:
        """Report what a done-callback raised."""
        self.reporter.report("a done-callback raised", error)

    # Who is calling

    @property
    def is_nested(self) -> bool:
        """Whether this thread was interrupted while it held the lock."""
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    @property
    def is_starting_here(self) -> bool:
        """Whether this thread was interrupted while it started the flusher."""
        post = self.post
        if post is None or post.thread is None or post.thread.ident is not None:
            return False
        return post.starter == threading.get_ident()

    @property
    def is_own_thread(self) -> bool:
        """Whether this thread runs a handler, hook or callback of this batcher."""
        return self.token in _reentry.here.running

    # Waking the flusher

    def wake(self) -> None:
        """Ring the flusher, and keep the line alive until it has looked."""
        post = self.post
        if post is None or post.is_over:
            return
        self.pinned = self.pin()
        post.held = self
        if post.is_over:  # it has just ended, and unpins nothing any more
            self.pinned = post.held = None
        post.bell.ring()

    def wake_if_due(self) -> None:
        """Ring the flusher if what has come in concerns it."""
        if len(self.inbox) >= self.ring_at or self.was_full or self.queue.count >= self.options.max_pending:
            self.wake()

    def enter_locked(self, entries: Sequence[Any], *, is_nested: bool = False) -> None:
        """Append entries to the inbox, dated; nothing enters if a key's equality raises."""
        now = self.clock.monotonic()
        if self.flights is None or is_nested:  # on top of another step nothing is shared
            self.queue.enter(entries, now)
        else:
            self._enter_flights_locked(self.flights, entries, now)
        if self.queue.is_ranked:
            self.gate = 0  # for good: each must be dated

    def _enter_flights_locked(self, flights: Flights, tickets: Sequence[Ticket], now: float) -> None:
        """Have each item join the one of its key that is under way, or enter."""
        entering, sharing = flights.plan(tickets)
        self.queue.enter(entering, now)
        for ticket in entering:
            flights.take(ticket)
        for ticket, shared in sharing:
            if not self._join_locked(shared, ticket):
                self.queue.enter([ticket], now)  # a signal handler has just cancelled the other one
                flights.take(ticket)

    def _join_locked(self, ticket: Ticket, newcomer: Ticket) -> bool:
        """Have the member of a new ticket share another one; False if that has ended."""
        batch = ticket._place if isinstance(ticket._place, Batch) else None
        if self.queue.order is not None:
            self.queue.collect()  # what came before takes its place in that order before
        order = self.queue.tidied_order() if batch is None else None
        member = next(iter(newcomer.members or ()))
        members, tally = ticket.members, ticket._tally if batch is None else batch.tally
        # One straight line from the look at the state.
        if members is None or (ticket._state is not PENDING and batch is None):
            return False
        member._place = ticket
        if batch is None:
            self.queue.extra += 1
            if tally is not None:
                tally.pending += 1
        else:
            member._state = RUNNING
            batch.tally.processing += 1
            if batch.is_held:
                self.queue.extra += 1
            else:
                self.processing += 1
        self.counters.passed += 1
        self.counters.deduplicated += 1
        ticket.live += 1
        members[member] = None
        if order is not None:
            order.append(member)
        return True

    def admit_waiters_locked(self) -> list[Bell]:
        """Let waiting producers' items in while there is room; return whom to ring."""
        queue, limit = self.queue, self.options.max_pending_weight
        bells = []
        while self.waiters and self.state is State.OPEN and queue.count < self.options.max_pending:
            waiter = self.waiters[0]
            queue.collect()  # what is in the inbox has its weight counted then
            if limit is not None and queue.count and queue.heft + waiter.weight > limit:
                break
            try:
                self.enter_locked(waiter.entry)
            except BaseException as error:  # noqa: BLE001 - the equality of its key
                waiter.error = error
            waiter.is_admitted = waiter.error is None
            self.waiters.popleft()
            bells.append(waiter.bell)
        return bells

    def refresh_gate_locked(self) -> None:
        """Say anew how many items may come in without a look at the rules, and how many ring the flusher."""
        options, queue = self.options, self.queue
        if self.is_lingering:
            self.ring_at = queue.missing_to_full  # in terms of the inbox, which may just have been emptied
        is_shut = self.state is not State.OPEN or self.waiters or inline_mode.depth
        if is_shut or not self.is_quick or queue.is_ranked:
            self.gate = 0  # each must be looked at
            return
        room = options.max_pending - queue.count
        self.gate = min(queue.undated_room, len(self.inbox) + room - self._spare)

    def enter_dated(self, entry: object) -> bool:
        """Let an entry in that only needs a date, or a look at the last of the room; say whether that was all."""
        if not self.is_quick or self.is_nested:
            return False
        inbox, queue = self.inbox, self.queue
        try:
            with self.lock:
                is_usual = self.state is _OPEN and self.post is not None and not (self.waiters or inline_mode.depth)
                room = self.options.max_pending - queue.count
                if not is_usual or room <= 0 or queue.ranked_since is not None:
                    return False
                queue.date_next(self.clock.monotonic(), 1)
                inbox.append(entry)
                self.gate = min(queue.undated_room, len(inbox) + room - 1 - self._spare)
                rings = len(inbox) >= self.ring_at or self.was_full or room == 1  # a full queue waits for nothing
                if rings:
                    self.listens = False  # rung once is enough: it will see whoever is blocked by then
            if rings:
                self.wake()
        except BaseException:  # Ctrl-C, perhaps between the append and the ring
            self.wake()
            raise
        return True

    def is_calm_locked(self, post: Post) -> bool:
        """Say whether the flusher of a plain batcher has nothing to see to but what waits: short turns are for that."""
        queue = self.queue
        if self.running or self.deadlines or self.waiters or self.untold or queue.ended or queue.held.size:
            return False
        if self.post is not post or self.state is not _OPEN or self.is_paused or self.drop_at is not None:
            return False
        return queue.ranked_since is None and not inline_mode.depth

    def rest_locked(self, post: Post) -> tuple[bool, object]:
        """Lay the flusher to rest, where a plain batcher has nothing left; return whether, and what to let go of.

        Called as a batch is settled, and before its callers are told: whoever rings first and goes on then
        keeps the interpreter from those that it woke.
        """
        queue = self.queue
        is_empty = not (self.inbox or queue.only.entries)
        if not (is_empty and self.is_plain and self.is_calm_locked(post)) or len(queue.tallies) > 1:
            return False, None
        queue.only.marks.clear()
        post.held = None
        unpinned, self.pinned = self.pinned, None
        self.is_lingering = False
        self.listen_locked()
        self.ring_at = 1
        self.gate = 0
        if self.inbox:  # an add on its fast way looked at the old mark just before
            self.wake()
        return True, unpinned

    def listen_locked(self) -> None:
        """Have the sleeping flusher rung when enough callers are blocked."""
        if self.regroup is not None:
            self.listens = True
            if self.regroup.expected:  # else one is enough
                self.blocked_target = self.regroup.enough(**self._crowd_locked())

    def set_deadline_locked(self, future: ItemFuture[Any], deadline: float) -> None:
        """Have `future` fail at `deadline` if nothing else ends it before."""
        if len(self.deadlines) > 2 * (self.queue.count + self.processing) + 64:  # mostly of items that ended
            self.deadlines = [entry for entry in self.deadlines if (item := entry[2]()) and not item.done()]
            heapq.heapify(self.deadlines)
        self._last_deadline += 1
        heapq.heappush(self.deadlines, (deadline, self._last_deadline, weakref.ref(future)))

    def next_deadline_locked(self) -> tuple[float, ItemFuture[Any] | None]:
        """Return the next item's own deadline, and its future; those of ended items are forgotten."""
        while self.deadlines:
            deadline, _, ref = self.deadlines[0]
            future = ref()
            if future is not None and not future.done():
                return deadline, future
            heapq.heappop(self.deadlines)
        return math.inf, None

    def expire_locked(self, now: float) -> list[tuple[ItemFuture[Any], Any]]:
        """End the items whose own deadline has passed, those in handlers included.

        The items come along, so that they are let go of when the lock is released.
        """
        expired = []
        deadline, future = self.next_deadline_locked()
        while future is not None and deadline <= now:
            heapq.heappop(self.deadlines)
            item = future._result
            if self._end_expired_locked(future, now):
                expired.append((future, item))
            deadline, future = self.next_deadline_locked()
        return expired

    def _end_expired_locked(self, future: ItemFuture[Any], now: float) -> bool:
        """End one item by its own deadline; False if it is just being settled otherwise."""
        if self.queue.end(future, RUNNING, "expired", self.counters):
            self.queue.account_for_ended()
        else:
            batch = self._batch_with_locked(future)
            if batch is None:
                return False
            self._count_expired_locked(future, batch, now)
        settle_locked(future, Failure(ItemTimeoutError("the item's own timeout passed"), shared=False))
        return True

    def _count_expired_locked(self, future: ItemFuture[Any], batch: Batch, now: float) -> None:
        """Count an item of a batch, in a handler or held, as expired."""
        ticket, weight = ticket_of(future), future._weight
        is_last = True
        if ticket is not None and ticket.members is not None and self.flights is not None:
            del ticket.members[future]
            ticket.live -= 1
            is_last = not ticket.live
            weight = ticket._weight
            if is_last:
                ticket._state = FINISHED  # nobody joins it any more
                self.flights.free(ticket)
        if not batch.is_held:
            batch.expired += 1
            self.processing -= 1
        elif is_last:
            self.queue.end_held(batch, weight, now)
        else:
            self.queue.extra -= 1
        self.counters.expired += 1
        batch.tally.ended["expired"] += 1
        batch.tally.processing -= 1
        batch.tally.ring_if_complete()

    def _batch_with_locked(self, future: ItemFuture[Any]) -> Batch | None:
        """Return the batch that has `future`'s item, in a handler or held; None if it is just being settled."""
        if not is_running(future):
            return None
        ticket = ticket_of(future)
        place = future._place if ticket is None else ticket._place
        if isinstance(place, Batch):
            return place if place.is_held or place in self.running else None
        # Its batch was cut before its deadline was set: the very first one with a deadline, perhaps.
        tops = (*self.running, *self.queue.held.batches())
        batches = (batch for top in tops for batch in (top, *top.rest))
        own = ticket or future
        return next((batch for batch in batches if any(entry is own for entry in batch.entries)), None)

    def _crowd_locked(self) -> dict[str, int]:
        """Return what decides whether enough callers are there."""
        slots = self.options.max_concurrent
        if self.options.batch_key is not None:  # of one key only one batch at a time is in a handler
            slots = min(slots, max(self.queue.eager_keys + len(self.running), 1))
        return {"blocked": self.queue.blocked, "processing": self.processing, "slots": slots}

    def leave_early_at_locked(self, now: float) -> float:
        """Return from when on a batch may leave because callers are blocked; infinity: none may."""
        queue, regroup, max_delay = self.queue, self.regroup, self.options.max_delay
        queue.hold_until = -math.inf
        if regroup is None or not queue.is_eager or (self.is_paused and self.state is State.OPEN):
            return math.inf
        leaves_at = regroup.leave_at(now, **self._crowd_locked())
        if max_delay is not None:
            queue.hold_until = regroup.hold_until(max_delay, leaves_at=leaves_at)
        return leaves_at

    def status(self) -> BatcherStatus:
        """Return a snapshot."""
        is_nested = self.is_nested
        now = self.clock.monotonic()
        with self.lock:
            if not is_nested:
                self.queue.account_for_ended()
                self.queue.collect()
                self.refresh_gate_locked()
            counters, queue, last_began = self.counters, self.queue, self.last_batch_time
            dates = (queue.oldest_since, *(batch.since for batch in self.running if batch.rest))
            since = min((date for date in dates if date is not None), default=None)
            is_paused = self.is_paused and self.state is State.OPEN
            return BatcherStatus(
                state="paused" if is_paused else self.state.value,
                pending=queue.count,
                processing=self.processing,
                processed=counters.succeeded + counters.failed,
                batches=counters.batches,
                average_batch_size=counters.handed_over / counters.batches if counters.batches else 0.0,
                last_batch_time=None if last_began is None else datetime.fromtimestamp(last_began, UTC),
                last_batch_seconds=self.last_batch_seconds,
                accepted=queue.accepted + counters.passed,
                succeeded=counters.succeeded,
                failed=counters.failed,
                cancelled=counters.cancelled,
                expired=counters.expired,
                dropped=counters.dropped,
                refused=counters.refused,
                retried=counters.retried,
                split=counters.split,
                deduplicated=counters.deduplicated,
                oldest_pending_age=None if since is None else max(now - since, 0.0),
                stuck_handlers=self.stuck,
                batch_size_limit=queue.sizing.learnt,
                delay_limit=self.options.max_delay if self.regroup is None else self.regroup.longest_wait,
            )
