"""The demo: readings sent to a slow HTTP API, first in one call each and then through a `Batcher`.

Nothing is pretended. The API is a real HTTP server that writes to a real database, and every figure is measured: the
calls at the server, the rows in the database file. The demo fails when a row is missing or stored twice, when the rows
of a sender stand in another order than it sent them, or when a caller was told of somebody else's row.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from threading import Barrier
from typing import TYPE_CHECKING

from batcher._batcher import Batcher
from batcher._demo_api import Reading, TemperatureStore, post_readings, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from batcher._status import BatcherStatus

# Seconds. An answer that takes longer fails the demo, since one that hangs would tell nobody why.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much the demo sends, and how slow its API is. As it stands here it takes about seven seconds."""

    single_readings: int = 100
    threads: int = 5
    readings_per_thread: int = 20
    lone_readings: int = 10
    crowd: int = 40
    readings_per_caller: int = 3
    api_seconds: float = 0.05
    max_delay: float = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender of a reading was told: the id of its row, after so many seconds."""

    reading: Reading
    row_id: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scene took, and what came of it."""

    calls: int
    seconds: float
    answers: Sequence[Answer]
    rows: Mapping[int, Reading]


class Stage:
    """Where scenes are played: it measures each, prints its line of the table and keeps its outcome."""

    def __init__(self, store: TemperatureStore) -> None:
        self._store = store
        self.outcomes: list[Outcome] = []
        print(f"{'':<34}{'readings':>9}{'calls':>7}{'seconds':>9}{'rows':>7}{'p50 ms':>9}")

    def play(self, title: str, scene: Callable[[], Sequence[Answer]]) -> Outcome:
        """Play a scene and look at what it did to the database."""
        calls, rows = self._store.calls, self._store.rows()
        started = time.perf_counter()
        answers = scene()
        seconds = time.perf_counter() - started
        new_rows = {row_id: row for row_id, row in self._store.rows().items() if row_id not in rows}
        outcome = Outcome(self._store.calls - calls, seconds, answers, new_rows)
        p50 = 1000 * median(answer.seconds for answer in answers)
        print(
            f"{title:<34}{len(answers):>9}{outcome.calls:>7}{seconds:>9.2f}{len(new_rows):>7}{p50:>9.1f}",
            flush=True,
        )
        self.outcomes.append(outcome)
        return outcome


def run_demo(plan: Plan) -> int:
    """Run the demo in a directory that is gone afterwards.

    Returns:
        The exit status: 0 if every row was found in its place, else 1.
    """
    with (
        tempfile.TemporaryDirectory(prefix="batcher-demo-") as directory,
        TemperatureStore(Path(directory) / "temperatures.db") as store,
        serving(store, seconds=plan.api_seconds) as address,
    ):
        print(f"POST http://{address[0]}:{address[1]} takes {1000 * plan.api_seconds:.0f} ms a call;")
        print(f"a batch waits {1000 * plan.max_delay:.0f} ms for company, or until all who block on it are there.\n")
        stage = Stage(store)
        play_scenes(plan, stage, partial(post_readings, address))
    return report_faults(stage.outcomes)


def play_scenes(plan: Plan, stage: Stage, post: Callable[[list[Reading]], list[int]]) -> None:
    """Send readings in four ways: one call each, and through a batcher from threads, a lone caller and a crowd."""
    single = readings("single", plan.single_readings)
    unbatched = stage.play("one call each", lambda: ask_in_turn(lambda reading: post([reading])[0], single))

    with Batcher[Reading, int](post, max_batch_size=100, max_delay=plan.max_delay, name="readings") as batcher:

        def ask(reading: Reading) -> int:
            return batcher.add(reading).result(PATIENCE)

        shares = [readings(f"thread-{n}", plan.readings_per_thread) for n in range(plan.threads)]
        batched = stage.play(f"batched, {plan.threads} threads", lambda: at_once(partial(send_all, batcher), shares))
        lone = readings("lone", plan.lone_readings)
        stage.play("batched, a lone caller", lambda: ask_in_turn(ask, lone))
        crowd = [readings(f"caller-{n}", plan.readings_per_caller) for n in range(plan.crowd)]
        stage.play(f"batched, {plan.crowd} callers at once", lambda: at_once(partial(ask_in_turn, ask), crowd))
        print_summary(unbatched, batched, batcher.status())


def readings(sensor: str, count: int) -> list[Reading]:
    """Return so many readings of a sensor, spread over a day from its coldest moment on."""
    return [Reading(sensor, number, round(15 - 6 * math.cos(math.tau * number / count), 2)) for number in range(count)]


def ask_in_turn(ask: Callable[[Reading], int], own: Sequence[Reading]) -> list[Answer]:
    """Wait for the answer to each reading before sending the next."""
    answers = []
    for reading in own:
        started = time.perf_counter()
        row_id = ask(reading)
        answers.append(Answer(reading, row_id, time.perf_counter() - started))
    return answers


def send_all(batcher: Batcher[Reading, int], own: Sequence[Reading]) -> list[Answer]:
    """Hand in all readings, then wait for their answers."""
    started = time.perf_counter()
    sent = [(reading, batcher.add(reading)) for reading in own]
    return [Answer(reading, future.result(PATIENCE), time.perf_counter() - started) for reading, future in sent]


def at_once(work: Callable[[Sequence[Reading]], list[Answer]], shares: Sequence[Sequence[Reading]]) -> list[Answer]:
    """Do the work on every share in a thread of its own, all starting at the same moment."""
    barrier = Barrier(len(shares))

    def start_together(share: Sequence[Reading]) -> list[Answer]:
        barrier.wait(PATIENCE)
        return work(share)

    with ThreadPoolExecutor(len(shares), thread_name_prefix="demo-sender") as pool:
        return list(chain.from_iterable(pool.map(start_together, shares)))


def print_summary(unbatched: Outcome, batched: Outcome, status: BatcherStatus) -> None:
    """Say what batching gained, and what the batcher says of itself."""
    alone, together = (1000 * outcome.seconds / len(outcome.answers) for outcome in (unbatched, batched))
    print(
        f"\ngain:   {alone:.1f} ms a reading in one call each, {together:.1f} ms batched from threads: "
        f"{alone / together:.0f} times as fast"
    )
    print(
        f"status: {status.state}, {status.accepted} accepted, {status.succeeded} succeeded, {status.failed} failed, "
        f"{status.pending} pending; {status.batches} batches of {status.average_batch_size:.1f} on average"
    )


def report_faults(outcomes: Sequence[Outcome]) -> int:
    """Print what is wrong with the rows, and return the exit status that says so."""
    faults = [fault for outcome in outcomes for fault in find_faults(outcome)]
    checked = sum(len(outcome.rows) for outcome in outcomes)
    if faults:
        print(f"rows:   {checked} read back, not as they were sent:", *faults, sep="\n  ", file=sys.stderr)
        return 1
    print(f"rows:   {checked} read back: each reading once, each sender's in order, each answered with its own row")
    return 0


def find_faults(outcome: Outcome) -> Iterator[str]:
    """Yield a line for each reading that isn't stored once, in its sender's order, and answered with its own row."""
    sent, stored = Counter(answer.reading for answer in outcome.answers), Counter(outcome.rows.values())
    yield from (f"missing: {reading}" for reading in sent - stored)
    yield from (f"stored but not sent, or stored twice: {reading}" for reading in stored - sent)

    # Between senders there is no order: only each sender's own readings have to stand as it sent them.
    latest: dict[str, Reading] = {}
    for row in outcome.rows.values():
        before = latest.setdefault(row.sensor, row)
        if row.number < before.number:
            yield f"out of order: {row} stands after {before}"
        latest[row.sensor] = row

    for answer in outcome.answers:
        told = outcome.rows.get(answer.row_id)
        if stored[answer.reading] and told != answer.reading:
            yield f"answered with another row: {answer.reading} got {told}"
