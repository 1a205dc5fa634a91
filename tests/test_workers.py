"""Worker threads are made when needed, kept for the next job, and hold up nobody."""

import contextvars
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future

import pytest

from batcher import _reentry
from batcher._workers import DaemonPool

TOKEN = _reentry.new_token()


@pytest.fixture(name="pool")
def _pool() -> Iterator[DaemonPool]:
    """A pool whose threads end with the test."""
    pool = DaemonPool("sensors", TOKEN)
    yield pool
    pool.shutdown()


class Gate:
    """A job that says when it has begun, and ends when it may."""

    def __init__(self) -> None:
        """Stay shut."""
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        """Note the thread, and wait."""
        self.thread = threading.current_thread()
        self.begun.set()
        assert self.may_end.wait(20)

    def enter(self, pool: DaemonPool) -> None:
        """Start the job, and return when it runs."""
        pool.start(self)
        assert self.begun.wait(10)


def idle(pool: DaemonPool, count: int) -> None:
    """Return when so many workers wait for a job."""
    pause = threading.Event()
    for _ in range(5000):
        if len(pool._idle) == count:
            return
        pause.wait(0.002)
    pytest.fail(f"{len(pool._idle)} idle workers, not {count}")


def test_no_thread_without_a_job(pool: DaemonPool) -> None:
    """A pool starts nothing by itself."""
    assert pool.threads() == []


def test_job_runs_on_a_named_daemon(pool: DaemonPool) -> None:
    """A job runs on a thread that says whose it is, and that no exit waits for."""
    thread = pool.submit(threading.current_thread).result(10)

    assert thread is not threading.current_thread()
    assert thread.name == "batcher-sensors-worker-1"
    assert thread.daemon
    assert pool.threads() == [thread]


def test_idle_thread_takes_the_next_job(pool: DaemonPool) -> None:
    """Jobs one after another share one thread."""
    threads = set()
    for _ in range(5):
        threads.add(pool.submit(threading.current_thread).result(10))
        idle(pool, 1)

    assert len(threads) == 1


def test_job_that_hangs_holds_up_no_other(pool: DaemonPool) -> None:
    """A job that doesn't end keeps its thread; the next one gets another at once."""
    hung = Gate()
    hung.enter(pool)

    other = pool.submit(threading.current_thread).result(10)
    assert other is not hung.thread
    assert other.name == "batcher-sensors-worker-2"
    hung.may_end.set()


def test_as_many_threads_as_jobs_at_once(pool: DaemonPool) -> None:
    """Jobs that need each other all run."""
    barrier = threading.Barrier(6)
    futures = [pool.submit(barrier.wait, 10) for _ in range(6)]

    assert sorted(future.result(10) for future in futures) == list(range(6))
    assert len(pool.threads()) == 6


def test_context_of_a_job_is_empty(pool: DaemonPool) -> None:
    """No job sees the context variables of who started it, nor those that an earlier thread was made with."""
    user = contextvars.ContextVar("user", default="nobody")
    user.set("first caller")

    assert pool.submit(user.get).result(10) == "nobody"


def test_thread_is_its_batchers_own(pool: DaemonPool) -> None:
    """Whatever runs on a worker, between its jobs as well, runs for the batcher."""
    assert pool.submit(lambda: _reentry.here.running).result(10) == (TOKEN,)


def test_is_an_executor(pool: DaemonPool) -> None:
    """It can be lent where any Executor goes."""
    assert isinstance(pool, Executor)
    assert list(pool.map(pow, [2, 3], [5, 2])) == [32, 9]
    assert pool.submit(lambda *args, **kwargs: (args, kwargs), 1, fn=2, self=3).result(10) == (
        (1,),
        {"fn": 2, "self": 3},
    )


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_error_of_a_job_is_its_futures(pool: DaemonPool, error: type[BaseException]) -> None:
    """Whatever a submitted call raises reaches its future, and the thread takes the next one."""

    def fail() -> None:
        raise error("bad")

    assert type(pool.submit(fail).exception(10)) is error
    idle(pool, 1)
    assert pool.submit(int, "7").result(10) == 7
    assert len(pool.threads()) == 1


def test_cancelled_job_is_not_run(pool: DaemonPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A future that was cancelled before its thread came to it stays so, and nothing is called."""
    jobs: list[Callable[[], object]] = []
    called: list[int] = []
    monkeypatch.setattr(pool, "start", jobs.append)
    future = pool.submit(called.append, 1)

    assert future.cancel()
    jobs[0]()
    with pytest.raises(CancelledError):
        future.result(0)
    assert called == []


def test_idle_thread_keeps_no_job_alive(pool: DaemonPool) -> None:
    """What a job held is freed with the job, although its thread stays, without the garbage collector."""

    class Payload:
        pass

    gc.disable()
    try:
        payload = Payload()
        seen = weakref.ref(payload)
        pool.submit(id, payload).result(10)
        del payload
        idle(pool, 1)

        assert seen() is None
    finally:
        gc.enable()


def test_shutdown_refuses_jobs_and_ends_idle_threads(pool: DaemonPool) -> None:
    """After it nothing starts any more, and idle threads end; a second one does nothing."""
    pool.submit(int).result(10)
    idle(pool, 1)
    (thread,) = pool.threads()
    pool.shutdown()
    pool.shutdown()

    assert not thread.is_alive()
    assert pool.threads() == []
    with pytest.raises(RuntimeError, match="shut down"):
        pool.start(int)
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(int)


def test_shutdown_waits_for_running_jobs_where_asked(pool: DaemonPool) -> None:
    """With `wait` it returns when the last job has ended, without it at once; the threads end either way."""
    gate = Gate()
    gate.enter(pool)
    pool.shutdown(wait=False)
    assert gate.thread is not None
    assert gate.thread.is_alive()

    waiting = threading.Thread(target=pool.shutdown)
    waiting.start()
    gate.may_end.set()
    waiting.join(10)
    assert not waiting.is_alive()
    assert not gate.thread.is_alive()


def test_thread_that_cannot_be_started_leaves_nothing_behind(pool: DaemonPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread left the caller hears so; the pool goes on, and can be shut down."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                pool.start(int)

    assert pool._threads == []
    assert pool.submit(int, "7").result(10) == 7
    pool.shutdown()


def test_ended_threads_are_forgotten(pool: DaemonPool) -> None:
    """The list of threads holds none that has ended, however many there were."""
    gates = [Gate() for _ in range(3)]
    for gate in gates:
        gate.enter(pool)
    pool.shutdown(wait=False)
    for gate in gates:
        gate.may_end.set()
    pool.shutdown()

    assert pool.threads() == []


def test_forgotten_pool_is_the_parents(pool: DaemonPool) -> None:
    """In a forked child the pool has no threads, waits for none, and takes no job, whoever held its lock."""
    pool.submit(int).result(10)
    idle(pool, 1)
    workers, threads = list(pool._idle), pool.threads()
    pool._lock.acquire()
    pool.forget()

    assert pool.threads() == []
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.start(int)
    for worker in workers:  # here, unlike in a child, the threads are still there
        worker.bell.ring()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_many_callers_at_once(pool: DaemonPool) -> None:
    """Eight threads that submit at once lose no job, and run none twice."""
    start = threading.Barrier(8)
    ran: list[int] = []
    futures: list[Future[None]] = []

    def submit(base: int) -> None:
        start.wait(10)
        for number in range(50):
            futures.append(pool.submit(ran.append, base * 50 + number))
            futures[-1].result(10)

    threads = [threading.Thread(target=submit, args=(base,)) for base in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert all(future.done() for future in futures)
    assert sorted(ran) == list(range(400))
