"""Eight threads at the same futures at once: each ends once, and everybody hears of it."""

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, as_completed, wait
from contextlib import ExitStack
from typing import Any

from tests.lone_owner import LoneOwner, meanwhile

COUNT = 400


class Storm:
    """What each thread does to the futures, and what it saw."""

    def __init__(self) -> None:
        """Make the futures."""
        self.owner = LoneOwner()
        self.futures = self.owner.futures(COUNT)
        self.start = threading.Barrier(8)
        self.settled: list[Future[Any]] = []
        self.cancelled: list[Future[Any]] = []
        self.called_back: list[Future[Any]] = []
        self.answers: list[tuple[Future[Any], object]] = []
        self.awaited: list[set[Future[Any]]] = []

    def settle(self) -> None:
        """Settle batch after batch, each future with its own answer."""
        for begin in range(0, COUNT, 20):
            batch = self.futures[begin : begin + 20]
            self.settled += self.owner.settle_all([(future, id(future)) for future in batch])

    def cancel(self) -> None:
        """Cancel from the other end what isn't settled yet."""
        self.cancelled += [future for future in self.futures[::-3] if future.cancel()]

    def read(self) -> None:
        """Wait for one after another."""
        for future in self.futures:
            try:
                self.answers.append((future, future.result(20)))
            except CancelledError:
                self.answers.append((future, None))

    def call_back(self) -> None:
        """Put a callback on each."""
        for future in self.futures:
            future.add_done_callback(self.called_back.append)

    def wait(self) -> None:
        """Wait for the first of some, then for all in another order than anybody else."""
        for begin in range(0, COUNT, 50):
            assert wait(self.futures[begin : begin + 50], 20, FIRST_COMPLETED).done
        self.awaited.append(wait(self.futures[::-1], 20).done)

    def complete(self) -> None:
        """Take them as they end."""
        futures: list[Future[Any]] = [*self.futures]
        self.awaited.append(set(as_completed(futures, 20)))

    def at_once(self, part: Callable[[], None]) -> Callable[[], bool]:
        """Return the part as a call that begins with all others."""

        def run() -> bool:
            self.start.wait(10)
            part()
            return True

        return run


def test_storm() -> None:
    """Settled, cancelled, waited for in every way and called back at once, every future ends exactly once."""
    storm = Storm()
    parts = (
        storm.settle,
        storm.cancel,
        storm.read,
        storm.read,
        storm.call_back,
        storm.wait,
        storm.wait,
        storm.complete,
    )
    with ExitStack() as threads:
        ends = [threads.enter_context(meanwhile(storm.at_once(part))) for part in parts]

    everyone = set(storm.futures)
    assert ends == [[True]] * 8
    assert storm.owner.callback_errors == []
    assert len(storm.settled) + len(storm.cancelled) == COUNT
    assert set(storm.settled) | set(storm.cancelled) == everyone
    assert len(storm.called_back) == COUNT
    assert set(storm.called_back) == everyone
    assert len(storm.answers) == 2 * COUNT
    assert all(answer == (None if future.cancelled() else id(future)) for future, answer in storm.answers)
    assert storm.awaited == [everyone] * 3
