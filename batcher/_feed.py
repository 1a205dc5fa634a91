"""Reading the input of a bulk run: lazily, a batch at a time, on the caller's own thread.

The caller's thread, because an input may be bound to it, as the cursor of a database is. Never further
ahead than it must: a batch is read when there is a place for it. With a priority the places for the
batches that don't run yet are a window, out of which the best go first.
"""

from __future__ import annotations

import inspect
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from batcher._job import Batch
from batcher._result import FailedItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from batcher._bulk_settings import BulkSettings
    from batcher._checkpoint import Checkpoint
    from batcher._clock import Clock
    from batcher._control import Control
    from batcher._progress import Books

# Input index, item, key, and what its key or its priority failed with.
_Entry = tuple[int, Any, str | None, BaseException | None]


# Seconds for which an input may be read without a look whether somebody stops the run.
_QUICK = 0.001


class Feed:
    """The input of one run; used by one thread.

    Attributes:
        error: What the input raised, if it did.
        places: How many batches may be under way at once.
    """

    def __init__(
        self,
        items: Iterable[Any],
        settings: BulkSettings,
        books: Books,
        checkpoint: Checkpoint | None,
        *,
        control: Control,
        clock: Clock,
    ) -> None:
        """Read nothing yet; nothing more once `control` stops the run.

        Raises:
            TypeError: `items` isn't iterable.
        """
        self.error: BaseException | None = None
        self._source = items
        self._iterator: Iterator[Any] = iter(items)
        self._size = settings.batch_size
        self._books = books
        self._control = control
        self._clock = clock
        self._stride = 1  # how much an input has shown that it gives at once
        self._checkpoint = checkpoint
        self._item_key = settings.item_key
        self._priority = settings.priority
        self._is_sized = hasattr(items, "__len__")
        self._ahead = settings.batch_size * (settings.max_concurrent + 1)
        # With a priority the window takes one place: what is in a batch can't be overtaken any more.
        self.places = settings.max_concurrent + (self._priority is None)
        self._window: list[_Entry] = []
        self._ranked: list[tuple[Any, _Entry]] = []
        self._refused: list[_Entry] = []
        self._is_plain = self._item_key is None and self._priority is None

    def next_batch(self, open_items: int) -> Batch | None:
        """Return the next batch, or None at the end of the input.

        Args:
            open_items: How many items are under way; they count as read ahead.

        Raises:
            BaseException: What the input raises and is no Exception, Ctrl-C for one.
        """
        if self._is_plain:
            first = self._books.read
            items = self._read(self._size)
            return Batch(items, range(first, first + len(items))) if items else None
        if self._priority is None:
            while len(self._window) < self._size and self._read_keyed(self._size - len(self._window)):
                pass
            entries, self._window = self._window, []
        else:
            entries = self._best(self._priority, open_items)
        return _batch_of(entries, has_keys=self._item_key is not None) if entries else None

    def close(self) -> None:
        """Close the input if it is a generator: it may hold files or connections open."""
        if inspect.isgenerator(self._source):
            self._source.close()

    def _read(self, count: int) -> list[Any]:
        """Read so many items, fewer at the end of the input."""
        items: list[Any] = []
        try:
            while len(items) < count and not (self._books.is_read or self._control.is_stopping):
                self._read_some(items, count)
        except Exception as error:  # noqa: BLE001 - the input's; raised when all that was read is done
            self.error = error
            self._books.is_read = True
        self._books.read += len(items)
        return items

    def _read_some(self, items: list[Any], count: int) -> None:
        """Read on, but not for long: a stop must not wait until a slow input has filled a batch."""
        began = self._clock.monotonic()
        wanted = count - len(items)
        if not self._is_sized:
            wanted = min(wanted, self._stride)
        goal = len(items) + wanted
        items.extend(islice(self._iterator, wanted))  # what was read before an error stays in the list
        if len(items) < goal:
            self._books.is_read = True
        is_quick = self._clock.monotonic() - began < _QUICK
        self._stride = min(self._stride * 2, self._size) if is_quick else 1

    def _read_keyed(self, count: int) -> bool:
        """Read so many items into the window, but for those that the checkpoint has; say whether there were any."""
        first = self._books.read
        items = self._read(count)
        entries = [self._entry(first + i, item) for i, item in enumerate(items)]
        if self._checkpoint is not None:
            done = self._checkpoint.done([key for _, _, key, _ in entries if key is not None])
            self._books.skipped += sum(key in done for _, _, key, _ in entries)
            entries = [entry for entry in entries if entry[2] not in done]
        self._window += entries
        return bool(items)

    def _entry(self, index: int, item: object) -> _Entry:
        if self._item_key is None:
            return index, item, None, None
        try:
            return index, item, _checked_key(self._item_key, item), None
        except Exception as error:  # noqa: BLE001 - a key function that raises fails its item alone
            return index, item, None, error

    def _best(self, priority: Callable[[Any], Any], open_items: int) -> list[_Entry]:
        """Return the items of highest priority out of all that may be read ahead."""
        while (room := self._ahead - len(self._ranked) - len(self._refused) - open_items) > 0 or self._is_sized:
            count = self._size if self._is_sized else room
            is_more = self._read_keyed(count)
            self._rank(priority)
            if not is_more:
                break
        try:
            # Stable, also in reverse: equal ones stay in the order of the input.
            self._ranked.sort(key=itemgetter(0), reverse=True)
        except Exception as error:  # noqa: BLE001 - priorities that can't be compared are an error of the input
            self.error = self.error or error
            self._books.is_read = True
        # What has failed already waits for nothing.
        best = self._refused[: self._size]
        del self._refused[: self._size]
        room = self._size - len(best)
        best += [entry for _, entry in self._ranked[:room]]
        del self._ranked[:room]
        return best

    def _rank(self, priority: Callable[[Any], Any]) -> None:
        """Ask for the priority of what is in the window."""
        for index, item, key, error in self._window:
            try:
                if error is None:
                    self._ranked.append((priority(item), (index, item, key, None)))
                    continue
            except Exception as raised:  # noqa: BLE001 - a priority that raises fails its item alone
                error = raised  # noqa: PLW2901
            self._refused.append((index, item, key, error))
        self._window = []


def _checked_key(item_key: Callable[[Any], str], item: object) -> str:
    """Return the item's key.

    Raises:
        TypeError: It is no str.
        ValueError: It can't be written as UTF-8.
    """
    key: object = item_key(item)
    if not isinstance(key, str):
        raise TypeError(f"item_key must return a str, got a {type(key).__name__}")
    key.encode()
    return str(key)


def _batch_of(entries: Sequence[_Entry], *, has_keys: bool) -> Batch:
    """Return a batch in which those items have failed that have no key or no priority."""
    keys = [entry[2] or "" for entry in entries] if has_keys else None
    batch = Batch([entry[1] for entry in entries], [entry[0] for entry in entries], keys)
    for position, (_, item, _, error) in enumerate(entries):
        if error is not None:
            batch.refuse(position, FailedItem(item, error, 0))
    return batch
