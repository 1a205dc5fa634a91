"""Reading and writing the rows of `python -m batcher run`: JSON Lines and CSV."""

from __future__ import annotations

import csv
import hashlib
import json
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Row:
    """One row of the input.

    Attributes:
        number: Its line, counted from 1; for CSV the row, without the header.
        text: What stands there, in a form that is the same in each run.
        value: What the function gets, once it is parsed.
    """

    __slots__ = ("number", "text", "value")

    def __init__(self, number: int, text: str, value: object = None) -> None:
        """Keep the row."""
        self.number = number
        self.text = text
        self.value = value

    @property
    def key(self) -> str:
        """What the row is known by in a checkpoint: its place and its content."""
        return f"{self.number}:{hashlib.sha256(self.text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def read_rows(source: IO[str], *, is_csv: bool) -> Iterator[Row]:
    """Yield the rows of a file, lazily; empty lines are left out.

    JSON is not parsed here but by the workers, so that a bad line fails alone.
    """
    if is_csv:
        for number, record in enumerate(csv.DictReader(source), start=1):
            yield Row(number, json.dumps(record), record)
    else:
        for number, line in enumerate(source, start=1):
            if line.strip():
                yield Row(number, line.strip())


def parse(row: Row, *, is_csv: bool) -> None:
    """See that the row has its value.

    Raises:
        ValueError: The row is no UTF-8, or no JSON.
    """
    if not _is_text(json.dumps(row.value, ensure_ascii=False) if is_csv else row.text):
        raise ValueError(f"line {row.number} is not UTF-8")
    if not is_csv:
        try:
            row.value = json.loads(row.text)
        except ValueError as error:
            raise ValueError(f"line {row.number} is not JSON: {error}") from None


def field_key(row: Row, *, field: str, is_csv: bool) -> str:
    """Return what a field of the row holds, as JSON: the number 1 isn't the text "1".

    Raises:
        ValueError: The row has no such field, or can't be parsed.
    """
    parse(row, is_csv=is_csv)
    if not isinstance(row.value, dict) or row.value.get(field) is None:
        raise ValueError(f"line {row.number} has no field {field!r}")
    return json.dumps(row.value[field], sort_keys=True)


class RowFunction:
    """The user's function, from a row to a line of output. May be sent to another process.

    Attributes:
        function: Called with what the row holds.
        is_csv: Whether rows come parsed.
    """

    def __init__(self, function: Callable[[Any], Any], *, is_csv: bool) -> None:
        """Wrap the function."""
        self.function = function
        self.is_csv = is_csv

    def __call__(self, row: Row) -> str:
        """Parse the row, call the function and return its result as JSON.

        Raises:
            ValueError: The row is no UTF-8, or no JSON.
            TypeError: The result can't be written as JSON.
            Exception: Whatever the function raises.
        """
        parse(row, is_csv=self.is_csv)
        return _as_json(self.function(row.value))


def failed_line(row: Row, error: BaseException, attempts: int) -> str:
    """Return the line that tells of a failed row."""
    item = row.text if row.value is None else row.value
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the error is the user's
        message = ""
    record = {"line": row.number, "item": item, "error": type(error).__name__, "message": message, "attempts": attempts}
    return _as_json(record)


def _as_json(value: object) -> str:
    """Return a value as JSON that can be written as UTF-8: half a character, which JSON allows, is escaped."""
    line = json.dumps(value, ensure_ascii=False)
    return line if _is_text(line) else json.dumps(value)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
