"""Have a batch's handler called, and settle what comes of it.

Who runs the handler? The flusher itself, where one call at a time is all there may be and nothing else
needs the thread meanwhile. Else a pool of daemon threads, or the executor that was lent.
"""

from __future__ import annotations

import weakref
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any

from batcher._execution import trim
from batcher._outcomes import fail_all, match
from batcher._parcel import Parcel, deliver
from batcher._settle import finish
from batcher._workers import DaemonPool
from batcher.errors import BatchError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from batcher._group import Batch
    from batcher._line import Line, Post


def dispatch(line: Line, batch: Batch, post: Post, *, is_inline: bool) -> None:
    """Have the handler called: here, on a worker, or by the executor that was lent."""
    if is_inline:
        run(line, batch, post)
    elif line.options.executor is None:
        _run_on_worker(line, batch)
    else:
        _lend(line, batch)


def _run_on_worker(line: Line, batch: Batch) -> None:
    if line.pool is None:
        line.pool = DaemonPool(line.options.name, line.token)
        # Collected while idle, the line can't end its workers itself.
        weakref.finalize(line, line.pool.shutdown, wait=False).atexit = False

    def job() -> None:
        run(line, batch)
        line.wake()

    try:
        line.pool.start(job)
    except RuntimeError:
        run(line, batch)  # no thread can be started, at exit for one; this one is there


def _lend(line: Line, batch: Batch) -> None:
    """Hand the call to the borrowed executor; the flusher settles what comes back."""

    def done(future: Future[object]) -> None:
        # Not settled here: an executor's callback thread may be one that must not run a user's code.
        if batch.given_up:
            finish(line, batch, [])  # all is told; the flusher may have ended by now
            return
        line.returned.append((batch, future))
        line.wake()

    assert line.options.executor is not None  # noqa: S101
    assert line.call is not None  # noqa: S101 - no batch is cut without a handler
    call = partial(line.call, number=batch.number, attempt=batch.attempt)
    try:
        batch.lent = line.options.executor.submit(deliver, Parcel(call, batch.items))
    except BaseException as error:  # noqa: BLE001 - a borrowed executor is the user's
        if line.is_exiting and isinstance(error, RuntimeError):
            run(line, batch)  # executors refuse at exit, but this thread still runs
        else:
            finish(line, batch, fail_all(len(batch.entries), trim(error)))
    else:
        batch.lent.add_done_callback(done)


def run(line: Line, batch: Batch, post: Post | None = None, *, is_inline: bool = False) -> bool:
    """Call the handler on this thread, and settle the batch; say whether there is nothing left to do.

    Args:
        line: Whose handler it is.
        batch: What it gets.
        post: Of the flusher, if this is its thread.
        is_inline: This is the thread of a user, in the inline mode.
    """
    assert line.call is not None  # noqa: S101 - no batch is cut without a handler
    keys = _keys(line, batch)  # first: a batch that is given up meanwhile is taken apart
    try:
        returned = line.call(batch.items, batch.number, batch.attempt, is_inline=is_inline)
    except BaseException as error:  # noqa: BLE001 - SystemExit in a handler must not end the flusher
        outcomes = fail_all(len(batch.entries), trim(error))
    else:
        outcomes = match(batch.items, returned, keys)
        del returned
    is_rest = finish(line, batch, outcomes, post)
    if post is not None:
        post.is_in_handler = False
        if line.post is not post:
            line.wake()  # another has the place by now, and waits for the slot
    return is_rest


def outcomes_of(line: Line, batch: Batch, future: Future[object]) -> list[Any]:
    """Return the outcomes of a batch that a borrowed executor ran."""
    try:
        returned = future.result(0)
    except CancelledError as error:
        failure = BatchError("the executor cancelled the call")  # not the futures: nobody cancelled those
        failure.__cause__ = error
        return fail_all(len(batch.entries), failure)
    except BaseException as error:  # noqa: BLE001 - the handler's, or the executor's own
        return fail_all(len(batch.entries), trim(error))
    return match(batch.items, returned, _keys(line, batch))


def _keys(line: Line, batch: Batch) -> list[Any] | None:
    """Return what a mapping is looked up by, where that isn't the items."""
    return None if line.flights is None else batch.keys
