"""What holds for every test: the stress tests stay off until asked for, and no thread outlives its test."""

import threading
from collections.abc import Iterator

import pytest

# Shared by all threads that a test leaves behind. A closed batcher's threads end within milliseconds; the rest is
# for a loaded machine. The waiting is done by `join`, which no frozen or fake clock can mislead.
GRACE = 5.0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the stress tests out unless the -m expression names them.

    An `-m "not stress"` among the default options would be lost as soon as somebody gives another expression.
    """
    if "stress" in config.option.markexpr:
        return
    stress = [item for item in items if item.get_closest_marker("stress")]
    if stress:
        config.hook.pytest_deselected(items=stress)
        items[:] = [item for item in items if item not in stress]


@pytest.fixture(autouse=True)
def no_thread_survives() -> Iterator[None]:
    """Fail a test that leaves a thread of its own running."""
    before = set(threading.enumerate())
    yield
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(GRACE / len(started))
    survivors = sorted(thread.name for thread in started if thread.is_alive())
    assert not survivors, f"threads outlived the test: {survivors}"
