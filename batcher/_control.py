"""Pause and stop, as the threads of one bulk run see them.

A worker looks at one field between two items, `is_held`; only when that is set does it look further. All
three fields are set by plain assignments from any thread or signal handler; only the conductor takes
`is_held` back, so that no two threads can undo each other's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batcher._clock import Bell, Clock


class Control:
    """What holds the workers of one run.

    Attributes:
        is_held: Whether a worker has to look at the other two before it begins an item.
        is_paused: Nothing new begins for now.
        is_stopping: Nothing new begins any more.
    """

    __slots__ = ("_bell", "is_held", "is_paused", "is_stopping")

    def __init__(self, bell: Bell) -> None:
        """Let everything go on; `bell` is the conductor's."""
        self._bell = bell
        self.is_held = self.is_paused = self.is_stopping = False

    def pause(self) -> None:
        """Begin nothing new, until `resume`."""
        self.is_paused = self.is_held = True
        self._bell.ring()

    def resume(self) -> None:
        """Go on; the conductor wakes the workers."""
        self.is_paused = False
        self._bell.ring()

    def stop(self) -> None:
        """Begin nothing new any more."""
        self.is_stopping = self.is_held = True
        self._bell.ring()

    def settle(self) -> bool:
        """Let workers begin items again if nothing speaks against it; the conductor's alone.

        Returns:
            Whether the workers have to be woken, since something has changed for those who wait.
        """
        was_held = self.is_held
        if was_held and not (self.is_paused or self.is_stopping):
            self.is_held = False
            # Again: a pause or stop between the look and the assignment must not be lost.
            self.is_held = self.is_paused or self.is_stopping
        return was_held and (self.is_stopping or not self.is_paused)

    def may_begin(self, bell: Bell) -> bool:
        """Wait on the worker's `bell` while the run is paused; say whether another item may begin."""
        while not self.is_stopping:
            if not self.is_paused:
                return True
            bell.wait()
        return False

    def rest(self, bell: Bell, clock: Clock, seconds: float) -> bool:
        """Wait so many seconds; say whether another item may begin then."""
        until = clock.monotonic() + seconds
        while not self.is_stopping and clock.monotonic() < until:
            clock.wait(bell, until)
        return self.may_begin(bell)
