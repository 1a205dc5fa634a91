"""What the behaviour tests of `Batcher` share: batchers that are closed whatever happens, parts that follow a script.

A test module that uses the fixtures gives them names of its own: `clock, make = stage.clock, stage.make`.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar

import pytest

from batcher import Batcher, BatcherStatus
from batcher.testing import FakeClock, RecordingHandler

P = ParamSpec("P")
R = TypeVar("R")

# No test waits this long unless it fails; long enough for a loaded machine.
PATIENCE = 5.0


class HeldHandler(RecordingHandler):
    """A handler whose calls don't return before they are let go."""

    def __init__(self, answer: Callable[[list[Any]], object] | None = None) -> None:
        super().__init__(self._hold)
        self._final = answer
        self._go = threading.Event()

    def _hold(self, items: list[Any]) -> Any:
        assert self._go.wait(4 * PATIENCE)
        return None if self._final is None else self._final(items)

    def let_go(self) -> None:
        """Let every call return, those to come included."""
        self._go.set()


class Maker(Protocol):
    """What makes the batchers of a test."""

    def __call__(self, handler: Callable[[list[Any]], object] | None = None, **options: Any) -> Batcher[Any, Any]:
        """Make a batcher that the end of the test closes."""
        ...


@pytest.fixture
def make() -> Iterator[Maker]:
    """Make batchers; at the end close them, whatever state they are in, and see that each one's counts add up."""
    made: list[tuple[Batcher[Any, Any], Any]] = []

    def make_batcher(handler: Any = None, **options: Any) -> Batcher[Any, Any]:
        batcher: Batcher[Any, Any] = Batcher(handler, **options)
        made.append((batcher, handler))
        return batcher

    yield make_batcher
    for _, handler in made:
        if isinstance(handler, HeldHandler):
            handler.let_go()
    for batcher, _ in made:
        batcher.close(0)
        assert adds_up(batcher.status())


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Have the batchers of a test run on a clock that only the test moves."""
    with FakeClock() as fake:
        yield fake


def adds_up(status: BatcherStatus) -> bool:
    """Say whether every accepted item is somewhere, and only there."""
    ended = status.succeeded + status.failed + status.cancelled + status.expired + status.dropped
    return status.accepted == status.pending + status.processing + ended


def endings(status: BatcherStatus) -> dict[str, int]:
    """Return the ways in which items ended, those without an item left out."""
    names = ("succeeded", "failed", "cancelled", "expired", "dropped", "refused")
    return {name: count for name in names if (count := getattr(status, name))}


def elsewhere(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """Make a call on a thread of its own."""
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(call(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def put_all(batcher: Batcher[Any, Any], items: Iterable[object]) -> None:
    """Put one item after another."""
    for item in items:
        batcher.put(item)


def flusher_of(batcher: Batcher[Any, Any]) -> threading.Thread:
    """Return the batcher's background thread."""
    post = batcher._line.post
    assert post is not None
    assert post.thread is not None
    return post.thread


class ScriptedLock:
    """A batcher's lock that, once, runs a script right after a thread, by default this one, has released it."""

    def __init__(
        self, batcher: Batcher[Any, Any], script: Callable[[], object], thread: threading.Thread | None = None
    ) -> None:
        self._real = batcher._line.lock
        self._thread = thread or threading.current_thread()
        self._script: Callable[[], object] | None = script
        batcher._line.lock = self  # type: ignore[assignment]

    def acquire(self) -> bool:
        """Acquire the real lock."""
        return self._real.acquire()

    def release(self) -> None:
        """Release the real lock, then run the script if it is time."""
        self._real.release()
        if self._script is not None and threading.current_thread() is self._thread and not self._is_owned():
            script, self._script = self._script, None
            script()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _is_owned(self) -> bool:
        return self._real._is_owned()  # type: ignore[attr-defined, no-any-return]


class ScriptedInbox(deque[Any]):
    """What an `add` on its quick way sees of the inbox: scripts run, once, right before and right after its append."""

    def __init__(
        self,
        batcher: Batcher[Any, Any],
        before: Callable[[], object] = lambda: None,
        after: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__()
        self._real = batcher._line.inbox
        self._scripts: tuple[Callable[[], object], Callable[[], object]] | None = before, after
        batcher._line.inbox = self

    def __len__(self) -> int:
        return len(self._real)

    def append(self, entry: object) -> None:
        """Append to the real inbox, in the midst of the scripts."""
        if self._scripts is None:
            self._real.append(entry)
            return
        (before, after), self._scripts = self._scripts, None
        before()
        self._real.append(entry)
        after()
