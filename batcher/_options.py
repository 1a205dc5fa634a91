"""Validation of options: one place, one wording.

Every check names the option, says what would do, and shows what was received.
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

# What a platform can wait is years less than what a float can say; ten years is forever for a delay.
_LONGEST = 10 * 365 * 86_400.0


def check_seconds(name: str, value: object, *, positive: bool = False) -> float | None:
    """Return `value` as seconds, or None as None; raises as `require_seconds`."""
    return None if value is None else require_seconds(name, value, positive=positive, or_none=" or None")


def require_seconds(name: str, value: object, *, positive: bool = False, or_none: str = "") -> float:
    """Return `value` as seconds; what is too long to wait is clamped.

    Raises:
        TypeError: It is no number.
        ValueError: It is nan, negative, or zero where `positive`.
    """
    wanted = f"{'a positive' if positive else 'a non-negative'} number of seconds{or_none}"
    seconds = _number(name, value, wanted)
    if math.isnan(seconds) or seconds < 0 or (positive and seconds == 0):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return min(seconds, _LONGEST)


def check_count(name: str, value: object) -> int:
    """Return `value`, a count of at least one.

    Raises:
        TypeError: It is no int.
        ValueError: It is below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be an int of at least 1, got {value!r}")
    return value


def check_priority(value: object) -> int:
    """Return `value` as a plain int.

    Raises:
        TypeError: It is no int.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"priority must be an int, got {value!r}")
    return int(value)  # a subclass could compare as it likes


def check_weight_limit(name: str, value: object) -> float | None:
    """Return `value` as the most that something may weigh, or None as None.

    Raises:
        TypeError: It is no number.
        ValueError: It is nan, infinite, negative or zero.
    """
    if value is None:
        return None
    wanted = "a finite positive number or None"
    limit = _number(name, value, wanted)
    if not math.isfinite(limit) or limit <= 0:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return limit


def check_rate(name: str, value: object) -> float | None:
    """Return `value` as a number per second, or None as None; raises as `check_weight_limit`."""
    return check_weight_limit(name, value)


def check_weight(value: object) -> float:
    """Return what `weigh` said of an item.

    Raises:
        TypeError: It is no number.
        ValueError: It is nan, infinite or negative.
    """
    wanted = "a finite non-negative number"
    weight = _number("weigh(item)", value, wanted)
    if not math.isfinite(weight) or weight < 0:
        raise ValueError(f"weigh(item) must be {wanted}, got {value!r}")
    return weight


def check_callable(name: str, value: object, *, optional: bool = True) -> None:
    """Raise TypeError unless `value` is callable, or None where `optional`."""
    if not callable(value) and not (optional and value is None):
        raise TypeError(f"{name} must be callable{' or None' if optional else ''}, got {value!r}")


# What a partner is, and the method that is asked of it: a class of its own will do as well.
_PARTNERS = {
    "executor": ("concurrent.futures.Executor", "submit"),
    "circuit_breaker": ("CircuitBreaker", "admit"),
    "throttle": ("Throttle", "turn"),
}


def check_partner(name: str, value: object) -> None:
    """Raise TypeError unless `value` is None or can do what is asked of the partner of this name."""
    kind, method = _PARTNERS[name]
    if value is not None and (isinstance(value, type) or not callable(getattr(value, method, None))):
        raise TypeError(f"{name} must be a {kind} or None, got {value!r}")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise TypeError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def _number(name: str, value: object, wanted: str) -> float:
    """Return `value` as a float, or raise TypeError."""
    # `hasattr` and no `isinstance(value, SupportsFloat)`, which takes some microseconds: items are weighed here.
    if isinstance(value, bool) or not hasattr(type(value), "__float__"):
        raise TypeError(f"{name} must be {wanted}, got {value!r}")
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf  # an int beyond all floats


def check_does_its_work(name: str, value: object) -> None:
    """Check that a function isn't a coroutine function, whose call does nothing yet: it would seem to succeed.

    Raises:
        TypeError: It is.
    """
    call = getattr(type(value), "__call__", None)  # noqa: B004 - objects may be called by a method of their class
    if any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in (value, call)):
        raise TypeError(f"{name} must be a function that does its work when it is called, got {value!r}")
