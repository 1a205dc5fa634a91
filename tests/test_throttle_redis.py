"""`RedisThrottle` against a real Redis: limits that processes share.

Only the first test runs by real time. In the others the time of the server and that of the throttles stand still until
the test moves them: the scripts ask two keys of Redis for the time, where they would ask its clock.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis
from freezegun import freeze_time

import batcher.contrib.redis
from batcher import Batcher, ThrottleStatus, throttled
from batcher._clock import Bell
from batcher.contrib.redis import RedisThrottle
from batcher.testing import FakeClock, RecordingHandler
from tests.forks import in_child
from tests.integration.servers import PROJECT, Program, free_port, running
from tests.stage import PATIENCE, elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="the program redis-server is not on this machine"),
]

MARGIN = 0.5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of our own, on loopback and without files; its address."""
    port = free_port()
    log = tmp_path_factory.mktemp("redis") / "log"
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    url = f"redis://127.0.0.1:{port}/0"
    with running(Program(["redis-server", *options], log, cwd=log.parent)) as program:
        program.wait_ready(lambda: answers(url))
        yield url


def answers(url: str) -> bool:
    """Say whether Redis is up."""
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


class World:
    """An empty Redis, and the time of all: of the server and of the throttles that are made in it."""

    def __init__(self, url: str, client: redis.Redis, clock: FakeClock) -> None:
        self.url = url
        self.client = client
        self.clock = clock
        self.throttles: list[RedisThrottle] = []
        self.move_server(1_000_000.25)

    def move_server(self, seconds: float) -> None:
        """Set the time of the server."""
        self.seconds = seconds
        whole = int(seconds)
        self.client.mset({"now:seconds": whole, "now:micros": round((seconds - whole) * 1_000_000)})

    def advance(self, seconds: float) -> None:
        """Move the time of all, the server's first."""
        self.move_server(self.seconds + seconds)
        self.clock.advance(seconds)

    def make(self, **options: Any) -> RedisThrottle:
        """Make a throttle."""
        throttle = RedisThrottle(self.url, **{"name": "calls", "margin": MARGIN, **options})
        self.throttles.append(throttle)
        return throttle

    def hang_up(self) -> None:
        """Close all connections: a batcher that had a throttle keeps it until the collector comes."""
        for throttle in self.throttles:
            throttle._ask_start.registered_client.close()


@pytest.fixture
def world(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world whose time only the test moves."""
    for name in ("_START", "_STATUS"):
        script = getattr(batcher.contrib.redis, name)
        assert script.count("redis.call('TIME')") == 1
        moved = script.replace("redis.call('TIME')", "redis.call('MGET', 'now:seconds', 'now:micros')")
        monkeypatch.setattr(batcher.contrib.redis, name, moved)
    with redis.Redis.from_url(server) as client, FakeClock() as clock:
        client.flushall()
        world = World(server, client, clock)
        yield world
        world.hang_up()


def worst_window(starts: list[float], seconds: float) -> int:
    """Return the most starts that any window of so many seconds holds."""
    starts = sorted(starts)
    worst = first = 0
    for last, moment in enumerate(starts):
        while moment >= starts[first] + seconds:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


# Prints the moments of its starts; the monotonic clock is one for all processes of a machine.
WORKER = """
import sys, time
from batcher.contrib.redis import RedisThrottle

url, limit, count, margin = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
throttle = RedisThrottle(url, name="shared", max_per_second=limit, margin=margin)
print("ready", flush=True)
sys.stdin.readline()
starts = [throttle.execute(time.monotonic) for _ in range(count)]
print(*starts)
"""


def test_processes_together_never_exceed_the_limit(server: str) -> None:
    """Four processes that start as often as they may never make more starts together than allowed in any second."""
    with redis.Redis.from_url(server) as client:
        client.flushall()
    limit, count, margin = 100, 50, 1.0  # only a machine that stands still for half the margin could make it fail
    command = [sys.executable, "-c", WORKER, server, str(limit), str(count), str(margin)]
    workers = [
        subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:  # all are up: now they compete
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    starts = [float(moment) for worker in workers for moment in worker.communicate(timeout=40)[0].split()]

    assert [worker.returncode for worker in workers] == [0] * 4
    assert len(starts) == 4 * count
    assert worst_window(starts, 1.0) <= limit
    assert max(starts) - min(starts) >= 1.0


def test_limit_is_exact_in_the_time_of_the_server(world: World) -> None:
    """A start is made if, and only if, the window before it, longer by the margin, holds fewer than the limit."""
    throttle = world.make(max_per_second=3)
    starts: list[float] = []
    for pause in [0.0, 0.0, 0.25, 0.0, 1.0, 0.125, 0.125, 0.0, 0.25, 0.75, 0.0, 0.5, 0.0, 0.0]:
        world.advance(pause)
        may = len(starts) < 3 or world.seconds >= starts[-3] + 1.0 + MARGIN
        assert throttle.acquire(0) is may
        if may:
            starts.append(world.seconds)

    assert len(starts) == 8
    assert throttle.status() == ThrottleStatus(active=8, waiting=0, per_second=2, cooling=False)


def test_limit_is_shared_by_name(world: World) -> None:
    """Throttles of one name count together, in this process and in a child; another name counts for itself."""
    one, two, other = (
        world.make(max_per_second=3),
        world.make(max_per_second=3),
        world.make(max_per_second=3, name="others"),
    )

    assert one.acquire(0)
    assert two.acquire(0)
    assert in_child(lambda: (one.status().active, one.acquire(0))) == (0, True)
    assert not one.acquire(0)
    assert other.acquire(0)
    assert one.status() == ThrottleStatus(active=1, waiting=0, per_second=3, cooling=False)


def test_wait_ends_at_the_moment_that_redis_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused caller asks once more, when the window opens, and not in between; it starts at once then."""
    throttle = world.make(max_per_second=2)
    answers: list[float] = []
    ask = throttle._ask_redis

    def ask_and_note() -> float:
        answers.append(ask())
        return answers[-1]

    monkeypatch.setattr(throttle, "_ask_redis", ask_and_note)
    for _ in range(2):
        throttle.acquire()
    world.advance(0.25)
    waiting = elsewhere(throttle.acquire)
    world.clock.wait_for_sleepers(1)
    world.advance(1.0)
    assert answers == [0.0, 0.0, 1.25]
    world.advance(0.25)

    assert waiting.result(PATIENCE)
    assert answers == [0.0, 0.0, 1.25, 0.0]


def test_order_and_interface_are_those_of_a_throttle(world: World) -> None:
    """Within a process callers start in order; hook, timeout, block, decorator and places work as on `Throttle`."""
    heard: list[int] = []
    throttle = world.make(max_per_second=5, max_concurrent=6, on_throttle=heard.append)
    order: list[int] = []

    @throttled(throttle)
    def note(number: int) -> None:
        order.append(number)

    with throttle as entered:
        assert entered.status().active == 1
        for number in range(4):
            note(number)
        assert not throttle.acquire(0)
        assert heard == []

        futures = []
        for number in range(4, 8):
            futures.append(elsewhere(note, number))
            world.clock.wait_for_sleepers(number - 3)
        assert heard == [1, 2, 3, 4]
        world.advance(1.0 + MARGIN)
        for future in futures:
            future.result(PATIENCE)
    assert order == list(range(8))
    assert throttle.status().active == throttle.status().waiting == 0


def test_places_are_those_of_the_process(world: World) -> None:
    """While all places are taken, Redis isn't asked: nothing of the shared limit is used up."""
    one, two = (world.make(max_per_second=2, max_concurrent=1) for _ in range(2))

    assert one.acquire(0)
    assert not one.acquire(0)
    assert two.acquire(0)
    assert (one.status().active, two.status().active) == (1, 1)
    two.release()
    assert not two.acquire(0)


def test_burst_is_followed_by_a_cooldown_for_all(world: World) -> None:
    """After a burst, whoever made it, nothing starts anywhere for the cooldown; then it is counted anew."""
    one, two = (world.make(max_burst=3, cooldown=10.0) for _ in range(2))

    assert one.acquire(0)
    assert two.acquire(0)
    assert not one.status().cooling
    assert one.acquire(0)
    assert two.status().cooling
    world.advance(10.0 + MARGIN - 0.001)
    assert not two.acquire(0)
    world.advance(0.001)
    assert two.acquire(0)
    assert one.acquire(0)
    assert not two.status().cooling
    assert one.acquire(0)
    assert not two.acquire(0)


def test_slow_rate_and_spread_starts(world: World) -> None:
    """Below one a second it is one in a longer window; starts that are spread over more than a second are no burst."""
    throttle = world.make(max_per_second=0.5, max_burst=2, cooldown=60)
    assert throttle.acquire(0)
    world.advance(2.0 + MARGIN - 0.001)
    assert not throttle.acquire(0)
    world.advance(0.001)

    assert throttle.acquire(0)
    assert throttle.status() == ThrottleStatus(active=2, waiting=0, per_second=1, cooling=False)


@pytest.mark.parametrize(
    ("back", "may_start"),
    [(0.5, False), (3600.0, True)],
    ids=["a-little", "an-hour"],
)
def test_server_clock_that_is_set_back(world: World, back: float, *, may_start: bool) -> None:
    """A start that seems to lie a little ahead still counts; one that lies far ahead doesn't block for ever."""
    throttle = world.make(max_per_second=1)
    assert throttle.acquire(0)
    world.move_server(world.seconds - back)

    assert throttle.acquire(0) is may_start


def test_nothing_stays_in_redis(world: World) -> None:
    """All that is written goes away by itself, soon after it means nothing any more."""
    throttle = world.make(max_per_second=10, max_burst=2, cooldown=3)
    throttle.acquire()
    before = set(world.client.scan_iter("batcher:*"))
    throttle.acquire()
    after = set(world.client.scan_iter("batcher:*"))
    lifetimes: list[Any] = [world.client.pttl(key) for key in after]

    assert before == {b"batcher:throttle:{calls}:burst", b"batcher:throttle:{calls}:starts"}
    assert after == {b"batcher:throttle:{calls}:cooling", b"batcher:throttle:{calls}:starts"}
    assert all(0 < milliseconds <= 4500 for milliseconds in lifetimes)


def test_frozen_wall_clock_changes_nothing(world: World) -> None:
    """The time is the server's: a client whose wall clock stands still throttles as ever."""
    with freeze_time("2020-01-01"):
        throttle = world.make(max_per_second=1)
        assert throttle.acquire(0)
        assert not throttle.acquire(0)
        world.advance(1.0 + MARGIN)
        assert throttle.acquire(0)


def test_time_of_a_real_server(server: str) -> None:
    """The scripts as they are ask the server's own clock: what was just started is in its last second."""
    with redis.Redis.from_url(server) as client:
        client.flushall()
    throttle = RedisThrottle(server, name="calls", max_per_second=1 / 3600, margin=60.0)

    assert throttle.acquire(0)
    assert not throttle.acquire(0)
    assert throttle.status().active == 1


# Turns


def test_turn_starts_without_blocking(world: World) -> None:
    """A turn is rung when its thread has the answer; refused, it is rung as the window opens, in the order of all."""
    throttle = world.make(max_per_second=1)
    bells = [Bell(), Bell()]
    first, second = (throttle.turn(bell.ring) for bell in bells)

    assert first.try_start() == float("inf")
    assert bells[0].wait(PATIENCE)
    assert [first.try_start(), first.try_start()] == [None, None]
    assert second.try_start() == float("inf")
    world.clock.wait_for_sleepers(1)
    assert second.try_start() == float("inf")
    assert throttle.status().waiting == 1
    world.advance(1.0 + MARGIN)
    assert bells[1].wait(PATIENCE)
    assert second.try_start() is None
    first.end()
    second.end()
    assert throttle.status().active == 0


def test_batcher_keeps_to_the_shared_limit(world: World) -> None:
    """As a batcher's throttle it limits the handler calls of all processes together."""
    handler: RecordingHandler = RecordingHandler()
    shared = world.make(max_per_second=2)
    assert world.make(max_per_second=2).acquire(0)  # another process
    batcher: Batcher[int, None] = Batcher(handler, max_batch_size=1, max_delay=0.0, throttle=shared)
    for item in range(3):
        batcher.put(item)
    handler.wait_for_batches(1)
    world.clock.wait_for_sleepers(2)  # the flusher, and the thread that waits for its turn
    assert handler.batches == [[0]]

    world.advance(1.0 + MARGIN)
    handler.wait_for_batches(3)
    assert handler.batches == [[0], [1], [2]]
    batcher.close()
    assert shared.status().active == 0
