"""Options are checked in one place, and every refusal names the option and shows what was received."""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest

from batcher._options import (
    check_callable,
    check_choice,
    check_count,
    check_flag,
    check_seconds,
    check_weight,
    check_weight_limit,
    require_seconds,
)

TEN_YEARS = 10 * 365 * 86_400.0


@pytest.mark.parametrize("value", [0, 0.0, 0.25, 3, Fraction(1, 2), Decimal("1.5")], ids=repr)
def test_seconds_of_any_number_are_a_float(value: object) -> None:
    """Whatever counts as a number comes back as a float of the same value."""
    seconds = require_seconds("max_delay", value)

    assert type(seconds) is float
    assert seconds == value


@pytest.mark.parametrize("value", [math.inf, 1e300, 10**400, TEN_YEARS + 1], ids=["inf", "float", "int", "above"])
def test_seconds_too_long_to_wait_are_clamped(value: float) -> None:
    """More than a platform can wait, an int beyond all floats included, becomes ten years."""
    assert require_seconds("max_delay", value) == TEN_YEARS


@pytest.mark.parametrize("value", [math.nan, -0.001, -math.inf, -1], ids=repr)
def test_seconds_that_nobody_can_wait_are_refused(value: float) -> None:
    """Nan and negative seconds are refused with the option's name, what would do, and what came."""
    with pytest.raises(ValueError) as caught:
        require_seconds("max_delay", value)

    assert str(caught.value) == f"max_delay must be a non-negative number of seconds, got {value!r}"


@pytest.mark.parametrize("value", [0, 0.0, -0.0], ids=repr)
def test_zero_seconds_are_refused_where_they_must_be_positive(value: float) -> None:
    """Zero passes in general, but not where only a positive time makes sense."""
    assert require_seconds("max_delay", value) == 0

    with pytest.raises(ValueError, match=r"^handler_timeout must be a positive number of seconds, got "):
        require_seconds("handler_timeout", value, positive=True)


@pytest.mark.parametrize("value", [True, False, "1", b"1", [1], 1j, object], ids=repr)
def test_seconds_must_be_a_number(value: object) -> None:
    """What is no number, a bool included, is a TypeError."""
    with pytest.raises(TypeError) as caught:
        require_seconds("timeout", value)

    assert str(caught.value) == f"timeout must be a non-negative number of seconds, got {value!r}"


def test_required_seconds_refuse_none() -> None:
    """None is no number where a number is required."""
    with pytest.raises(TypeError, match=r"^exit_timeout must be a non-negative number of seconds, got None$"):
        require_seconds("exit_timeout", None)


def test_optional_seconds_take_none() -> None:
    """None stays None, and everything else is as where seconds are required."""
    assert check_seconds("max_delay", None) is None
    assert check_seconds("max_delay", 1) == 1.0


def test_refusal_of_optional_seconds_offers_none() -> None:
    """The message says that None would do, beside what else would."""
    with pytest.raises(ValueError, match=r"^max_delay must be a non-negative number of seconds or None, got -1$"):
        check_seconds("max_delay", -1)
    with pytest.raises(ValueError, match=r"^handler_timeout must be a positive number of seconds or None, got 0$"):
        check_seconds("handler_timeout", 0, positive=True)
    with pytest.raises(TypeError, match=r"^max_delay must be a non-negative number of seconds or None, got 'soon'$"):
        check_seconds("max_delay", "soon")


@pytest.mark.parametrize("value", [1, 2, 10**30], ids=repr)
def test_count_from_one_passes(value: int) -> None:
    """Any int of at least one comes back as it is."""
    assert check_count("max_batch_size", value) == value


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (-3, ValueError), (True, TypeError), (1.0, TypeError), ("1", TypeError), (None, TypeError)],
    ids=repr,
)
def test_other_counts_are_refused(value: object, error: type[Exception]) -> None:
    """Below one is a ValueError, anything but an int a TypeError, in the same words."""
    with pytest.raises(error) as caught:
        check_count("max_batch_size", value)

    assert type(caught.value) is error
    assert str(caught.value) == f"max_batch_size must be an int of at least 1, got {value!r}"


def test_weight_limit_is_a_positive_float_or_none() -> None:
    """A finite positive number becomes a float; None stays None."""
    assert check_weight_limit("max_batch_weight", None) is None
    limit = check_weight_limit("max_batch_weight", 3)
    assert type(limit) is float
    assert limit == 3


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1.5, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (10**400, ValueError),
        ("heavy", TypeError),
        (True, TypeError),
    ],
    ids=["zero", "negative", "nan", "inf", "huge", "str", "bool"],
)
def test_other_weight_limits_are_refused(value: object, error: type[Exception]) -> None:
    """A limit that bounds nothing, or that nothing stays under, is refused."""
    with pytest.raises(error) as caught:
        check_weight_limit("max_batch_weight", value)

    assert str(caught.value) == f"max_batch_weight must be a finite positive number or None, got {value!r}"


@pytest.mark.parametrize("value", [0, 0.5, 7, Fraction(3, 4)], ids=repr)
def test_weight_of_an_item_is_a_float(value: object) -> None:
    """What `weigh` may say, zero included, comes back as a float."""
    weight = check_weight(value)

    assert type(weight) is float
    assert weight == value


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (10**400, ValueError),
        (None, TypeError),
        (True, TypeError),
        ("1", TypeError),
    ],
    ids=["negative", "nan", "inf", "huge", "none", "bool", "str"],
)
def test_other_weights_of_an_item_are_refused(value: object, error: type[Exception]) -> None:
    """A weight that can't be summed up is refused."""
    with pytest.raises(error) as caught:
        check_weight(value)

    assert str(caught.value) == f"weigh(item) must be a finite non-negative number, got {value!r}"


@pytest.mark.parametrize("value", [len, str, lambda: None], ids=["builtin", "class", "lambda"])
def test_callable_passes(value: Callable[..., object]) -> None:
    """Whatever can be called passes, where None would do and where it wouldn't."""
    check_callable("handler", value)
    check_callable("handler", value, optional=False)


def test_none_passes_as_an_optional_callable_only() -> None:
    """None stands for no callable where one may be missing."""
    check_callable("on_error", None)

    with pytest.raises(TypeError, match=r"^handler must be callable, got None$"):
        check_callable("handler", None, optional=False)


def test_what_cannot_be_called_is_refused() -> None:
    """A value that can't be called is a TypeError, which offers None where that would do."""
    with pytest.raises(TypeError, match=r"^on_error must be callable or None, got 3$"):
        check_callable("on_error", 3)
    with pytest.raises(TypeError, match=r"^handler must be callable, got 3$"):
        check_callable("handler", 3, optional=False)


def test_choice_is_one_of_the_names() -> None:
    """A choice passes; anything else is a ValueError that lists the choices."""
    check_choice("overflow", "block", ("block", "raise"))

    with pytest.raises(ValueError, match=r"^overflow must be one of 'block', 'raise', got 'wait'$"):
        check_choice("overflow", "wait", ("block", "raise"))
    with pytest.raises(ValueError, match=r"^overflow must be one of 'block', 'raise', got None$"):
        check_choice("overflow", None, ("block", "raise"))


def test_flag_is_true_or_false() -> None:
    """True and False pass; what is merely truthy is a TypeError."""
    check_flag("drain", value=True)
    check_flag("drain", value=False)

    with pytest.raises(TypeError, match=r"^drain must be True or False, got 1$"):
        check_flag("drain", 1)
