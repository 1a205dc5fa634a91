"""Deliver on SIGTERM, whose default is to end the process without running any exit hook."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from batcher._clock import monotonic
from batcher._drain import request_flush, wait_until
from batcher._lifecycle import begin_deliveries, is_delivery_nested, lines
from batcher._status import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from batcher._line import Line

    Handler = Callable[[int, FrameType | None], Any] | int | None

# How soon the signal comes again that found a batcher's lock in the hands of the interrupted code.
_AGAIN = 0.005


def drain_on_sigterm() -> None:
    """Install a SIGTERM handler that delivers what is pending, then lets the earlier handler run.

    Every batcher of the process is flushed, side by side, each for at most its `exit_timeout`; so is every
    `Debounce`, for at most five seconds. Then
    the handler that was there before runs. If that was the default, the process ends by the signal, so
    that whoever waits for it sees the status of a terminated process. If SIGTERM was ignored, it still
    is. New items are accepted all the while: a server's own handler may yet finish its requests.

    Call it in the main thread, after a server has installed its own handler; calling it again, with
    nobody's handler put in between, changes nothing.

    Raises:
        ValueError: Called from a thread that isn't the main thread.
        RuntimeError: The earlier handler wasn't installed from Python, and can't be called from it.
    """
    earlier = signal.getsignal(signal.SIGTERM)
    if earlier is None:
        raise RuntimeError("the present SIGTERM handler wasn't installed from Python, and can't be chained to")
    if isinstance(earlier, _Drain):
        return
    signal.signal(signal.SIGTERM, _Drain(earlier))


class _Drain:
    """The installed handler, and the one that it chains to."""

    def __init__(self, earlier: Handler) -> None:
        self._earlier = earlier

    def __call__(self, number: int, frame: FrameType | None) -> None:
        open_lines = [line for line in lines() if line.post is not None and line.state is not State.CLOSED]
        if is_delivery_nested() or any(line.is_nested or line.is_own_thread for line in open_lines):
            # The code below us on the stack holds a lock that the draining needs. It is about to let go.
            timer = threading.Timer(_AGAIN, os.kill, (os.getpid(), number))
            timer.daemon = True
            timer.start()
            return
        _flush_all(open_lines)
        if callable(self._earlier):
            self._earlier(number, frame)
        elif self._earlier == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def _flush_all(open_lines: list[Line]) -> None:
    began = monotonic()
    deliveries = begin_deliveries()
    waits = [(line, request_flush(line)) for line in open_lines if line.call is not None]
    for line, tallies in waits:
        wait_until(tallies, began + line.options.exit_timeout)
    for wait in deliveries:
        wait(began)
