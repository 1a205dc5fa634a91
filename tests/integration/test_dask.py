"""Bulk runs and batchers on a real Dask cluster of two processes."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from batcher import Batcher, BatchProcessor, Retry, process_batch
from tests.bulk_tools import Elsewhere, becomes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

distributed = pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.integration,
    # Dask closes some of its own event loops and sockets late.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SECONDS = 50.0


@pytest.fixture(autouse=True)
def no_thread_survives() -> Iterator[None]:
    """Fail a test that leaves a thread of the library's; Dask starts some of its own whenever it likes."""
    yield
    becomes(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("batcher-")])


@pytest.fixture(name="client", scope="module")
def _client() -> Iterator[Any]:
    """A client of a cluster of two processes with one thread each, which starts a killed one anew."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(2)
        yield client


def note(directory: str) -> Any:
    """Return a function that leaves a file for each of its calls."""

    def process(item: Any) -> Any:
        descriptor, name = tempfile.mkstemp(dir=directory)
        os.close(descriptor)
        return item, name

    return process


@pytest.mark.parametrize("options", [{}, {"pure": False}], ids=["default", "pure=False"])
def test_equal_batches_all_run(client: Any, options: dict[str, Any], tmp_path: Path) -> None:
    """Batches with the same items are calls of their own, although Dask runs equal calls only once."""
    with client.get_executor(**options) as executor:
        result = process_batch([7] * 20, note(str(tmp_path)), batch_size=2, executor=executor)

    assert not result.failed
    assert len({name for _, name in result.results}) == 20
    assert len(list(tmp_path.iterdir())) == 20


def test_payload_is_left_alone(client: Any) -> None:
    """Items that look like Dask's own tasks and keys arrive as they are; lambdas travel."""
    items: list[Any] = [(len, "abc"), ["x", (sum, [1])], {"key": 1}, "key", None]
    with client.get_executor() as executor:
        result = process_batch(items, lambda item: item, batch_size=2, executor=executor)

    assert result.results == items


def test_errors_come_back(client: Any) -> None:
    """An item that fails over there fails alone, with its own error."""
    with client.get_executor() as executor:
        result = process_batch([1, 0, 2], lambda n: 1 / n, executor=executor, retries=Retry(2, delay=0))

    assert result.results == [1.0, 0.5]
    assert [(failed.item, type(failed.error), failed.attempts) for failed in result.failed] == [
        (0, ZeroDivisionError, 2)
    ]


def pid_after(seconds: float) -> int:
    """Return the process, a while later."""
    time.sleep(seconds)
    return os.getpid()


@pytest.mark.timeout(120)
def test_killed_worker(client: Any) -> None:
    """One of two processes is killed in mid-run: its items run elsewhere or are reported, and none vanishes."""
    victims = list(client.run(os.getpid).values())
    with client.get_executor() as executor:
        processor = BatchProcessor(pid_after, batch_size=2, max_concurrent=4, executor=executor, retries=3)
        run = Elsewhere(lambda: processor.run([0.05] * 60))
        becomes(lambda: processor.status().processed >= 4)
        os.kill(victims[0], signal.SIGKILL)
        run._thread.join(SECONDS)
        result = run.result()

    assert result.total_processed == 60
    assert len(result.results) + len(result.failed) == 60
    assert not result.failed
    # The kill landed: somebody else has done the work since.
    assert len(set(result.results)) >= 2
    assert victims[0] not in result.results[-4:]


def test_batcher_on_a_cluster(client: Any, tmp_path: Path) -> None:
    """A batcher's equal batches all run, too."""

    def handler(items: list[int]) -> list[Any]:
        return [note(str(tmp_path))(item) for item in items]

    with client.get_executor() as executor, Batcher(handler, executor=executor, max_batch_size=2) as batcher:
        results = [batcher.add(7) for _ in range(12)]
        assert batcher.flush(SECONDS).complete
        names = {future.result(0)[1] for future in results}

    assert len(names) == 12
    assert len(list(tmp_path.iterdir())) == 12


def test_batcher_survives_a_killed_worker(client: Any) -> None:
    """A batcher whose worker process is killed gets its answers from another one."""

    def handler(items: list[int]) -> list[int]:
        time.sleep(0.3)
        return [os.getpid()] * len(items)

    client.wait_for_workers(2)
    victims = list(client.run(os.getpid).values())
    with (
        client.get_executor() as executor,
        Batcher[int, int](handler, executor=executor, max_batch_size=1, max_concurrent=4) as batcher,
    ):
        futures = batcher.add_many(list(range(8)))
        futures[0].result(SECONDS)
        os.kill(victims[0], signal.SIGKILL)
        pids = [future.result(SECONDS) for future in futures]
    assert len(pids) == 8
