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
            ValueError: The row is no JSON.
            TypeError: The result can't be written as JSON.
            Exception: Whatever the function raises.
        """
        if not self.is_csv:
            try:
                row.value = json.loads(row.text)
            except ValueError as error:
                raise ValueError(f"line {row.number} is not JSON: {error}") from None
        return json.dumps(self.function(row.value), ensure_ascii=False)


def failed_line(row: Row, error: BaseException, attempts: int) -> str:
    """Return the line that tells of a failed row."""
    item = row.text if row.value is None else row.value
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the error is the user's
        message = ""
    record = {"line": row.number, "item": item, "error": type(error).__name__, "message": message, "attempts": attempts}
    return json.dumps(record, ensure_ascii=False)
