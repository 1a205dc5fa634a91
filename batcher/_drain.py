"""Flush and close, on the thread of whoever asks.

Guarantee: neither outlasts its timeout, whatever the handler does. The thread that asks keeps the time
itself and only waits for tallies to be complete; when its time is over it reports what is left, and a
close fails what is unsent. Threads that are about to end are given a tenth of a second for it.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from batcher import _reentry
from batcher._clock import Bell, SystemClock, monotonic
from batcher._drop import cancel_unsent, drop_unsent
from batcher._flusher import stir
from batcher._status import FlushReport, State, Tally
from batcher.errors import ReentrantCallError

if TYPE_CHECKING:
    from batcher._clock import Clock
    from batcher._line import Line

UNSENT = "the batcher was closed before this item was sent"
NO_HANDLER = "the batcher was closed and has no handler to send this item to"
# What a thread with nothing left to do is given to end, when the timeout is over already.
_GRACE = 0.1


def flush(line: Line, timeout: float | None) -> FlushReport:
    """Send all that came in before the call, and wait for it."""
    _refuse_reentry(line, "flush")
    deadline = None if timeout is None else line.clock.monotonic() + timeout
    snapshots = _seal(line)
    _await([tally for tally, _ in snapshots], deadline, line.clock)
    return _report(line, snapshots)


def request_flush(line: Line) -> list[Tally]:
    """Have all that has come in sent, without waiting; return what `wait_until` can wait for."""
    return [tally for tally, _ in _seal(line)]


def wait_until(tallies: list[Tally], deadline: float) -> None:
    """Wait until the tallies are complete, or until `deadline` on the machine's own clock."""
    _await(tallies, deadline, SystemClock())


def close(line: Line, timeout: float | None, *, drain: bool) -> FlushReport:
    """Refuse new items, send or cancel what is there, and let the threads go."""
    _refuse_reentry(line, "close")
    deadline = None if timeout is None else line.clock.monotonic() + timeout
    begin_close(line, deadline)
    snapshots = _seal(line)
    if not drain:
        cancel_unsent(line)
    if line.call is None:
        drop_unsent(line, NO_HANDLER)
    # Ctrl-C in here leaves the flusher draining; the exit hook waits for it.
    _await([tally for tally, _ in snapshots], deadline, line.clock)
    end_close(line)
    _join(line, None if deadline is None else max(deadline - line.clock.monotonic(), _GRACE))
    return _report(line, snapshots)


def begin_close(line: Line, deadline: float | None) -> None:
    """Refuse new items, those of waiting producers included; what waits for a retry is tried at once."""
    with line.lock:
        if line.state is State.OPEN:
            line.state = State.CLOSING
        hurry_locked(line, deadline)
        line.refresh_gate_locked()
    for waiter in list(line.waiters):
        waiter.bell.ring()


def hurry_locked(line: Line, deadline: float | None) -> None:
    """Have what waits for a retry tried at once, and no retry waited for beyond `deadline`."""
    line.queue.held.hurry()
    if deadline is not None:
        line.drain_by = deadline if line.drain_by is None else min(deadline, line.drain_by)


def end_close(line: Line) -> None:
    """Fail what is unsent; the flusher ends when no handler runs."""
    drop_unsent(line, UNSENT)
    with line.lock:
        line.state = State.CLOSED
        line.ring_at = 0  # an add that was under way as the gate closed sees it, and cleans up after itself
    drop_unsent(line, UNSENT)  # what such an add brought before it could see it
    line.wake()


def _refuse_reentry(line: Line, what: str) -> None:
    """Raise ReentrantCallError where the call would wait for its own thread."""
    if line.is_own_thread:
        raise ReentrantCallError(f"{what}() called by the batcher's own handler, hook or callback")
    if line.is_nested or line.is_starting_here or (line.cache is not None and line.cache.is_nested):
        raise ReentrantCallError(f"{what}() called on top of a call of the same batcher, by a signal or a destructor")


def _seal(line: Line) -> list[tuple[Tally, dict[str, int]]]:
    """Close the open tally, and return all that aren't complete, each with what it counted so far."""
    with line.lock:
        line.queue.seal()
        line.refresh_gate_locked()
        snapshots = [(tally, dict(tally.ended)) for tally in line.queue.sealed]
    if snapshots:
        stir(line)
    return snapshots


def _await(tallies: list[Tally], deadline: float | None, clock: Clock) -> None:
    """Wait until all the tallies are complete, or the deadline."""
    bell = Bell()
    _reentry.here.waits += 1
    try:
        for tally in tallies:
            tally.bells.append(bell)
        while any(tally.left for tally in tallies):
            if not clock.wait(bell, deadline):
                return
    finally:
        _reentry.here.waits -= 1
        for tally in tallies:
            with suppress(ValueError):  # if Ctrl-C came before it was there
                tally.bells.remove(bell)


def _report(line: Line, snapshots: list[tuple[Tally, dict[str, int]]]) -> FlushReport:
    """Say what has become of the tallies since their snapshots."""
    ended = Counter[str]()
    with line.lock:
        left = sum(tally.left for tally, _ in snapshots)
        for tally, before in snapshots:
            ended.update({ending: count - before[ending] for ending, count in tally.ended.items()})
    return FlushReport(**ended, pending=left)


def _join(line: Line, seconds: float | None) -> None:
    """Wait for the threads that are about to end, `seconds` at most; None: as long as they take."""
    threads = [] if line.pool is None or line.running or line.stuck else line.pool.threads()
    if line.post is not None and line.post.thread is not None and not line.running:
        threads += [line.post.thread, *line.relieved]
    until = None if seconds is None else monotonic() + seconds
    for thread in filter(threading.Thread.is_alive, threads):
        thread.join(None if until is None else max(until - monotonic(), 0.0))
