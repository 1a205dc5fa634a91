"""Row 18 of the faults where items share places, wait for retries, or have blocked callers.

As `test_faults_reentry`: one operation again and again, interrupted at one place after another.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Retry
from batcher._flights import is_joinable
from tests.interruptions import at_each_place
from tests.test_faults_reentry import PATIENCE, Scene, add_and_flush, add_put_status_cancel, close, ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher import BatcherStatus


def first_word(item: object) -> str:
    """Return the key that many items have in common."""
    return str(item).strip("('").partition(" ")[0].partition("'")[0]


@dataclass
class SharedScene(Scene):
    """A scene whose items share places; at first they wait in the queue, in the handler, or for a retry."""

    where: str = "queue"
    go: threading.Event = field(default_factory=threading.Event)
    calls: int = 0

    def __post_init__(self) -> None:
        """Add the items, and have them come to where they are to wait."""
        if "cache" in self.options:
            self.options = {**self.options, "cache": dict(self.options["cache"])}  # one for each run
        super().__post_init__()
        line = self.batcher._line
        if self.where != "queue":
            self.batcher.resume()
            while not (self.calls if self.where == "handler" else line.queue.held.size):
                pass
        if self.where != "handler":
            self.go.set()

    def handle(self, items: list[Any]) -> Any:
        """Record what arrives; fail as long as items are to wait for a retry."""
        self.calls += 1
        if self.where == "retry" and not self.go.is_set():
            raise OSError("down")
        if self.where == "handler":
            assert self.go.wait(PATIENCE)
        self.delivered += items
        return [None if item == "later" else first_word(item) for item in items]

    def check_batcher(self) -> None:
        """Let the handler go on; then look as ever."""
        self.go.set()
        super().check_batcher()
        queue = self.batcher._line.queue
        assert (queue.extra, queue.blocked, queue.held.size) == (0, 0, 0)
        # A place may be left if Ctrl-C hits the look at the key, but nobody comes to share it.
        assert queue.flights is None or not any(map(is_joinable, queue.flights._places.values()))

    def check_delivery(self, status: BatcherStatus) -> None:
        """No item was delivered twice, and each caller has the result of its own key, or an end of its own."""
        assert len(self.delivered) == len(set(self.delivered)) <= status.succeeded
        for item, future in zip(self.items, self.futures, strict=True):
            if not future.cancelled() and future.exception(0) is None:
                assert future.result(0) == first_word(item)

    @property
    def items(self) -> list[str]:
        """The items that waited from the beginning."""
        return [f"waiting {number}" for number in range(self.waiting)]


def wait_a_moment(scene: Scene) -> None:
    """Block for a result that doesn't come in time."""
    scene.futures[0].result(0.001)


def add_and_wait(scene: Scene) -> None:
    """Block for a result that comes because somebody blocks."""
    assert scene.batcher.add("new").result(PATIENCE) in ("new", None)


def let_go_and_flush(scene: Scene) -> None:
    """Add and flush; the handler doesn't hang."""
    assert isinstance(scene, SharedScene)
    scene.go.set()
    add_and_flush(scene)


def let_go_and_close(scene: Scene) -> None:
    """Close; the handler doesn't hang."""
    assert isinstance(scene, SharedScene)
    scene.go.set()
    close(scene)


def cancel_all(scene: Scene) -> None:
    """Cancel all who share."""
    for future in scene.futures:
        future.cancel()


SHARED: dict[str, Any] = {"dedup_key": first_word}
SMALL: dict[str, Any] = {**SHARED, "max_pending": 3}
RETRIED: dict[str, Any] = {"retry": Retry(attempts=None, delay=0.005, max_delay=0.005, jitter="none")}
ADAPTIVE: dict[str, Any] = {"max_delay": None, "adaptive": True}


@dataclass(frozen=True)
class Operation:
    """One call of the library, and what it is made on."""

    call: Callable[[Scene], object]
    options: dict[str, Any]
    waiting: int = 3
    where: str = "queue"


OPERATIONS = {
    "first of a key": Operation(lambda scene: scene.batcher.add("new"), SHARED),
    "first of all": Operation(lambda scene: scene.batcher.add("new"), SHARED, waiting=0),
    "follower of what waits": Operation(lambda scene: scene.batcher.add("waiting too"), SHARED),
    "put that follows": Operation(lambda scene: scene.batcher.put("waiting too"), SHARED),
    "follower of what runs": Operation(lambda scene: scene.batcher.add("waiting too"), SHARED, where="handler"),
    "follower of a retry": Operation(lambda scene: scene.batcher.add("waiting too"), SHARED | RETRIED, where="retry"),
    "follower with a deadline": Operation(lambda scene: scene.batcher.add("waiting too", timeout=60), SHARED),
    "follower with a batch key": Operation(
        lambda scene: scene.batcher.add("waiting too"), {**SHARED, "batch_key": first_word}
    ),
    "add_many that shares": Operation(
        lambda scene: scene.batcher.add_many(["new 1", "waiting too", "new 2"]), {**SHARED, "max_pending": 100}
    ),
    "hit": Operation(lambda scene: scene.batcher.add("known"), {**SHARED, "cache": {"known": "known"}}),
    "add_many with hits": Operation(
        lambda scene: scene.batcher.add_many(["new", "known", "waiting too"]),
        {**SHARED, "cache": {"known": "known"}, "max_pending": 100},
    ),
    "follower refused": Operation(lambda scene: scene.batcher.add("waiting too"), {**SMALL, "overflow": "raise"}),
    "follower that drops the oldest": Operation(
        lambda scene: scene.batcher.add("waiting too"), {**SMALL, "overflow": "drop_oldest"}
    ),
    "first that drops the oldest": Operation(
        lambda scene: scene.batcher.add("new"), {**SMALL, "overflow": "drop_oldest"}
    ),
    "follower that is dropped": Operation(
        lambda scene: scene.batcher.add("waiting too"), {**SMALL, "overflow": "drop_newest"}
    ),
    "cancel of the leader": Operation(lambda scene: scene.futures[0].cancel(), SHARED),
    "cancel of a follower": Operation(lambda scene: scene.futures[2].cancel(), SHARED),
    "cancel of the last": Operation(lambda scene: scene.futures[0].cancel(), SHARED, waiting=1),
    "cancel of all who share": Operation(cancel_all, SHARED),
    "cancel of who runs": Operation(lambda scene: scene.futures[0].cancel(), SHARED, where="handler"),
    "status with places": Operation(lambda scene: scene.batcher.status(), SHARED),
    "flush with places": Operation(lambda scene: scene.batcher.flush(PATIENCE), SHARED),
    "close with places": Operation(lambda scene: scene.batcher.close(PATIENCE), SHARED),
    "close without draining, with places": Operation(lambda scene: scene.batcher.close(PATIENCE, drain=False), SHARED),
    "close in no time, with places": Operation(lambda scene: scene.batcher.close(0), SHARED),
    "flush with retries": Operation(lambda scene: scene.batcher.flush(PATIENCE), RETRIED, where="retry"),
    "close with retries": Operation(lambda scene: scene.batcher.close(PATIENCE), RETRIED, where="retry"),
    "close in no time, with retries": Operation(lambda scene: scene.batcher.close(0), RETRIED, where="retry"),
    "close in no time, with places and retries": Operation(
        lambda scene: scene.batcher.close(0), SHARED | RETRIED, where="retry"
    ),
    "close without draining, with retries": Operation(
        lambda scene: scene.batcher.close(PATIENCE, drain=False), SHARED | RETRIED, where="retry"
    ),
    "wait for what doesn't come": Operation(wait_a_moment, ADAPTIVE),
    "wait for a place that doesn't come": Operation(wait_a_moment, {**ADAPTIVE, **SHARED}),
    "wait for what comes": Operation(add_and_wait, ADAPTIVE, waiting=0),
    "wait for a place that comes": Operation(add_and_wait, {**ADAPTIVE, **SHARED}, waiting=0),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    "act",
    [
        ctrl_c,
        pytest.param(add_put_status_cancel, marks=pytest.mark.stress),
        pytest.param(let_go_and_flush, marks=pytest.mark.stress),
        pytest.param(let_go_and_close, marks=pytest.mark.stress),
    ],
)
def test_row_18_anything_may_come_on_top_of_a_policy(name: str, act: Callable[[Scene], object]) -> None:
    """Whatever interrupts the library, wherever it does: no deadlock, no lock held, each item ends exactly once."""
    operation = OPERATIONS[name]
    places = at_each_place(
        lambda place: SharedScene(operation.options, operation.waiting, where=operation.where).run(
            operation.call, act, place
        ),
        seconds=50.0,
    )

    assert places > 3
