"""Tell a batcher's users what happened: wake those who wait, run callbacks and hooks. No lock is held here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batcher import _reentry
from batcher._future import announce, is_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._future import ItemFuture
    from batcher._line import Line


def tell_futures(line: Line, futures: list[ItemFuture[Any]]) -> None:
    """Wake those who wait for settled futures, and run their callbacks."""
    before = _reentry.here.running
    if line.token not in before:  # the flusher's own thread is known as such
        _reentry.here.running = (*before, line.token)
    try:
        announce(futures)
    except BaseException:
        # Ctrl-C on a user's thread that settles, in an add that drops or a close: the flusher goes on.
        line.untold.extend(futures)
        line.wake()
        raise
    finally:
        _reentry.here.running = before


def call_hook(line: Line, name: str, hook: Callable[..., object], *args: object) -> None:
    """Call a user's hook; what it raises is logged and disturbs nobody."""
    before = _reentry.here.running
    _reentry.here.running = (*before, line.token)
    try:
        hook(*args)
    except BaseException as error:  # SystemExit in a hook must not end the flusher
        line.reporter.report(f"{name} raised", error)
        if is_ctrl_c(error):
            raise
    finally:
        _reentry.here.running = before
