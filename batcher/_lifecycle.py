"""What happens to a process, and to a batcher that nobody closed: fork, exit, garbage collection.

- **Fork.** One hook for the process, and a look at `_process.alive` in every add for forks that run no
  hook. In the child every batcher gets a new, empty line; the old one, whose lock may be held by a
  thread that isn't there, only fails the futures that were inherited.
- **Exit.** Two steps, because neither alone is enough. Before the interpreter's executors shut down,
  what is pending is flushed: handlers may still use pools and start threads. But other threads of the
  program may run on, so nothing is closed yet. When they have ended, as the `atexit` handlers run, the
  batchers are closed. Both share the `exit_timeout` of each batcher, and all batchers wait side by side.
  Whoever else has something to deliver, as the debounces have, joins in by `on_exit`.
- **Collection.** A batcher that was dropped unclosed drains as `close(exit_timeout)`; its own flusher
  does it, since a destructor must not wait.
"""

from __future__ import annotations

import atexit
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Protocol

from batcher._clock import monotonic
from batcher._drain import begin_close, end_close, hurry_locked, request_flush, wait_until
from batcher._process import on_fork
from batcher._status import State
from batcher.errors import BatcherClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._line import Line


class Restartable(Protocol):
    """A batcher, as far as a fork is concerned."""

    def restart(self) -> None:
        """Start anew with an empty line."""
        ...


class _Registered:
    """One line, and the batcher that it serves."""

    __slots__ = ("line", "owner")

    def __init__(self, line: Line, owner: Restartable) -> None:
        key = id(self)
        self.line = weakref.ref(line, lambda _: _registry.pop(key, None))
        self.owner = weakref.ref(owner)


_TOO_LATE = "the interpreter is shutting down, and nothing would send this item"

# Every line that is alive. Changed by single dict operations, which are atomic: a weak reference's
# callback may run on any thread, anywhere.
_registry: dict[int, _Registered] = {}


def register(line: Line, owner: Restartable) -> None:
    """See to `line` at a fork and at exit."""
    entry = _Registered(line, owner)
    _registry[id(entry)] = entry


def lines() -> list[Line]:
    """Return every line that is alive."""
    return [line for entry in list(_registry.values()) if (line := entry.line()) is not None]


def watch(owner: object, line: Line, *, warns: bool) -> weakref.finalize[..., object]:
    """Drain `line` when `owner` is collected; detach what is returned when it was closed."""
    finalizer = weakref.finalize(
        owner, _abandon, weakref.ref(line), line.was_started, line.options.name if warns else None
    )
    finalizer.atexit = False
    return finalizer


def _abandon(line_ref: weakref.ref[Line], was_started: list[bool], name: str | None) -> None:
    """Begin to drain a line whose batcher was dropped.

    Garbage collection may call this on top of anything, a step under the line's own lock included: so
    it takes no lock, sets a few fields, and leaves the rest to the flusher.
    """
    line = line_ref()
    if line is not None and line.state is State.OPEN:
        line.drop_at = line.clock.monotonic() + (line.options.exit_timeout if line.call is not None else 0.0)
        line.state = State.CLOSING
        line.gate = 0
        line.wake()
    if was_started and name is not None:
        warnings.warn(f"batcher {name!r} was dropped without close(); it drains now", ResourceWarning, stacklevel=2)


def _recover_in_child() -> None:
    """Give every batcher an empty line: the parent's items are the parent's."""
    inherited = list(_registry.values())
    _registry.clear()
    for line in [line for entry in inherited if (line := entry.line()) is not None]:
        line.disown()
    for owner in [owner for entry in inherited if (owner := entry.owner()) is not None]:
        owner.restart()


class Deliverer(Protocol):
    """Somebody else who has something to deliver at exit."""

    def is_nested(self) -> bool:
        """Say whether this thread was interrupted while it held a lock that delivering needs."""
        ...

    def begin(self, *, is_last: bool) -> Callable[[float], None]:
        """Begin to deliver, and wait for nothing; if `is_last`, nothing new is taken from now on.

        What is returned does the waiting, and is called with the moment at which this step of the exit
        began, on the machine's monotonic clock.
        """
        ...


_deliverers: list[Deliverer] = []


def on_exit(deliverer: Deliverer) -> None:
    """Have `deliverer` deliver at exit, too."""
    _deliverers.append(deliverer)


def begin_deliveries(*, is_last: bool = False) -> list[Callable[[float], None]]:
    """Have all deliverers begin; return what waits for them."""
    return [deliverer.begin(is_last=is_last) for deliverer in _deliverers]


def is_delivery_nested() -> bool:
    """Say whether this thread was interrupted while it held a lock that a delivery needs."""
    return any(deliverer.is_nested() for deliverer in _deliverers)


def _unfinished() -> list[Line]:
    return [line for line in lines() if line.post is not None and line.state is not State.CLOSED]


def flush_at_exit() -> None:
    """Send what is pending, while executors still work."""
    began = monotonic()
    deliveries = begin_deliveries()
    waits = []
    for line in _unfinished():
        line.is_exiting = True
        with line.lock:
            hurry_locked(line, line.clock.monotonic() + line.options.exit_timeout)
        if line.call is not None:
            waits.append((line, request_flush(line)))
    for line, tallies in waits:
        wait_until(tallies, began + line.options.exit_timeout)
        line.exit_spent = monotonic() - began
    for wait in deliveries:
        wait(began)


def close_at_exit() -> None:
    """Close what is open, within what is left of each batcher's `exit_timeout`."""
    _is_over.append(True)
    began = monotonic()
    deliveries = begin_deliveries(is_last=True)
    waits = []
    for line in _unfinished():
        line.is_exiting = True
        begin_close(line, line.clock.monotonic() + line.options.exit_timeout - line.exit_spent)
        waits.append((line, request_flush(line) if line.call is not None else []))
    for line, tallies in waits:
        wait_until(tallies, began + line.options.exit_timeout - line.exit_spent)
        end_close(line)
    for wait in deliveries:
        wait(began)


_hooked: list[bool] = []
_is_over: list[bool] = []


def hook_exit() -> None:
    """Have the process deliver at exit; called when a batcher or a timer starts.

    Not at import: exit hooks run last in, first out, and this one must run before those of executors
    that were made earlier.

    Raises:
        BatcherClosedError: It is too late: nothing would deliver what came in.
    """
    if _is_over:
        raise BatcherClosedError(_TOO_LATE)
    if _hooked:
        return
    # Its own exit hook must be there before ours, which runs first then; and at exit it couldn't be
    # imported any more, by a handler that is the first to ask for it.
    import concurrent.futures.thread  # noqa: F401, PLC0415 - not at import: most programs have it anyway

    register_early = getattr(threading, "_register_atexit", None)  # private: used where it is there
    if register_early is not None:
        try:
            register_early(flush_at_exit)
        except RuntimeError as error:
            raise BatcherClosedError(_TOO_LATE) from error
    atexit.register(close_at_exit)
    _hooked.append(True)


on_fork(_recover_in_child)
