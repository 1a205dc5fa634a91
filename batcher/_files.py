"""The files of `python -m batcher run`: opened all or none, and none of them twice."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import ExitStack

_CHUNK = 65_536


def check_distinct(names: dict[str, str | None]) -> None:
    """Check that no file has two parts to play; a terminal, a pipe or /dev/null may.

    Args:
        names: The file of each part; None, or "-", for none.

    Raises:
        ValueError: Two parts have the same file.
    """
    seen: dict[Path, str] = {}
    for part, name in names.items():
        if name is None or name == "-":
            continue
        path = Path(name).resolve()
        if path.exists() and not path.is_file():
            continue
        other = next((other for known, other in seen.items() if _is_same(known, path)), None)
        if other is not None:
            raise ValueError(f"{name!r} is the {other}: it can't be the {part} as well")
        seen[path] = part


def _is_same(one: Path, other: Path) -> bool:
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def open_input(name: str, stack: ExitStack, *, is_csv: bool) -> tuple[IO[str], int | None]:
    """Open the input; return it with the number of its lines, where that is the number of its rows.

    Bytes that are no UTF-8 come as lone surrogates, so that only their own row fails.
    """
    # No translation of line ends: csv does that itself, and knows better.
    newline = "" if is_csv else None
    if name == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape", newline=newline)
        return sys.stdin, None
    path = Path(name)
    source = stack.enter_context(path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline))
    total = None
    if not is_csv and path.is_file():  # what is read from a pipe is gone
        with path.open("rb") as file:
            total = sum(bool(line.strip()) for line in file)
    return source, total


def open_outputs(
    output: str | None, failed: str | None, stack: ExitStack, *, goes_on: bool
) -> tuple[IO[str], IO[str] | None]:
    """Open the files for results, by default standard output, and for failed rows.

    What they hold is dropped when both are open. If `goes_on`, with a checkpoint, they are appended to, line by
    line, so that a line is out before its row is recorded.
    """
    opened = [None if name is None else _open_to_append(name, stack, goes_on=goes_on) for name in (output, failed)]
    for name in (output, failed):
        if name is not None and not goes_on and Path(name).is_file():
            os.truncate(name, 0)
    if opened[0] is None and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", line_buffering=goes_on or sys.stdout.line_buffering)
    return opened[0] or sys.stdout, opened[1]


def _open_to_append(name: str, stack: ExitStack, *, goes_on: bool) -> IO[str]:
    return stack.enter_context(Path(name).open("a", buffering=1 if goes_on else -1, encoding="utf-8", newline="\n"))


def cut_torn_line(name: str | None) -> None:
    """Take from an output the line that a kill has torn: its row isn't recorded, and comes again."""
    if name is not None and Path(name).is_file():
        os.truncate(name, _end_of_last_line(Path(name)))


def _end_of_last_line(path: Path) -> int:
    """Return the length of a file without what comes after its last line end."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(end - _CHUNK, 0)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0
