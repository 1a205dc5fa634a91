"""Time and timed waits, injectable.

Guarantees that no frozen or jumping wall clock changes a delay: durations come from a monotonic clock
that tools such as freezegun can't reach, and every wait is a wait on a raw lock, which the operating
system times. A `Clock` is chosen once, when a batcher is made; `batcher.testing.FakeClock` installs
itself as the choice.
"""

from __future__ import annotations

import _thread
import importlib.util
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


def _load_real_monotonic() -> Callable[[], float]:
    """Return the interpreter's own monotonic clock, even while `time` is patched.

    freezegun swaps `time.monotonic`, and every module attribute that is that very function. A second
    instance of the built-in module has functions of its own, which nobody patches.
    """
    spec: Any = time.__spec__
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monotonic: Callable[[], float] = module.monotonic
    return monotonic


monotonic = _load_real_monotonic()


class Bell:
    """A wake-up that is never lost: rung before the wait, it ends the wait at once.

    Thread safety: `ring` may be called from any thread, from a signal handler and from a destructor,
    wherever that interrupts: it takes no lock that the interrupted code could hold. (That rules out
    `threading.Event`, whose condition isn't re-entrant.) Only one thread may wait at a time.
    """

    __slots__ = ("_lock", "rings")

    def __init__(self) -> None:
        """Make a bell that hasn't been rung."""
        self.rings: int = 0  # so that a fake clock can tell who was woken; two rings at once may count as one
        # A raw lock, held from the start: releasing it is the ring, acquiring it the wait.
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """End the present wait, or the next one."""
        self.rings += 1
        try:
            self._lock.release()
        except RuntimeError:
            pass  # rung already, and nobody has come yet

    @property
    def is_rung(self) -> bool:
        """Whether the next wait would end at once."""
        return not self._lock.locked()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a ring, at most `timeout` seconds; say whether it came."""
        if timeout is None:
            return self._lock.acquire()
        if timeout <= 0:
            return self._lock.acquire(blocking=False)
        return self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))


class Clock(Protocol):
    """What a batcher asks of time."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; never goes back."""
        ...

    def wait(self, bell: Bell, deadline: float | None) -> bool:
        """Wait for `bell`, at most until `deadline` on this clock; say whether it rang."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    __slots__ = ()

    monotonic = staticmethod(monotonic)  # itself, with nothing around it: it is asked several times a batch

    def wait(self, bell: Bell, deadline: float | None) -> bool:
        """Wait for `bell`, at most until `deadline`; say whether it rang."""
        return bell.wait(None if deadline is None else deadline - monotonic())


_installed: list[Clock] = [SystemClock()]


def current_clock() -> Clock:
    """Return the clock that a batcher made now should use."""
    return _installed[-1]


def install_clock(clock: Clock) -> None:
    """Make `clock` the choice of every batcher made from now on."""
    _installed.append(clock)


def uninstall_clock(clock: Clock) -> None:
    """Take back one `install_clock`."""
    _installed.remove(clock)
