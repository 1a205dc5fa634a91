"""Durations come from a clock that nothing moves, and a ring is never lost."""

import subprocess
import sys
import threading
import time

import freezegun
import pytest

from batcher import _clock
from batcher._clock import Bell, SystemClock, current_clock, install_clock, uninstall_clock
from batcher.testing import FakeClock

# Imports the package while time is frozen, then measures a wait with what it imported.
FROZEN_IMPORT = """
import freezegun
with freezegun.freeze_time("2020-01-01"):
    from batcher._clock import Bell, SystemClock
    clock = SystemClock()
    begun = clock.monotonic()
    assert not clock.wait(Bell(), begun + 0.02)
    print(clock.monotonic() - begun >= 0.02)
"""


def test_monotonic_never_goes_back() -> None:
    """Later readings are never smaller, and the clock counts in the machine's own seconds."""
    readings = [_clock.monotonic() for _ in range(1000)]

    assert readings == sorted(readings)
    before = time.monotonic()
    between = SystemClock().monotonic()
    assert before <= between <= time.monotonic()


def test_frozen_time_does_not_reach_the_clock() -> None:
    """While freezegun stops, and moves back, every clock of `time`, this one runs on."""
    with freezegun.freeze_time("2024-05-01") as frozen:
        begun = SystemClock().monotonic()
        frozen.move_to("2019-01-01")

        assert not SystemClock().wait(Bell(), begun + 0.01)
        assert SystemClock().monotonic() - begun >= 0.01


def test_import_while_time_is_frozen() -> None:
    """The clock runs even where the package is first imported under freezegun."""
    run = subprocess.run([sys.executable, "-c", FROZEN_IMPORT], capture_output=True, text=True, check=False)

    assert (run.stdout, run.stderr) == ("True\n", "")


def test_ring_before_the_wait_ends_it_at_once() -> None:
    """A ring that nobody heard yet is kept for the next wait, without a limit or with any."""
    bell = Bell()
    for timeout in (None, 5.0, 0.0, -1.0):
        bell.ring()

        assert bell.is_rung
        assert bell.wait(timeout)
        assert not bell.is_rung


def test_rings_do_not_add_up() -> None:
    """However often it was rung, one wait takes it all."""
    bell = Bell()
    bell.ring()
    bell.ring()

    assert bell.wait(0)
    assert not bell.wait(0)


@pytest.mark.parametrize("timeout", [-1.0, 0.0, 0.001], ids=repr)
def test_wait_without_a_ring_ends_with_its_time(timeout: float) -> None:
    """A wait that nobody ends says so when its time is over; no time, or less, is no wait."""
    bell = Bell()

    assert not bell.wait(timeout)
    assert not bell.is_rung


@pytest.mark.parametrize("timeout", [None, 1e300, 60.0], ids=repr)
def test_ring_from_another_thread_ends_the_wait(timeout: float | None) -> None:
    """A thread that waits is woken, also where it would wait longer than the platform can."""
    bell = Bell()
    heard: list[bool] = []
    thread = threading.Thread(target=lambda: heard.append(bell.wait(timeout)))
    thread.start()
    bell.ring()
    thread.join(5)

    assert heard == [True]


def test_system_clock_waits_for_a_deadline_of_its_own_time() -> None:
    """A deadline is a moment of the clock; a passed one is no wait, and none waits for the ring."""
    clock = SystemClock()
    rung = Bell()
    rung.ring()

    assert not clock.wait(Bell(), clock.monotonic() - 1)
    assert not clock.wait(Bell(), clock.monotonic() + 0.001)
    assert clock.wait(rung, None)


def test_clock_of_the_machine_is_the_choice() -> None:
    """Where no clock was installed, batchers run on the machine's."""
    assert isinstance(current_clock(), SystemClock)


def test_installed_clock_is_the_choice_until_taken_back() -> None:
    """The clock installed last is the choice, and each is taken back by itself, in any order."""
    first, second = FakeClock(), FakeClock()
    install_clock(first)
    install_clock(second)

    assert current_clock() is second
    uninstall_clock(first)
    assert current_clock() is second
    uninstall_clock(second)
    assert isinstance(current_clock(), SystemClock)
