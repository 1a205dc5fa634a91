"""Run one batch's handler call.

A `HandlerCall` is all that travels to the thread, or through a borrowed executor to the process, that
runs the handler. Where the executor pickles, the handler, `around_batch` and the items must be
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
    """A handler and all that is done around it.

    Attributes:
        handler: The user's bulk function.
        around_batch: A context manager factory entered around the call, or None.
        token: Whose call it is, so that the handler's own calls are recognised.
        batcher: A name of the batcher that no other has, in any process.
        number: The batch's, among those of its batcher.
        attempt: 1 for the first call with these items.
        is_inline: Run in the caller's own context, as it does on the caller's own thread.
    """

    handler: Callable[[list[Any]], object]
    around_batch: Callable[[], AbstractContextManager[object]] | None
    token: Token
    batcher: str = ""
    number: int = 0
    attempt: int = 1
    is_inline: bool = False

    def __call__(self, items: Sequence[Any]) -> object:
        """Call the handler with a list of its own, and return what it returns."""
        if self.is_inline:
            reset = _current.set(self)
            try:
                return self._call(items)
            finally:
                _current.reset(reset)
        # A context of its own, and empty: nothing that one batch sets, and no caller's, reaches another.
        return contextvars.Context().run(self._call_alone, items)

    def _call_alone(self, items: Sequence[Any]) -> object:
        _current.set(self)
        return self._call(items)

    def _call(self, items: Sequence[Any]) -> object:
        here = _reentry.here
        before = here.running
        here.running = (*before, self.token)
        try:
            if self.around_batch is None:
                return self.handler(list(items))
            with self.around_batch():
                return self.handler(list(items))
            return None  # the context manager has swallowed the handler's error
        finally:
            here.running = before


_current: contextvars.ContextVar[HandlerCall | None] = contextvars.ContextVar("batcher_current_call", default=None)


def current_call() -> HandlerCall | None:
    """Return the call of a handler that this is inside of, as far as that runs on this thread."""
    return _current.get()


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
    call = current_call()
    return None if call is None else CurrentBatch(batch_id(call.batcher, call.number), call.attempt)


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
