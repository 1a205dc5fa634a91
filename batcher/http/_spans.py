"""JSON cut out of JSON, byte for byte.

A body that is decoded and encoded again isn't the same: 1.10 becomes 1.1, a number of twenty digits
loses some, a repeated member is gone. So bodies are found in the text, and cut.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

_SPACE = re.compile(r"[ \t\n\r]*")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


# Numbers stay text: they are never computed with, and a number of a million digits costs nothing.
_scan = json.JSONDecoder(parse_constant=_refuse, parse_int=str, parse_float=str).raw_decode


class Value(NamedTuple):
    """A value in a JSON text: what it is (numbers as str), and where it stands."""

    content: Any
    start: int
    end: int


def read(body: bytes) -> tuple[str, Value]:
    """Return a body's text and its one value.

    Raises:
        ValueError: It is no JSON in UTF-8, or is nested too deeply.
    """
    text = body.decode("utf-8")
    try:
        value = _value(text, 0)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _skip(text, value.end) != len(text):
        raise ValueError("more than one value")
    return text, value


def elements(text: str, array: Value) -> list[Value]:
    """Return the values in an array that `read` found."""
    found: list[Value] = []
    position = _skip(text, array.start + 1)
    while text[position] != "]":
        found.append(_value(text, position))
        position = _after_comma(text, found[-1].end)
    return found


def members(text: str, obj: Value) -> list[tuple[str, Value]]:
    """Return the members of an object that `read` found, repeated ones too."""
    found: list[tuple[str, Value]] = []
    position = _skip(text, obj.start + 1)
    while text[position] != "}":
        name = _value(text, position)
        found.append((name.content, _value(text, _skip(text, name.end) + 1)))
        position = _after_comma(text, found[-1][1].end)
    return found


def raw(text: str, value: Value) -> str:
    """Return a value as it stands in the text."""
    return text[value.start : value.end]


def _value(text: str, position: int) -> Value:
    start = _skip(text, position)
    content, end = _scan(text, start)
    return Value(content, start, end)


def _skip(text: str, position: int) -> int:
    # The pattern matches nothing at all too.
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]


def _after_comma(text: str, position: int) -> int:
    """Return where the next value begins, or the bracket that ends them."""
    position = _skip(text, position)
    return _skip(text, position + 1) if text[position] == "," else position
