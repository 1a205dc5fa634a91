"""What a type checker knows of `Throttle` and `throttled`."""

from typing import assert_type

from batcher import Throttle, ThrottleStatus, throttled
from batcher.contrib.redis import RedisThrottle


def double(number: int, *, twice: bool = False) -> str:
    """Be a function to call."""
    return str(number * (4 if twice else 2))


throttle = Throttle(max_concurrent=2, max_per_second=0.5, max_burst=3, cooldown=1, on_throttle=print)
assert_type(throttle.execute(double, 3, twice=True), str)
throttle.execute(double, "3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
throttle.execute(double, 3, thrice=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
assert_type(throttle.acquire(timeout=1), bool)
with throttle as entered:
    assert_type(entered, Throttle)
assert_type(throttle.status(), ThrottleStatus)
throttle.status().active = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@throttled(max_per_second=5)
def triple(number: int, *, twice: bool = False) -> str:
    """Be a throttled function."""
    return str(number * (6 if twice else 3))


assert_type(triple(3, twice=True), str)
triple("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(triple.throttle, Throttle)
throttled(max_per_minute=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


class Client:
    """Has throttled methods."""

    @throttled(throttle)
    def get(self, path: str) -> bytes:
        """Be a throttled method."""
        return path.encode()

    @staticmethod
    @throttled(max_concurrent=1)
    def ping(number: int) -> int:
        """Be a throttled static method."""
        return number

    @throttled(max_concurrent=1)
    @classmethod
    def name(cls) -> str:
        """Be a throttled class method."""
        return cls.__name__


client = Client()
assert_type(client.get("/"), bytes)
assert_type(client.get(path="/"), bytes)
client.get(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(client.get.throttle, Throttle)
assert_type(Client.get(client, "/"), bytes)
assert_type(Client.ping(3), int)
assert_type(Client.name(), str)

turn = throttle.turn(print)
assert_type(turn.try_start(), float | None)
turn.end()

shared: Throttle = RedisThrottle("redis://localhost", name="calls", max_per_second=5)


@throttled(shared)
def call() -> None:
    """Count together with other processes."""
