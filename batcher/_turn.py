"""A start at a `Throttle` for somebody who must not block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher._places import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._clock import Clock
    from batcher._places import Books, Rings


class _Caller:
    """Somebody who doesn't sleep on a bell."""

    __slots__ = ("_ring",)

    def __init__(self, ring: Callable[[], object]) -> None:
        self._ring = ring

    def ring(self) -> object:
        """Have it look again."""
        return self._ring()


class Turn:
    """One call of somebody who must not block; see `Throttle.turn`.

    From its first refusal to its start or its end it stands in the line, as a thread does that waits. Those
    behind it wait for it: once rung, or at the moment that it was told, it should ask soon, or end. One that
    is dropped ends.

    Thread safety: to be used by one thread at a time.
    """

    __slots__ = ("_ask", "_caller", "_end", "_place", "clock")

    def __init__(
        self,
        books: Books,
        ring: Callable[[], object],
        ask: Callable[[Place, Rings], float | None],
        end: Callable[[Place], None],
        clock: Clock,
    ) -> None:
        """Be a place of nobody's thread, where moments are those of `clock`."""
        self.clock: Clock = clock
        self._place = _new_place(books)
        self._caller = _Caller(ring)
        self._ask = ask
        self._end = end

    def try_start(self) -> float | None:
        """Start the call if it may start now.

        Returns:
            None if it has started, now or before. Else the moment on `clock`, the throttle's, from which on it
            makes sense to ask again, unless it rings before; infinity: not before it rings.

        Raises:
            ReentrantCallError: On top of a call of this throttle that can't be left, where it would have
                to wait.
        """
        return self._ask(self._place, self._caller)

    def end(self) -> None:
        """End the call, or give up waiting for its start; may be repeated, and `try_start` begins anew."""
        place = self._place
        self._end(place)
        self._place = _new_place(place.books)

    def __del__(self) -> None:
        """End: a turn that nobody has any more would keep others from their starts."""
        self._end(self._place)


def _new_place(books: Books) -> Place:
    place = Place(books)
    place.owner = object()  # nobody's: so that no other call passes for one on top of it
    return place
