"""What a type checker must know of `CircuitBreaker`. Read by mypy and pyright, never run.

A `type: ignore` marks a mistake that both of them must report.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

from batcher import CircuitBreaker, CircuitBreakerStatus, CircuitOpenError

breaker = CircuitBreaker(ignore=ValueError, on_change=lambda old, new: old.upper() + new.upper())
several = CircuitBreaker(ignore=(ValueError, KeyError))
CircuitBreaker(ignore=[ValueError])
CircuitBreaker(3)  # type: ignore[call-arg]
CircuitBreaker(ignore=KeyboardInterrupt)  # type: ignore[arg-type]


@breaker
def load(user_id: int, *, name: str = "") -> str:
    """Return something."""
    return name * user_id


class Users:
    """Something with methods."""

    @breaker
    def find(self, user_id: int) -> "Users":
        """Return something."""
        return self

    @classmethod
    @breaker
    def make(cls, name: str) -> "Users":
        """Return something."""
        return cls() if name else cls().find(0)

    @staticmethod
    @breaker
    def count(of: bytes) -> int:
        """Return something."""
        return len(of)


assert_type(load(3, name="x"), str)
load("3")  # type: ignore[arg-type]
assert_type(Users().find(3), Users)
Users().find("3")  # type: ignore[arg-type]
assert_type(Users.make("x"), Users)
assert_type(Users.count(b""), int)

assert_type(breaker.call(load, 3, name="x"), str)
breaker.call(load, "3")  # type: ignore[arg-type]

permit = breaker.allow()
breaker.record_success(permit)  # type: ignore[arg-type]
if permit is not None:
    breaker.record_success(permit)
    breaker.record_failure(permit)
    breaker.release(permit)

with breaker.calling():
    assert_type(breaker.status(), CircuitBreakerStatus)
assert_type(breaker.status().open_seconds, float | None)
assert_type(CircuitOpenError(3.0).retry_after, float)
