"""A sensor loop that sends its readings through an API which is down for a second of three."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batcher import Batcher

from .telemetry import Reading, SensorLoop, TelemetryApi

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

pytestmark = pytest.mark.integration

PHASE = 1.0  # seconds for which the API is up, then down, then up again
FLUSH_SECONDS = 10.0


def poll_through_an_outage(
    api: TelemetryApi, batcher: Batcher[Reading, None], deliver: Callable[[Reading], object]
) -> int:
    """Run a sensor loop beside an API that is up, down and up again; return the count of its readings."""
    loop = SensorLoop()
    with api.up():
        loop.poll(PHASE, deliver)
    loop.poll(PHASE, deliver)
    with api.up():
        loop.poll(PHASE, deliver)
        assert batcher.flush(FLUSH_SECONDS).pending == 0
    # The loop never waits for the API: it goes on while that is down.
    assert loop.longest_pause < PHASE / 2
    assert loop.sent >= 100
    return loop.sent


def test_failed_readings_reach_the_users_hook() -> None:
    """With `put`, each reading is stored once, or given once to `on_error`, from where the user sends it again."""
    api = TelemetryApi()
    retained: list[Reading] = []
    errors: list[BaseException] = []

    def retain(error: BaseException, readings: list[Reading]) -> None:
        errors.append(error)
        retained.extend(readings)

    with Batcher(api.send, max_batch_size=50, max_delay=0.1, on_error=retain) as batcher:
        sent = poll_through_an_outage(api, batcher, batcher.put)
        status = batcher.status()
        calls = api.calls
        stored = api.stored.copy()
        failed = [reading["number"] for reading in retained]

        assert sorted(stored + failed) == list(range(sent))
        assert (status.accepted, status.succeeded, status.failed) == (sent, len(stored), len(failed))
        assert stored
        assert failed
        assert all(isinstance(error, OSError) for error in errors)
        assert calls + len(errors) == status.batches
        assert calls <= len(stored) / 5

        with api.up():
            for reading in retained.copy():
                batcher.put(reading)
            assert batcher.flush(FLUSH_SECONDS).complete
    assert sorted(api.stored) == list(range(sent))


def test_failed_readings_fail_their_futures() -> None:
    """With `add`, each reading's future says whether it was stored; `on_error` isn't needed."""
    api = TelemetryApi()
    futures: list[Future[None]] = []
    with Batcher(api.send, max_batch_size=50, max_delay=0.1) as batcher:
        sent = poll_through_an_outage(api, batcher, lambda reading: futures.append(batcher.add(reading)))

    assert len(futures) == sent
    errors = [future.exception(timeout=0) for future in futures]
    assert sorted(api.stored) == [number for number, error in enumerate(errors) if error is None]
    assert api.stored
    assert any(isinstance(error, ConnectionRefusedError) for error in errors)
    assert all(error is None or isinstance(error, OSError) for error in errors)
