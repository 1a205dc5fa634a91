"""`RedisThrottle`: a `Throttle` whose starts are counted across processes and machines, in Redis.

Of the strategies that the `limits` library has, only its moving window keeps a log of starts, which is what
"in any second" needs. But it stamps each hit with the client's wall clock, before it is sent, and knows
whole seconds only: four processes on one machine were seen to start 102 calls of 100 in a second, and
a clock that is set or frozen breaks it. So `limits` connects (to Redis, Valkey, Sentinel or a cluster, by
one address), and the window is a script of our own. It differs in three ways: the time is the server's;
bursts and cooldowns are decided in the same step; and the answer to a refusal is how long to wait.

A start happens a little later than the server wrote it down, by the way of the answer. So that no window
sees one start arrive late and the next ones early, all windows are longer by `margin`, and an answer that
took so long that it might not fit in is not used.

Needs the extra `redis`.
"""

from __future__ import annotations

import dataclasses
from math import inf
from typing import TYPE_CHECKING, Any

try:
    import redis  # noqa: F401 - `limits` would find out on the first use only
    from limits.storage import storage_from_string
except ImportError as _missing:
    raise ImportError("batcher.contrib.redis needs limits and redis: pip install 'thread-batcher[redis]'") from _missing

from batcher._errand import Errands
from batcher._options import check_callable, require_seconds
from batcher._pace import MOST_COUNTED, Pace, limit_and_window
from batcher._places import Books
from batcher._throttle import Throttle, ThrottleStatus
from batcher._turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from batcher._places import Place, Rings

__all__ = ["RedisThrottle"]

# Answers in a row that come too late to be used, before it isn't called bad luck any more.
_MOST_LATE = 5

# Times are whole microseconds of the server's clock; a number of Lua holds them exactly.
_START = """
local starts, burst, cooling = KEYS[1], KEYS[2], KEYS[3]
local limit, window, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local size, second, cooldown = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local longest = math.max(window, second, cooldown)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local newest = tonumber(redis.call('LINDEX', starts, 0) or 0)
if newest > now + longest then
  redis.call('DEL', starts, burst, cooling) -- the server's clock was set back: what was written means nothing
elseif newest > now then
  now = newest
end

local free = tonumber(redis.call('GET', cooling) or 0)
if limit > 0 then
  local oldest = redis.call('LINDEX', starts, limit - 1)
  if oldest then free = math.max(free, oldest + window) end
end
if free > now then return free - now end

local moment = string.format('%.0f', now)
local lifetime = math.ceil(longest / 1000) + 1000
redis.call('LPUSH', starts, moment)
redis.call('LTRIM', starts, 0, kept - 1)
redis.call('PEXPIRE', starts, lifetime)
if size > 0 then
  redis.call('LPUSH', burst, moment)
  redis.call('LTRIM', burst, 0, size - 1)
  redis.call('PEXPIRE', burst, lifetime)
  local first = redis.call('LINDEX', burst, size - 1)
  if first and now < first + second then
    redis.call('SET', cooling, string.format('%.0f', now + cooldown), 'PX', lifetime)
    redis.call('DEL', burst)
  end
end
return 0
"""

_STATUS = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local count = 0
for _, moment in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if now >= moment + 1000000 then break end
  count = count + 1
end
local resume = tonumber(redis.call('GET', KEYS[3]) or 0)
return {count, resume > now and 1 or 0}
"""

_MICRO = 1_000_000


class RedisThrottle(Throttle):
    """A `Throttle` that shares `max_per_second`, `max_burst` and `cooldown` with all others of its name.

    What isn't shared: `max_concurrent`, `active` and `waiting` are those of this process, because Redis
    can't tell a slow call from a dead process. Callers start in the order in which they came within a
    process; among processes, the one that asks first is first. One caller of a process asks Redis at a
    time, and where it has to wait, it asks again at the very moment that it was told. A `timeout` doesn't
    cut short an exchange with Redis; options in the address do (`?socket_timeout=1`).

    All throttles of one name must have the same limits. Needs Redis 5 or later, or Valkey.

    Thread safety: as `Throttle`, and across processes. A forked child goes on with the shared count.

    Args:
        url: Where Redis is, as the `limits` library takes it: "redis://localhost:6379/0", "rediss://...",
            "redis+unix:///path", "redis+sentinel://...", "redis+cluster://...", "valkey://...".
        name: What all that share the limits have in common.
        margin: Seconds that a start may come after Redis allowed it; every window, and the cooldown, is
            longer by it. Half of it is for the way of the answer: one that takes longer is lost, and
            counts.
        max_concurrent: As for `Throttle`, in this process.
        max_per_second: As for `Throttle`.
        max_burst: As for `Throttle`.
        cooldown: As for `Throttle`.
        on_throttle: As for `Throttle`.

    Raises:
        TypeError: As `Throttle`.
        ValueError: As `Throttle`; or neither `max_per_second` nor `max_burst` is given.
        redis.RedisError: From each call, where Redis can't be asked; nothing has started then.
        TimeoutError: From each call, if several answers in a row took more than half of `margin`.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        margin: float = 0.05,
        max_concurrent: int | None = None,
        max_per_second: float | None = None,
        max_burst: int | None = None,
        cooldown: float = 0.0,
        on_throttle: Callable[[int], object] | None = None,
    ) -> None:
        super().__init__(
            max_concurrent=max_concurrent,
            max_per_second=max_per_second,
            max_burst=max_burst,
            cooldown=cooldown,
            on_throttle=on_throttle,
        )
        if max_per_second is None and max_burst is None:
            raise ValueError("a RedisThrottle needs max_per_second or max_burst to share, got neither")
        self._margin = require_seconds("margin", margin, positive=True)
        limit, window = limit_and_window(self._max_per_second)
        kept = max(limit or MOST_COUNTED, self._max_burst or 0)
        # The braces keep the three on one node of a cluster.
        self._keys = [f"batcher:throttle:{{{name}}}:{part}" for part in ("starts", "burst", "cooling")]
        self._arguments = [
            limit or 0,
            self._micros(window),
            kept,
            self._max_burst or 0,
            self._micros(1.0),
            self._micros(self._cooldown),
        ]
        storage: Any = storage_from_string(url)  # connects on first use, anew in a forked child
        connection = storage.get_connection()
        self._ask_start = connection.register_script(_START)
        self._ask_status = connection.register_script(_STATUS)

    def status(self) -> ThrottleStatus:
        """Return a snapshot; `per_second` and `cooling` are of all processes."""
        per_second, cooling = self._ask_status(keys=self._keys)
        return dataclasses.replace(super().status(), per_second=per_second, cooling=bool(cooling))

    def turn(self, ring: Callable[[], object]) -> Turn:
        """Return what starts a call without ever blocking, as `Throttle.turn`.

        What blocks, the exchange with Redis and the wait, is done by a daemon thread, which ends with the
        start or with the turn. `Turn.try_start` raises what it came upon.
        """
        check_callable("ring", ring, optional=False)
        errands = Errands(lambda: self._books, ring, self._ask, self._end, self._clock)
        return Turn(self._books, ring, errands.ask, errands.end, self._clock)

    def _micros(self, seconds: float) -> int:
        """Return a stretch of time as Redis is told it, with the margin."""
        return round((seconds + self._margin) * _MICRO)

    def _new_books(self, inherited: int) -> Books:
        # The pace is Redis's: here only the places are counted.
        return Books(self._max_concurrent, Pace(None, None, 0.0), inherited)

    def _try(self, place: Place, bell: Rings) -> float:
        """Start `place` if it may; if not, return when to look again."""
        books = place.books
        if place.bell is None:
            books.join(place, bell)  # asking takes time, and no lock is held: the line keeps the order
        with books.lock:
            if books.is_full or not books.is_next_locked(place):
                return inf
        if place.not_before <= self._clock.monotonic():
            wait = self._ask_redis()
            now = self._clock.monotonic()
            place.not_before = now + wait
            if not wait:
                with books.lock:
                    if books.record_locked(place, now):
                        books.leave_locked(place)
        return place.not_before

    def _ask_redis(self) -> float:
        """Ask for one start; return 0.0 if it is granted, else how many seconds to wait.

        Raises:
            TimeoutError: The answers take too long.
        """
        for _ in range(_MOST_LATE):
            asked = self._clock.monotonic()
            wait: int = self._ask_start(keys=self._keys, args=self._arguments)
            if wait or self._clock.monotonic() - asked <= self._margin / 2:
                return wait / _MICRO
        raise TimeoutError(
            f"{_MOST_LATE} answers of Redis in a row took more than half of the margin, which is {self._margin} s"
        )
