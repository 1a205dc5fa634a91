"""Run one batch's handler call.

A `HandlerCall` is, with the items, all that travels to the thread, or through a borrowed executor to the
process, that runs the handler. Where the executor pickles, the handler, `around_batch` and the items must be
picklable; what comes back is picklable where the handler's answer is.
"""

from __future__ import annotations

import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batcher import _reentry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from types import FrameType

    from batcher._reentry import Token

_GENERATOR_FLAGS = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR


@dataclass(frozen=True, slots=True)
class HandlerCall:
    """A handler and all that is done around each of its calls.

    Attributes:
        handler: The user's bulk function.
        around_batch: A context manager factory entered around the call, or None.
        token: Whose call it is, so that the handler's own calls are recognised.
        batcher: A name of the batcher that no other has, in any process.
    """

    handler: Callable[[list[Any]], object]
    around_batch: Callable[[], AbstractContextManager[object]] | None
    token: Token
    batcher: str = ""

    def __call__(self, items: Sequence[Any], number: int = 0, attempt: int = 1, *, is_inline: bool = False) -> object:
        """Call the handler with a list of its own, and return what it returns.

        Args:
            items: What the handler gets.
            number: The batch's, among those of its batcher.
            attempt: 1 for the first call with these items.
            is_inline: Run in the caller's own context, as it does on the caller's own thread.
        """
        batch = (self.batcher, number, attempt)
        if not is_inline:
            # A context of its own, and empty: nothing that one batch sets, and no caller's, reaches another.
            return contextvars.Context().run(self._call, items, batch)
        before = _current.get()
        try:
            return self._call(items, batch)
        finally:
            _current.set(before)

    def _call(self, items: Sequence[Any], batch: _Batch) -> object:
        _current.set(batch)
        here = _reentry.here
        before = here.running
        if self.token not in before:
            here.running = (*before, self.token)
        try:
            if self.around_batch is None:
                return self.handler(list(items))
            with self.around_batch():
                return self.handler(list(items))
            return None  # the context manager has swallowed the handler's error
        finally:
            here.running = before


_Batch = tuple[str, int, int]  # the batcher's name, the batch's number and attempt
_current: contextvars.ContextVar[_Batch | None] = contextvars.ContextVar("batcher_current_batch", default=None)


def is_inside(batcher: str, number: int) -> bool:
    """Say whether this thread runs the handler with that batch of that batcher."""
    batch = _current.get()
    return batch is not None and batch[:2] == (batcher, number)


@dataclass(frozen=True, slots=True)
class CurrentBatch:
    """What a handler may know of the batch that it was called with.

    Attributes:
        id: The same at each attempt with the same items, and no other batch's, in any process: a receiver
            can tell by it that it has seen the batch before.
        attempt: 1 for the first call with these items, 2 for the next.
    """

    id: str
    attempt: int


def current_batch() -> CurrentBatch | None:
    """Return the batch that the calling handler has; None outside of a handler.

    In threads that a handler starts itself there is none.
    """
    batch = _current.get()
    if batch is None:
        return None
    batcher, number, attempt = batch
    return CurrentBatch(batch_id(batcher, number), attempt)


def batch_id(batcher: str, number: int) -> str:
    """Return what a batch is known by outside."""
    return f"{batcher}-{number}"


def trim(error: BaseException) -> BaseException:
    """Take our own frames off the error's traceback: they hold the batch, and tell the user nothing."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("batcher._"):
        trace = trace.tb_next
    return error.with_traceback(trace)


def free_frames(error: BaseException) -> None:
    """Let go of the local variables that the error's tracebacks keep: the batch is among them.

    The places stay readable in the traceback. Called when everybody was told: a caller may keep its
    future, and so the error, for as long as it likes.
    """
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        chain += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            chain += link.exceptions
        trace = link.__traceback__
        while trace is not None:
            _clear(trace.tb_frame)
            trace = trace.tb_next


def _clear(frame: FrameType) -> None:
    if frame.f_code.co_flags & _GENERATOR_FLAGS:
        return  # clearing a suspended generator would close it
    try:
        frame.clear()
    except RuntimeError:
        pass  # still running
