"""Minutes of everything at once. Off by default: `make stress`, for BATCHER_STRESS_SECONDS (120) seconds in all."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from batcher import Batcher, ForkedError, batched
from tests.forks import in_child
from tests.mixed_load import KINDS, PATIENCE, Target, User, check, handle
from tests.test_stateful import BatcherMachine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SECONDS: Final = float(os.environ.get("BATCHER_STRESS_SECONDS", "120"))

pytestmark = pytest.mark.stress


@pytest.fixture
def targets() -> Iterator[list[Target]]:
    """Have a batcher of every kind; close them if the test didn't come to it."""
    made = [Target(kind, options) for kind, options in KINDS.items()]
    yield made
    for target in made:
        target.batcher.close(0)


def wait_for(users: list[User]) -> None:
    """Wait until the users' time is over, and see that nothing went wrong."""
    for user in users:
        user.join(SECONDS + 4 * PATIENCE)
        assert not user.is_alive(), f"{user.name} hangs"
        assert user.problem is None, repr(user.problem)


def test_everything_at_once(targets: list[Target]) -> None:
    """Users in many threads do all that can be done; each gets what is his, and every item is counted once."""
    until = monotonic() + 0.35 * SECONDS

    users = [User(targets, seed, until) for seed in range(1, 9)]
    for user in users:
        user.start()
    wait_for(users)

    for target in targets:
        target.close()
        assert target.counts["accepted"] > 0


def test_forks_under_load(targets: list[Target]) -> None:
    """Children forked at any moment use the same batchers at once, and never see what is the parent's."""
    until = monotonic() + 0.25 * SECONDS
    waiting = Batcher(handle, max_delay=None)
    inherited = waiting.add(1)
    users = [User(targets, seed, until) for seed in range(1, 5)]
    children = 0

    def use_all() -> int:
        assert isinstance(inherited.exception(0), ForkedError)
        for number, target in enumerate(targets):
            future = target.batcher.add(number)
            target.batcher.flush(5.0)
            check(number, future)
            assert target.batcher.status().accepted == 1
            target.batcher.close(1.0)
        return len(targets)

    for user in users:
        user.start()
    while monotonic() < until:
        assert in_child(use_all) == len(KINDS)
        children += 1
    wait_for(users)

    assert children > 0
    assert not inherited.done()
    waiting.close()
    for target in targets:
        target.close()


def test_signals_under_load(targets: list[Target]) -> None:
    """A signal handler that adds, cancels and looks, on top of whatever the main thread does, loses nothing."""
    until = monotonic() + 0.15 * SECONDS
    plain = next(target for target in targets if target.batcher._options.overflow == "drop_newest")
    interruptions: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        plain.batcher.put(-len(interruptions))
        future = plain.batcher.add(-1)
        future.cancel()
        plain.batcher.status()
        interruptions.append(number)

    earlier = signal.signal(signal.SIGALRM, interrupt)
    others = [User(targets, seed, until) for seed in (1, 2)]
    mine = User(targets, 3, until)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0017)
    try:
        for other in others:
            other.start()
        mine.run()
        wait_for(others)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)

    assert mine.problem is None, repr(mine.problem)
    assert interruptions
    plain.note("accepted", 2 * len(interruptions))
    for target in targets:
        target.close()


def test_come_and_go() -> None:
    """Batchers and batched instances without number, most of them never closed, leave no thread and lose no item."""
    until = monotonic() + 0.1 * SECONDS
    delivered: list[int] = []

    class Sensor:
        @batched(max_delay=0.001)
        def send(self, readings: list[int]) -> None:
            delivered.extend(readings)

    sent = 0
    choices = random.Random(1)
    while monotonic() < until:
        for _ in range(20):
            if choices.random() < 0.5:
                sensor = Sensor()
                sensor.send.submit(sent)
                del sensor
            else:
                batcher: Batcher[int, Any] = Batcher(delivered.extend, max_delay=choices.choice([None, 0.0, 0.001]))
                batcher.put(sent)
                batcher.close()
            sent += 1
        if choices.random() < 0.1:
            gc.collect()
        for thread in [thread for thread in threading.enumerate() if thread.name.endswith("-flusher")]:
            thread.join(PATIENCE)

    assert sorted(delivered) == list(range(sent))


def test_any_user_for_long() -> None:
    """The state machine of `test_stateful` finds nothing in as many random lives as there is time for."""
    until = monotonic() + 0.15 * SECONDS
    search = settings(
        max_examples=100,
        stateful_step_count=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    while True:
        run_state_machine_as_test(BatcherMachine, settings=search)
        if monotonic() > until:
            break
