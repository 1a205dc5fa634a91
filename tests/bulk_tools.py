"""Tools for the tests of bulk runs: a run on a thread of its own, and calls that hang until they may go on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

T = TypeVar("T")
SECONDS = 20.0  # after which a test fails instead of hanging


class Elsewhere(Generic[T]):
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        """Start it."""
        self._call = call
        self._returned: list[T] = []
        self._raised: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._returned.append(self._call())
        except BaseException as error:
            self._raised.append(error)

    @property
    def is_done(self) -> bool:
        """Whether it has returned."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """Return what it returned, or raise what it raised."""
        self._thread.join(SECONDS)
        assert self.is_done, "the call hangs"
        for error in self._raised:
            raise error
        return self._returned[0]


class Hold:
    """A processor some of whose calls hang until they may go on, and that knows who is in it."""

    def __init__(self, *held: Any) -> None:
        """Hang in the calls with these items; without any, in all."""
        self._held = held
        # Guards: begun, inside, most. Notified when: one of them changes.
        self._changed = threading.Condition()
        self.begun: list[Any] = []
        self.inside = self.most = 0
        self.may_go = threading.Event()
        self.threads: set[threading.Thread] = set()

    def __enter__(self) -> Self:
        """Hold."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let all go."""
        self.may_go.set()

    def __call__(self, item: Any) -> Any:
        """Return the item, maybe later."""
        with self._changed:
            self.begun.append(item)
            self.threads.add(threading.current_thread())
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._changed.notify_all()
        try:
            if not self._held or item in self._held:
                assert self.may_go.wait(SECONDS)
        finally:
            with self._changed:
                self.inside -= 1
                self._changed.notify_all()
        return item

    def wait_for(self, count: int) -> None:
        """Return when so many calls have begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= count, SECONDS), self.begun

    def wait_for_inside(self, count: int) -> None:
        """Return when so many calls are at it."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.inside == count, SECONDS), self.inside


def becomes(predicate: Callable[[], bool]) -> None:
    """Return when the predicate holds, which other threads see to without telling anybody."""
    pause = threading.Event()
    for _ in range(5000):
        if predicate():
            return
        pause.wait(0.002)
    raise AssertionError("it never came true")
