"""What happens to items that have ended: they are recorded and folded, or streamed to the caller.

Then their batch is closed, and gives back its place in the read-ahead. All of it is done by the
conductor; the caller takes groups from a deque and looks at the counts.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from batcher._clock import Bell
from batcher._execution import trim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batcher._checkpoint import Checkpoint
    from batcher._collection import Collection
    from batcher._control import Control
    from batcher._job import Batch

# A batch, and which of its items have ended.
Group = tuple["Batch", "Sequence[int]"]


class Delivery:
    """Where the items of one run go when they have ended.

    Attributes:
        bell: Rung when the caller has a reason to look: room, items, the end.
        collection: What the batches that are closed came to, where nobody streams them.
        groups: Items for the caller to take, where it streams them.
        closed: How many batches are closed.
        closed_items: How many items were in them.
        value: What the results are folded into.
        error: What ended the run early, if it wasn't a stop.
    """

    def __init__(
        self,
        control: Control,
        checkpoint: Checkpoint | None,
        reduce: tuple[Callable[[Any, Any], Any], Any] | None,
        collection: Collection,
        *,
        streams: bool,
        is_ordered: bool,
    ) -> None:
        """Have nothing yet; `control` stops the run where it can't go on."""
        self.bell = Bell()
        self.collection = collection
        self.groups: deque[Group] = deque()
        self.closed = self.closed_items = 0
        self._fold: Callable[[Any, Any], Any] | None
        self.value: Any
        self._fold, self.value = reduce or (None, None)
        self.error: BaseException | None = None
        self._control = control
        self._checkpoint = checkpoint
        self._streams = streams
        self._keeps = checkpoint is not None or reduce is not None
        self._is_ordered = is_ordered
        self._open: set[Batch] = set()
        # How many groups of a batch the caller has yet to take; an ordered batch has one from the beginning.
        self._awaited: dict[Batch, int] = {}
        self._held: dict[int, Batch] = {}  # the ordered ones that aren't streamed yet, by number

    @property
    def is_awaited(self) -> bool:
        """Whether there is something that the caller hasn't dealt with."""
        return bool(self._awaited)

    def open(self, batch: Batch) -> None:
        """Expect the items of a batch."""
        self._open.add(batch)
        if self._is_ordered:
            self._held[batch.number] = batch
            self._awaited[batch] = 1

    def deliver(self, batch: Batch, ended: Sequence[int]) -> None:
        """Deal with items that have ended."""
        if self._is_ordered:
            self._stream_next()
        elif self._streams:
            if ended:
                self._awaited[batch] = self._awaited.get(batch, 0) + 1
                self._stream(batch, ended)
        elif self._keeps:
            self._record(batch, ended)
            self._reduce(batch, ended)
        self._close_if_done(batch)

    def conclude(self, batch: Batch, ended: Sequence[int]) -> None:
        """Go on with items that the caller has dealt with."""
        self._record(batch, ended)
        left = self._awaited.pop(batch) - 1
        self._awaited |= {batch: left} if left else {}
        self._close_if_done(batch)

    def stream_rest(self) -> None:
        """In an ordered stream that was stopped, stream what there is of unfinished batches."""
        for number in sorted(self._held):
            batch = self._held.pop(number)
            self._stream(batch, batch.ended())

    def close_all(self) -> None:
        """Close what is left of a run that was stopped."""
        for batch in list(self._open):
            self._close(batch)

    def _stream(self, batch: Batch, ended: Sequence[int]) -> None:
        self.groups.append((batch, ended))
        self.bell.ring()

    def _stream_next(self) -> None:
        """In an ordered stream, stream the batches whose turn it is."""
        while self._held:
            batch = self._held[min(self._held)]
            if batch.unsettled:
                return
            del self._held[batch.number]
            self._stream(batch, range(len(batch.items)))

    def _record(self, batch: Batch, ended: Sequence[int]) -> None:
        """Put the keys of what has succeeded on disk."""
        if self._checkpoint is None or batch.keys is None:
            return
        try:
            self._checkpoint.record([batch.keys[position] for position in ended if position not in batch.failed])
        except BaseException as error:  # noqa: BLE001 - a full disk, say: what can't be recorded must not go on
            self._checkpoint = None
            self.fail(error)

    def _reduce(self, batch: Batch, ended: Sequence[int]) -> None:
        """Fold the results of what has succeeded."""
        if self._fold is None:
            return
        try:
            for position in ended:
                if position not in batch.failed:
                    self.value = self._fold(self.value, batch.results[position])
        except BaseException as error:  # noqa: BLE001 - the user's; without this result the value would be wrong
            self._fold = None
            self.fail(trim(error))

    def fail(self, error: BaseException) -> None:
        """Stop the run, to raise the error when what runs is done."""
        self.error = self.error or error
        self._control.stop()

    def _close_if_done(self, batch: Batch) -> None:
        if not batch.unsettled and batch not in self._awaited:
            self._close(batch)

    def _close(self, batch: Batch) -> None:
        """Give back the batch's place."""
        self._open.discard(batch)
        if not self._streams:
            self.collection.add(batch)
        self.closed_items += len(batch.items)
        self.closed += 1
        self.bell.ring()
