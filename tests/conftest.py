"""What holds for every test: stress tests are off until asked for, no thread outlives its test, each item ends once."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from batcher._line import Line

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
def every_item_ends_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that leaves an accepted item of any of its batchers without an end, or with two."""
    # The queue and the counters only: a line kept here would keep its handler, and what that keeps, alive.
    books = []
    open_line = Line.__init__

    def open_and_note(line: Line, *args: Any) -> None:
        open_line(line, *args)
        books.append((line.queue, line.counters))

    monkeypatch.setattr(Line, "__init__", open_and_note)
    yield
    for number, (queue, counters) in enumerate(books, start=1):
        accepted = queue.accepted + counters.passed
        ended = counters.succeeded + counters.failed + counters.cancelled + counters.expired + counters.dropped
        assert (accepted, queue.count) == (ended, 0), (
            f"batcher {number} of the test accepted {accepted} items, {ended} ended, {queue.count} wait"
        )


@pytest.fixture(autouse=True)
def no_thread_survives(every_item_ends_once: None) -> Iterator[None]:
    """Fail a test that leaves a thread of its own running."""
    before = set(threading.enumerate())
    yield
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(GRACE / len(started))
    survivors = sorted(thread.name for thread in started if thread.is_alive())
    assert not survivors, f"threads outlived the test: {survivors}"
