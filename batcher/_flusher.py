"""The background thread: see what is due, do it, sleep until the next thing is due.

Each turn plans under the lock and acts after it is released. What can be due: an item's own deadline, a
handler call that takes too long, room for a waiting producer, a batch. Between two turns the thread
waits on its bell, until the earliest of those moments; when nothing is pending it waits without a
limit, so that an idle batcher costs nothing.

An item with a deadline of its own may come while the flusher is in a handler itself (see `_dispatch`):
then another flusher takes over (`relieve`), and the first one ends when its handler does.
"""

from __future__ import annotations

import contextvars
import math
import threading
import weakref
from functools import partial
from time import time as wall_time
from typing import TYPE_CHECKING, Any

from batcher import _reentry
from batcher._dispatch import dispatch, outcomes_of, run
from batcher._drop import drop_unsent
from batcher._flights import extra_of
from batcher._group import is_tracked
from batcher._intake import CLOSED
from batcher._line import NEVER, Line, Post, inline_mode
from batcher._outcomes import fail_all
from batcher._process import check_process
from batcher._settle import finish, give_up, refuse
from batcher._status import State
from batcher._tell import tell_futures
from batcher.errors import BatcherClosedError

if TYPE_CHECKING:
    from batcher._clock import Bell
    from batcher._future import ItemFuture
    from batcher._group import Batch, Group
    from batcher._reentry import Token

ABANDONED = "the batcher was dropped, and its exit_timeout passed before this item was sent"


class _Plan:
    """What one turn has found to do, and when the next turn is due."""

    __slots__ = (
        "asks",
        "batch",
        "expired",
        "is_inline",
        "is_over",
        "must_drop",
        "overdue",
        "refusal",
        "rings",
        "sleep_until",
        "unpinned",
        "withdraws",
    )

    def __init__(self) -> None:
        self.expired: list[tuple[ItemFuture[Any], Any]] = []
        self.overdue: list[Batch] = []
        self.rings: list[Bell] = []
        self.batch: Batch | None = None
        self.asks = False  # whether the handler may be called
        self.withdraws = False  # what it was given for a call that isn't made
        self.refusal: BaseException | None = None
        self.is_inline = False
        self.is_over = False
        self.must_drop = False
        self.sleep_until: float | None = None
        self.unpinned: object = None  # let go of with the plan, when no lock is held

    @property
    def is_rest(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.expired or self.overdue or self.rings or self.batch or self.must_drop or self.asks)


def start(line: Line) -> None:
    """Start the line's thread, once.

    Raises:
        BatcherClosedError: No thread can be started; whatever came in meanwhile is dropped.
    """
    _reentry.follow_patches()
    try:
        with line.lock:
            if line.post is not None:
                return
            post = line.post = _new_post(line)
        line.was_started.append(True)
        line.wake()  # it keeps the line alive until it has looked
        _launch(post)
    except BaseException as error:
        with line.lock:
            idle = line.post
            if idle is not None and not _has_started(idle):
                idle.is_over = True
                line.post = line.pinned = idle.held = None
        if not isinstance(error, RuntimeError):
            raise
        drop_unsent(line, "no thread can be started")
        raise BatcherClosedError("no thread can be started; is the interpreter shutting down?") from error


def relieve(line: Line) -> None:
    """Put another thread in the place of one that is in a handler."""
    with line.lock:
        before = line.post
        if before is None or before.thread is None or not before.is_in_handler:
            return
        post = line.post = _new_post(line)
        post.held = line
        before.bell.ring()  # it may just be done, and about to go to sleep
        line.relieved = [thread for thread in line.relieved if thread.is_alive()] + [before.thread]
    try:
        _launch(post)
    except BaseException as error:
        if not _has_started(post):
            with line.lock:
                line.post = before  # then the deadline is seen when the handler returns
        if not isinstance(error, RuntimeError):
            raise


def _new_post(line: Line) -> Post:
    post = Post()
    bell = post.bell
    home = weakref.ref(line, lambda _: bell.ring())  # collected while idle: the thread looks, and ends
    # Daemon: a hung handler must not hold up the exit; delivery at exit is seen to by `_lifecycle`.
    # `Batcher.close` joins it. Its loop ends when the line is closed, when another thread has its
    # place, or when the line was collected. After a fork it isn't there: the child makes a new line.
    # The context is empty on every Python version: no caller's serves the items of others.
    post.thread = threading.Thread(
        target=contextvars.Context().run,
        args=(_serve, post, home, line.token),
        name=f"batcher-{line.options.name}-flusher",
        daemon=True,
    )
    return post


def _launch(post: Post) -> None:
    assert post.thread is not None  # noqa: S101
    post.thread.start()


def _has_started(post: Post) -> bool:
    return post.thread is not None and post.thread.ident is not None


_REST, _WORK = _Plan(), _Plan()  # of the short turns: nothing is left to do, or perhaps something is
_WORK.asks = True


def _serve(post: Post, home: weakref.ref[Line], token: Token) -> None:
    """Be a flusher thread: turn after turn, until the line is closed or gone."""
    # For the whole life of the thread: whatever a user's code does here, a destructor or a log handler,
    # must not wait for this very thread.
    _reentry.here.running = (token,)
    while True:
        line = post.held if post.held is not None else home()
        if line is None:
            return
        try:
            plan = _turn(line, post)
        except BaseException as error:  # noqa: BLE001 - the last line of defence
            _give_in(line, post, error)
            return
        if plan.is_over:
            return
        clock, until, is_rest = line.clock, plan.sleep_until, plan.is_rest
        # Asleep, the thread keeps nothing alive but its post: no batch, and no batcher that is idle.
        del line, plan
        if is_rest:
            clock.wait(post.bell, until)


def _give_in(line: Line, post: Post, error: BaseException) -> None:
    """Close the batcher whose flusher can't go on: loudly, and so that nobody waits for ever."""
    line.reporter.report("the flusher failed, and the batcher is closed", error)
    with line.lock:
        line.state = State.CLOSED
        line.gate = line.ring_at = 0
        post.is_over = True
        running = list(line.running)
    for batch in running:
        finish(line, batch, fail_all(len(batch.entries), error))
    drop_unsent(line, f"the batcher failed: {type(error).__name__}")
    if line.pool is not None:
        line.pool.shutdown(wait=False)


# One turn


def _turn(line: Line, post: Post) -> _Plan:
    """Do what is due."""
    check_process()  # a handler may have forked, and come back in the child as well
    if line.is_plain and line.inbox:
        batch = _cut_plainly(line, post)
        if batch is not None:
            return _REST if run(line, batch, post) else _WORK
    while line.returned:
        batch, future = line.returned.popleft()
        finish(line, batch, outcomes_of(line, batch, future))
    now = line.clock.monotonic()
    with line.lock:
        plan = _plan_locked(line, post, now)
    for bell in plan.rings:
        bell.ring()
    if plan.expired or line.untold:
        futures = [future for future, _ in plan.expired]
        while line.untold:
            futures.append(line.untold.popleft())
        tell_futures(line, futures)
    for batch in plan.overdue:
        give_up(line, batch)
    if plan.must_drop:
        drop_unsent(line, ABANDONED if line.state is State.CLOSING else CLOSED)
    _start(line, post, plan)
    if plan.is_over and line.post is post and line.pool is not None:
        line.pool.shutdown(wait=False)
    return plan


def _cut_plainly(line: Line, post: Post) -> Batch | None:
    """Take the batch of a short turn, where a plain batcher has nothing else to do; None: look at everything."""
    queue = line.queue
    now = line.clock.monotonic()
    with line.lock:
        if not line.is_calm_locked(post) or line.call is None:
            return None
        line.gate = 0  # it was that of a fuller inbox; and the first item of the next batch is to be dated
        group = queue.collect_plain(now)
        if not _may_leave_plainly_locked(line, group, now):
            return None
        line.is_lingering = line.listens = False
        line.ring_at = NEVER
        batch = queue.cut_all()
        if batch is not None:
            _begin_locked(line, batch, now)
            post.is_in_handler = True
        return batch


def _may_leave_plainly_locked(line: Line, group: Group, now: float) -> bool:
    """Say whether the only group of a plain queue may leave, and nothing else has to be looked at."""
    queue, regroup = line.queue, line.regroup
    if queue.ranked_since is not None:
        return False  # a priority came as the queue was collected, by a signal or a destructor
    if regroup is None:
        return line.options.max_delay == 0 or queue.is_full(group)
    if queue.is_full(group):
        return True
    if not queue.blocked or len(queue.tallies) > 1:
        return False
    return not regroup.expected or regroup.leave_at(now, blocked=queue.blocked, processing=0, slots=1) <= now


def _start(line: Line, post: Post, plan: _Plan) -> None:
    """See to the handler calls: ask whether one may start, give back what isn't needed, start one."""
    if line.starts is not None and plan.asks:
        line.starts.ask()
    elif line.starts is not None and plan.withdraws:
        line.starts.withdraw()
    if plan.batch is not None and plan.refusal is not None:
        refuse(line, plan.batch, plan.refusal)
    elif plan.batch is not None:
        dispatch(line, plan.batch, post, is_inline=plan.is_inline)


def _plan_locked(line: Line, post: Post, now: float) -> _Plan:
    plan = _Plan()
    if line.post is not post:
        plan.is_over = True
        return plan
    is_closed = line.state is State.CLOSED
    line.is_lingering = line.listens = False
    if not is_closed:
        line.ring_at = NEVER  # awake: nobody needs to ring
    plan.expired = line.expire_locked(now)
    if line.drop_at is not None:
        line.queue.seal()  # abandoned: all that is there leaves at once
        if line.drain_by is None:
            line.drain_by = line.drop_at
            line.queue.held.hurry()
    line.queue.arrange(now)  # after all that changes the queue, so that what is offered is there
    for tally in line.queue.tallies:
        tally.ring_if_complete()  # if Ctrl-C kept the thread that ended its last item from doing so
    line.queue.forget_complete()
    plan.overdue = [batch for batch in line.running if batch.deadline is not None and batch.deadline <= now]
    is_late = is_closed or (line.drop_at is not None and line.drop_at <= now)
    plan.must_drop = is_late and line.queue.count > 0
    has_slot = len(line.running) < line.options.max_concurrent
    can_start = not is_late and not inline_mode.depth and line.call is not None and has_slot
    is_cleared = _is_cleared_locked(line, plan, now, can_start=can_start)
    if can_start and is_cleared:
        plan.batch, plan.refusal = cut_locked(line, now)
        plan.withdraws = plan.batch is None  # all its items had ended: others may wait for the start
    plan.rings = line.admit_waiters_locked()
    if plan.batch is not None:
        plan.is_inline = plan.refusal is None and _is_inline(line, plan.batch)
        post.is_in_handler = plan.is_inline
    elif plan.is_rest:
        _rest_locked(line, post, plan, now, can_start=can_start, is_cleared=is_cleared)
    line.refresh_gate_locked()
    return plan


def _is_cleared_locked(line: Line, plan: _Plan, now: float, *, can_start: bool) -> bool:
    """Say whether a batch that is due may start, or is refused; if that isn't known, see that somebody asks."""
    starts = line.starts
    if starts is None:
        return True
    if not (can_start and is_due_locked(line, now)):
        plan.withdraws = True  # nothing needs a start, or it isn't the time
        return True
    plan.asks = not starts.is_decided and starts.may_ask(now)
    return starts.is_decided


def _is_full(line: Line) -> bool:
    """Say whether the queue must move, whatever the delay says: producers may wait for it."""
    return bool(line.waiters) or line.was_full or line.queue.count >= line.options.max_pending


def is_due_locked(line: Line, now: float, *, is_forced: bool = False) -> bool:
    """Say whether `cut_locked` would find something."""
    queue = line.queue
    is_paused = line.is_paused and line.state is State.OPEN
    held_due = queue.held.due_at(is_paused=is_paused)
    if held_due is not None and held_due <= now:
        return True
    is_forced = is_forced or (not is_paused and _is_full(line))
    is_eager = line.leave_early_at_locked(now) <= now
    return queue.next_due(now, is_paused=is_paused, is_forced=is_forced, is_eager=is_eager) is not None


def cut_locked(line: Line, now: float, *, is_forced: bool = False) -> tuple[Batch | None, BaseException | None]:
    """Take the next batch that is due, or any if `is_forced`; the caller holds the lock and runs it.

    With the batch comes what its handler must not be called for, if there is such a thing.
    """
    queue = line.queue
    is_paused = line.is_paused and line.state is State.OPEN
    is_forced = is_forced or (not is_paused and _is_full(line))
    is_eager = line.leave_early_at_locked(now) <= now
    next_due = partial(queue.next_due, now, is_paused=is_paused, is_forced=is_forced, is_eager=is_eager)
    while True:
        # In turns, where both are due: what fails again and again must not keep everybody else waiting.
        group = next_due() if queue.held.had_turn else None
        batch = queue.held.take(now, is_paused=is_paused) if group is None else None
        queue.held.had_turn = batch is not None
        if batch is None:
            group = next_due() if group is None else group
            if group is None:
                return None, None
            batch = queue.cut(group, now)
        elif not batch.size:
            queue.pass_over(batch, now)  # all its items have ended meanwhile
            batch = None
        if batch is not None:
            return batch, _begin_locked(line, batch, now)


def _begin_locked(line: Line, batch: Batch, now: float) -> BaseException | None:
    """Count a batch as in a handler; return what it must not be called for."""
    refusal = None
    if line.starts is not None:
        batch.start, refusal = line.starts.take()
    line.was_full = False
    batch.started = now
    if batch.attempt == 1:
        batch.first_started = now
    line.processing += len(batch.items)
    line.running.add(batch)
    if refusal is None:
        _count_call(line, batch)
        if line.options.handler_timeout is not None:
            batch.deadline = now + line.options.handler_timeout
    if line.flights is not None:
        extra = extra_of(batch.entries)
        line.queue.extra -= extra
        line.processing += extra
    if line.deadlines or line.flights is not None:
        for entry in batch.entries:
            if is_tracked(entry):
                entry._place = batch  # so that a passing deadline finds it, and who shares its place
    return refusal


def _count_call(line: Line, batch: Batch) -> None:
    """Count a handler call."""
    counters = line.counters
    counters.batches += 1
    counters.handed_over += len(batch.items)
    if batch.attempt > 1:
        counters.retried += batch.size
    # The wall clock as the user sees it: under freezegun the frozen time.
    line.last_batch_time = wall_time()


def _is_inline(line: Line, batch: Batch) -> bool:
    """Say whether the flusher may run the handler itself: nothing else will need it meanwhile."""
    options = line.options
    return options.executor is None and options.max_concurrent == 1 and batch.deadline is None and not line.deadlines


def _rest_locked(line: Line, post: Post, plan: _Plan, now: float, *, can_start: bool, is_cleared: bool) -> None:
    """Nothing is due: find out until when, and what will ring before."""
    queue = line.queue
    moments = [batch.deadline for batch in line.running if batch.deadline is not None]
    deadline, future = line.next_deadline_locked()
    if future is not None:
        moments.append(deadline)
    if not is_cleared:
        assert line.starts is not None  # noqa: S101
        moments.append(line.starts.not_before)
    elif can_start:
        moments += _linger_locked(line, now)
    if queue.count or line.running:
        post.held = line
        if line.drop_at is not None and queue.count:
            moments.append(line.drop_at)
    else:
        if line.drop_at is not None:
            line.state = State.CLOSED
        plan.is_over = post.is_over = line.state is State.CLOSED
        line.ring_at = 0 if plan.is_over else 1
        post.held = None
        plan.unpinned, line.pinned = line.pinned, None
    # An add on its fast way may have looked at the old mark just before: look at what it did.
    if line.state is not State.CLOSED and len(line.inbox) >= line.ring_at:
        line.wake()
    until = min(moments, default=math.inf)
    plan.sleep_until = None if until == math.inf else until


def _linger_locked(line: Line, now: float) -> list[float]:
    """Have whatever makes a batch due ring the flusher; return when time alone may do so."""
    queue, regroup = line.queue, line.regroup
    is_paused = line.is_paused and line.state is State.OPEN
    line.is_lingering = queue.count > 0 and not is_paused
    line.ring_at = NEVER if is_paused else 1  # the first one is to be timed
    if line.is_lingering:
        line.ring_at = queue.missing_to_full
    dues = (queue.due_at(is_paused=is_paused), queue.held.due_at(is_paused=is_paused))
    moments = [due for due in dues if due is not None]
    if regroup is not None and not is_paused:
        regroup.forget_overdue(now)
        line.listen_locked()
        if regroup.expected and queue.count:  # whoever blocks from now on may wait for others no longer than that
            moments.append(regroup.until)
    return moments


def stir(line: Line) -> None:
    """Have what waits looked at again: the handler is there, the pause is over, a flush asks."""
    run_all_here(line)
    if line.post is None and line.queue.count and not inline_mode.depth:
        start(line)  # it came in while handlers ran inline
    line.wake()


def run_all_here(line: Line) -> None:
    """In the inline mode: run all that is pending on this thread.

    An add by the handler itself only adds: the loop that called the handler goes on with it.
    """
    while inline_mode.depth and not line.is_own_thread:
        now = line.clock.monotonic()
        with line.lock:
            line.queue.arrange(now)
            if line.call is None or len(line.running) >= line.options.max_concurrent:
                return  # another thread's call is under way: it comes back here, and finds what waits
            is_due = is_due_locked(line, now, is_forced=not line.is_paused)
        if is_due and line.starts is not None:
            line.starts.wait_for_start()
        with line.lock:
            batch, refusal = cut_locked(line, now, is_forced=not line.is_paused)
            admit = line.admit_waiters_locked()
        for bell in admit:
            bell.ring()
        if batch is None:
            if line.starts is not None:
                line.starts.withdraw()
            return
        if refusal is not None:
            refuse(line, batch, refusal)
        else:
            run(line, batch, is_inline=True)
        line.wake()  # the mode may have ended meanwhile, and a flusher wait for the slot
