"""Batches beside Django's database connections and transactions.

`fresh_connections` is for `Batcher(around_batch=fresh_connections)`: Django opens a connection for each
thread that touches a model and closes it at the end of a request, but a batcher's threads never see a
request end. `add_on_commit` and `put_on_commit` are for views that save a row and add its key in one
transaction: before the commit a handler on another thread wouldn't find the row.

Needs the extra `django`.
"""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

try:
    from django.db import connections, transaction
except ImportError as _missing:
    raise ImportError("batcher.contrib.django needs Django: pip install 'thread-batcher[django]'") from _missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from batcher import Batcher

T = TypeVar("T")
R = TypeVar("R")


class _Here(threading.local):
    """The connections of this thread that batches opened and CONN_MAX_AGE lets live, by alias."""

    def __init__(self) -> None:
        self.kept: Mapping[str, object] = {}


_here = _Here()


@contextmanager
def fresh_connections() -> Iterator[None]:
    """Give a handler call usable database connections, and leave none behind that is past its time.

    What Django does before and after a request (`django.db.close_old_connections`) is done before and
    after the batch: with `CONN_MAX_AGE = 0`, Django's default, the handler's thread holds no connection
    between two batches; a connection that lives longer is replaced when it is too old or broken.

    Connections that the thread had open already are not touched. They are the caller's, where the batch
    runs on the caller's own thread as under `batcher.testing.inline()`: closing them would end the
    transaction that a TestCase is in.
    """
    callers = {alias: raw for alias, raw in _open_connections().items() if _here.kept.get(alias) is not raw}
    _close_old(callers)
    try:
        yield
    finally:
        _close_old(callers)
        _here.kept = {alias: raw for alias, raw in _open_connections().items() if callers.get(alias) is not raw}


def add_on_commit(
    batcher: Batcher[T, R], item: T, *, using: str | None = None, timeout: float | None = None
) -> Future[R]:
    """Add `item` once the surrounding transaction is committed; at once where there is none.

    Don't wait for the future inside the transaction: the commit would wait for it, and it for the
    commit. Nobody hears of a failure if nobody asks the future; to forget the item, use
    `put_on_commit`.

    Args:
        batcher: The batcher that gets the item.
        item: The item.
        using: The alias of the database whose commit is waited for. None: the default one.
        timeout: As for `Batcher.add`, counted from the commit.

    Returns:
        A future that follows the item's own one from the commit on. It is cancelled when the transaction
        is rolled back. Where `add` refuses the item, it fails with what `add` raised: the transaction is
        committed by then, and the commit itself must not seem to have failed.
    """
    future: Future[R] = Future()
    transaction.on_commit(_Addition(lambda: batcher.add(item, timeout=timeout), future), using=using)
    return future


def put_on_commit(batcher: Batcher[T, Any], item: T, *, using: str | None = None) -> None:
    """Put `item` once the surrounding transaction is committed; at once where there is none.

    After a rollback the item is forgotten.

    Args:
        batcher: The batcher that gets the item.
        item: The item.
        using: The alias of the database whose commit is waited for. None: the default one.

    Raises:
        BatcherError: From the end of the transaction, which is committed by then, where `put` refuses
            the item.
    """
    transaction.on_commit(lambda: batcher.put(item), using=using)


class _Addition(Generic[R]):
    """Adds when it is called at the commit; Django drops it uncalled at a rollback."""

    def __init__(self, add: Callable[[], Future[R]], future: Future[R]) -> None:
        self._add = add
        self._future = future
        # Django has no hook for a rollback, but nothing else refers to this object.
        self._rolled_back = weakref.finalize(self, _cancel, future)
        self._rolled_back.atexit = False

    def __call__(self) -> None:
        """Add the item, unless its future was cancelled before the commit."""
        follower = self._future
        if follower.cancelled():
            return
        inner = self._added()
        self._rolled_back.detach()
        inner.add_done_callback(lambda done: _follow(follower, done))
        follower.add_done_callback(lambda done: done.cancelled() and inner.cancel())

    def _added(self) -> Future[R]:
        """Return the item's own future, or a failed one where the item is refused."""
        try:
            return self._add()
        except Exception as error:  # noqa: BLE001 - whatever add refuses with belongs to the future
            refused: Future[R] = Future()
            refused.set_exception(error)
            return refused


def _follow(follower: Future[R], done: Future[R]) -> None:
    """Give a future the outcome of another one."""
    if done.cancelled():
        _cancel(follower)
    elif follower.set_running_or_notify_cancel():
        error = done.exception()
        if error is None:
            follower.set_result(done.result())
        else:
            follower.set_exception(error)


def _cancel(future: Future[Any]) -> None:
    """Cancel a future, and tell those who watch it through `concurrent.futures.wait`."""
    future.cancel()
    future.set_running_or_notify_cancel()


def _open_connections() -> dict[str, object]:
    """Return this thread's open connections as the database driver made them, by alias."""
    return {
        wrapper.alias: wrapper.connection
        for wrapper in connections.all(initialized_only=True)
        if wrapper.connection is not None
    }


def _close_old(callers: Mapping[str, object]) -> None:
    """Close this thread's connections that are broken or too old, except the caller's."""
    for wrapper in connections.all(initialized_only=True):
        # Django's hook would take the autocommit mode of an open transaction for a mess left behind.
        if not wrapper.in_atomic_block and callers.get(wrapper.alias) is not wrapper.connection:
            wrapper.close_if_unusable_or_obsolete()
