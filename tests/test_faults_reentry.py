"""Row 18 of the faults: signal handlers, destructors and Ctrl-C anywhere inside the library's own code.

Each test runs one operation again and again, interrupted at one place after another (see `interruptions`), and
looks each time at what is left: no lock, no wait, no item without an end.
"""

from __future__ import annotations

import threading
from concurrent.futures import ALL_COMPLETED, Future
from concurrent.futures._base import _create_and_install_waiters  # type: ignore[attr-defined]
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Batcher, BatcherClosedError, FlushReport, ReentrantCallError, _reentry
from batcher._clock import Bell
from tests.interruptions import at_each_place, interrupt, press_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher import BatcherStatus

PATIENCE = 2.0  # seconds after which something that should end at once is taken to hang


@dataclass
class Scene:
    """A batcher with items that wait, and everything that must be in order after an interruption."""

    options: dict[str, Any]
    waiting: int
    priorities: tuple[int, ...] = (0,)
    delivered: list[Any] = field(default_factory=list)
    nested: list[Future[Any]] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Add the items that wait; a paused batcher keeps them until a flush or a close."""
        self.batcher: Batcher[Any, Any] = Batcher(self.handle, **{"max_delay": 0.0, **self.options})
        if self.waiting:
            self.batcher.pause()
        self.futures = [
            self.batcher.add(f"waiting {number}", priority=self.priorities[number % len(self.priorities)])
            for number in range(self.waiting)
        ]
        self.bells = [Bell() for _ in self.futures]
        for future, bell in zip(self.futures, self.bells, strict=True):
            future._watched(lambda watch, bell=bell: watch.bells.append(bell))  # type: ignore[attr-defined]
        self.waiter = None
        for future in self.futures[-1:]:
            with future._condition:  # as `concurrent.futures.wait` does
                self.waiter = _create_and_install_waiters([future], ALL_COMPLETED)

    def handle(self, items: list[Any]) -> Any:
        """Record what arrives."""
        self.delivered += items

    def run(self, operation: Callable[[Scene], object], act: Callable[[Scene], object], place: int) -> str | None:
        """Interrupt `operation` at the place of that number, and check what it leaves; return where that was."""
        earlier = threading.excepthook
        threading.excepthook = lambda died: self.deaths.append(f"{died.exc_type.__name__}: {died.exc_value}")
        try:
            where = interrupt(lambda: operation(self), press_ctrl_c if act is ctrl_c else lambda: act(self), place)
            self.check_thread()
            self.check_batcher()
        finally:
            threading.excepthook = earlier
        return where

    def check_thread(self) -> None:
        """The interrupted thread holds no lock, and isn't taken to be in a handler or a wait."""
        assert not self.batcher._line.lock._is_owned()  # type: ignore[attr-defined]
        assert _reentry.here.waits == 0
        assert _reentry.here.running == ()

    def check_batcher(self) -> None:
        """It goes on to work, closes, and every item has ended exactly once."""
        batcher = self.batcher
        batcher.resume()
        if "max_pending" in self.options and batcher.status().state == "open":
            batcher.flush(PATIENCE)  # there must be room for the item to come
        if batcher.status().state == "open":
            assert batcher.add("later").result(PATIENCE) is None
        report = batcher.close(PATIENCE)
        status = batcher.status()
        ended = status.succeeded + status.failed + status.cancelled + status.expired + status.dropped
        assert (self.deaths, report.pending) == ([], 0)
        assert (status.pending, status.processing, status.accepted) == (0, 0, ended), status
        self.check_delivery(status)
        assert all(future.done() for future in self.futures + self.nested)
        assert all(bell.is_rung for bell in self.bells), "a blocked caller was forgotten"
        assert self.waiter is None or self.waiter.event.is_set(), "a caller of wait() was forgotten"
        for future in self.futures + self.nested:
            _ = None if future.cancelled() else future.exception(0)

    def check_delivery(self, status: BatcherStatus) -> None:
        """Each item that succeeded was delivered once."""
        assert len(self.delivered) == len(set(self.delivered)) == status.succeeded


def add_put_status_cancel(scene: Scene) -> None:
    """Do all that a signal handler or a destructor may do anywhere."""
    number = len(scene.nested)
    try:
        scene.nested += [scene.batcher.add(("nested", number)), scene.batcher.add(("cancelled", number))]
        scene.batcher.put(("put", number))
    except BatcherClosedError:
        pass  # the interrupted code had begun to close
    for future in scene.nested[-1:] + scene.futures[:1]:
        future.cancel()
    scene.batcher.status()


def add_with_priorities(scene: Scene) -> None:
    """Do what a signal handler may do, with priorities."""
    try:
        scene.nested += [scene.batcher.add(("high", len(scene.nested)), priority=9) for _ in range(2)]
        scene.batcher.put(("low", len(scene.nested)), priority=-1)
        scene.batcher.put(("plain", len(scene.nested)))
    except BatcherClosedError:
        pass  # the interrupted code had begun to close
    for future in scene.nested[-1:] + scene.futures[:1]:
        future.cancel()
    scene.batcher.status()


def add_and_flush(scene: Scene) -> None:
    """Add and flush; a flush that doesn't refuse must get all through."""
    try:
        scene.nested.append(scene.batcher.add("nested"))
    except BatcherClosedError:
        pass
    finish_or_refuse(lambda: scene.batcher.flush(PATIENCE))


def close(scene: Scene) -> None:
    """Close; a close that doesn't refuse must get all through."""
    finish_or_refuse(lambda: scene.batcher.close(PATIENCE))


def finish_or_refuse(call: Callable[[], FlushReport]) -> None:
    """Expect a flush or a close to finish or to raise ReentrantCallError."""
    try:
        report = call()
    except ReentrantCallError:
        return
    assert report.pending == 0, "it waited for what only the interrupted code can do"


def ctrl_c(scene: Scene) -> None:
    """Stand for the KeyboardInterrupt of Ctrl-C, which the interruption raises itself."""


def pause_and_resume(scene: Scene) -> None:
    """Do what stops and starts the batches."""
    scene.batcher.pause()
    scene.batcher.resume()


def put_and_add_with_a_priority(scene: Scene) -> None:
    """Have bare items in the inbox as the first priority comes."""
    scene.batcher.put("bare")
    scene.batcher.add("new", priority=1)
    scene.batcher.status()


def cancel_all(scene: Scene) -> None:
    """Cancel all that waits."""
    for future in scene.futures:
        future.cancel()


def add_put_and_status(scene: Scene) -> None:
    """Add with priorities, and look."""
    scene.batcher.add("new", priority=2)
    scene.batcher.put("new too")
    scene.batcher.status()


KEYED = {"batch_key": lambda item: item[0]}
WEIGHED = {"weigh": lambda item: 1.0, "max_batch_weight": 2.0}
SMALL = {"max_pending": 3}


@dataclass(frozen=True)
class Operation:
    """One call of the library, and the batcher that it is made on."""

    call: Callable[[Scene], object]
    options: dict[str, Any] = field(default_factory=dict)
    waiting: int = 3
    priorities: tuple[int, ...] = (0,)


OPERATIONS = {
    "first add": Operation(lambda scene: scene.batcher.add("new"), waiting=0),
    "first put": Operation(lambda scene: scene.batcher.put("new"), waiting=0),
    "add on the fast way": Operation(lambda scene: scene.batcher.add("new")),
    "put on the fast way": Operation(lambda scene: scene.batcher.put("new")),
    "add with a deadline": Operation(lambda scene: scene.batcher.add("new", timeout=60)),
    "add with a key": Operation(lambda scene: scene.batcher.add("new"), KEYED),
    "add with a weight": Operation(lambda scene: scene.batcher.add("new"), WEIGHED),
    "put with a key": Operation(lambda scene: scene.batcher.put("new"), KEYED),
    "add_many": Operation(lambda scene: scene.batcher.add_many(["a", "b", "c"]), {"max_pending": 100}),
    "add_many with deadlines": Operation(lambda scene: scene.batcher.add_many(["a", "b"], timeout=60)),
    "first add with a priority": Operation(lambda scene: scene.batcher.add("new", priority=1), waiting=0),
    "add with a priority": Operation(lambda scene: scene.batcher.add("new", priority=1)),
    "add with a priority among others": Operation(
        lambda scene: scene.batcher.add("new", priority=1), priorities=(0, 2, 1)
    ),
    "add without a priority among others": Operation(lambda scene: scene.batcher.add("new"), priorities=(0, 2)),
    "put with a priority": Operation(lambda scene: scene.batcher.put("new", priority=-1)),
    "put without a priority among others": Operation(lambda scene: scene.batcher.put("new"), priorities=(0, 2)),
    "put without a priority, and one that has": Operation(put_and_add_with_a_priority),
    "add with a priority and a key": Operation(lambda scene: scene.batcher.add("new", priority=1), KEYED),
    "add_many with a priority": Operation(
        lambda scene: scene.batcher.add_many(["a", "b"], priority=1), {"max_pending": 300}
    ),
    "add with a priority that drops the oldest": Operation(
        lambda scene: scene.batcher.add("new", priority=1), {**SMALL, "overflow": "drop_oldest"}
    ),
    "cancel among priorities": Operation(lambda scene: scene.futures[1].cancel(), priorities=(0, 2, 1)),
    "cancel of all among priorities": Operation(cancel_all, priorities=(0, 2, 1)),
    "status with priorities": Operation(add_put_and_status, priorities=(0, 2)),
    "flush with priorities": Operation(lambda scene: scene.batcher.flush(PATIENCE), priorities=(0, 2, 1)),
    "flush with priorities and keys": Operation(
        lambda scene: scene.batcher.flush(PATIENCE), KEYED, priorities=(0, 2, 1)
    ),
    "close with priorities": Operation(lambda scene: scene.batcher.close(PATIENCE), priorities=(0, 2, 1)),
    "close without draining, with priorities": Operation(
        lambda scene: scene.batcher.close(PATIENCE, drain=False), priorities=(0, 2, 1)
    ),
    "add refused": Operation(lambda scene: scene.batcher.add("new"), {**SMALL, "overflow": "raise"}),
    "add that drops the oldest": Operation(
        lambda scene: scene.batcher.add("new"), {**SMALL, "overflow": "drop_oldest"}
    ),
    "add that is dropped": Operation(lambda scene: scene.batcher.add("new"), {**SMALL, "overflow": "drop_newest"}),
    "cancel": Operation(lambda scene: scene.futures[1].cancel()),
    "cancel with a key": Operation(lambda scene: scene.futures[1].cancel(), KEYED),
    "cancel of the last": Operation(lambda scene: scene.futures[0].cancel(), waiting=1),
    "status": Operation(lambda scene: scene.batcher.status()),
    "flush": Operation(lambda scene: scene.batcher.flush(PATIENCE)),
    "flush with keys": Operation(lambda scene: scene.batcher.flush(PATIENCE), KEYED),
    "close": Operation(lambda scene: scene.batcher.close(PATIENCE)),
    "close with keys": Operation(lambda scene: scene.batcher.close(PATIENCE), KEYED),
    "close without draining": Operation(lambda scene: scene.batcher.close(PATIENCE, drain=False)),
    "close without draining, with keys": Operation(lambda scene: scene.batcher.close(PATIENCE, drain=False), KEYED),
    "pause and resume": Operation(pause_and_resume),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    "act",
    [
        ctrl_c,
        # Each of these meets every place with threads of its own: a minute and a half in all.
        pytest.param(add_put_status_cancel, marks=pytest.mark.stress),
        pytest.param(add_with_priorities, marks=pytest.mark.stress),
        pytest.param(add_and_flush, marks=pytest.mark.stress),
        pytest.param(close, marks=pytest.mark.stress),
    ],
)
def test_row_18_anything_may_come_on_top_of_anything(name: str, act: Callable[[Scene], object]) -> None:
    """Whatever interrupts the library, wherever it does: no deadlock, no lock held, each item ends exactly once."""
    operation = OPERATIONS[name]
    places = at_each_place(
        lambda place: Scene(operation.options, operation.waiting, operation.priorities).run(operation.call, act, place)
    )

    assert places > 3


@pytest.mark.parametrize("options", [{}, KEYED], ids=["without keys", "with keys"])
@pytest.mark.parametrize("wait", [Batcher.flush, Batcher.close], ids=["flush", "close"])
def test_row_18_call_after_ctrl_c_knows_what_is_left(
    wait: Callable[[Batcher[Any, Any], float], FlushReport], options: dict[str, Any]
) -> None:
    """A flush or close that Ctrl-C ended leaves no item out of the count: the next one waits for all of them."""
    go = threading.Event()

    def hold(items: list[Any]) -> None:
        go.wait(PATIENCE)

    def run(place: int) -> str | None:
        go.clear()
        batcher: Batcher[Any, Any] = Batcher(hold, max_delay=0.0, **options)
        batcher.pause()
        futures = batcher.add_many(["first", "second"])
        try:
            where = interrupt(lambda: wait(batcher, 0.0), press_ctrl_c, place)
            left = sum(not future.done() for future in futures)
            assert batcher.flush(0.0).pending == left
        finally:
            go.set()
            batcher.close(PATIENCE)
        assert all(future.done() for future in futures)
        return where

    assert at_each_place(run) > 20
