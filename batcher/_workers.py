"""Daemon threads that run handler calls.

An Executor of our own, because `ThreadPoolExecutor` can't do three things that a batcher promises: its
threads are joined when the interpreter exits, so that one hung handler would hold the exit up for ever;
it refuses work from then on, which is when a batcher has its last batches to send; and it has no way to
give up a thread that hangs and put another in its place.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from batcher import _reentry
from batcher._clock import Bell

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._reentry import Token

P = ParamSpec("P")
T = TypeVar("T")


class _Worker:
    """One thread, and the job that waits for it."""

    __slots__ = ("bell", "job", "thread")

    def __init__(self) -> None:
        self.bell = Bell()
        self.job: Callable[[], object] | None = None
        self.thread: threading.Thread | None = None


class DaemonPool(Executor):
    """As many daemon threads as there are jobs at once, kept for the next ones.

    The caller bounds how many run at once. A job that hangs simply keeps its thread; the next job gets
    another.

    Thread safety: `start` and `submit` may be called from any thread.
    """

    def __init__(self, name: str, token: Token) -> None:
        """Name the threads `batcher-<name>-worker-<n>`; they are `token`'s own for their whole life."""
        self._name = name
        self._token = token
        # Guards: _idle, _started, _is_shut_down, and each idle worker's job.
        self._lock = threading.Lock()
        self._idle: deque[_Worker] = deque()
        self._threads: list[threading.Thread] = []
        self._started = 0
        self._is_shut_down = False

    def start(self, job: Callable[[], object]) -> None:
        """Run `job`, which must raise nothing, on a thread of its own.

        Raises:
            RuntimeError: The pool is shut down, or no thread can be started.
        """
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("the pool is shut down")
            worker = self._idle.pop() if self._idle else None
            if worker is not None:
                worker.job = job
            self._started += worker is None
            number = self._started
        if worker is not None:
            worker.bell.ring()
            return
        worker = _Worker()
        worker.job = job
        # Daemon: a hung handler must not hold up the exit; whoever closes the batcher waits for the
        # batches, not for the threads. Its loop ends at `shutdown`. After a fork it isn't there, and
        # neither is this pool: the child makes its own. The context is empty on every Python version,
        # so that no caller's context serves other callers' items.
        worker.thread = threading.Thread(
            target=contextvars.Context().run,
            args=(self._work, worker),
            name=f"batcher-{self._name}-worker-{number}",
            daemon=True,
        )
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive() or thread.ident is None]
            self._threads.append(worker.thread)
        try:
            worker.thread.start()
        except RuntimeError:
            with self._lock:
                self._threads.remove(worker.thread)
            raise

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn(*args, **kwargs)` on a thread of its own, as any Executor."""
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is the caller's, through the future
                future.set_exception(error)
            else:
                future.set_result(result)

        self.start(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """End the threads once their jobs are done; `wait` joins them, hung ones as well."""
        with self._lock:
            self._is_shut_down = True
            idle, self._idle = self._idle, deque()
            threads = list(self._threads)
        for worker in idle:
            worker.bell.ring()
        if wait:
            for thread in threads:
                thread.join()

    def forget(self) -> None:
        """Be the pool of a parent process: there are no threads, and nobody holds the lock."""
        self._lock = threading.Lock()
        self._idle.clear()
        self._threads = []
        self._is_shut_down = True

    def threads(self) -> list[threading.Thread]:
        """Return the threads that haven't ended."""
        return [thread for thread in self._threads if thread.is_alive()]

    def _work(self, worker: _Worker) -> None:
        """Run jobs until the pool is shut down."""
        _reentry.here.running = (self._token,)
        while (job := worker.job) is not None:
            worker.job = None
            job()
            del job  # an idle worker keeps no batch alive
            with self._lock:
                if self._is_shut_down:
                    return
                self._idle.append(worker)
            worker.bell.wait()
