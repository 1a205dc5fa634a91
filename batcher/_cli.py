"""``python -m batcher run``: a function over the lines of a file.

Results are written in the order of the input, each line before its row is recorded in the checkpoint: a
run that is killed and started again loses no line of output and repeats at most the last batches.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from batcher._bulk import BatchProcessor
from batcher._meter import Meter
from batcher._rows import Row, RowFunction, failed_line, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable

OK, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_EPILOG = """\
input:
  JSON Lines (one JSON value a line) or CSV with a header (each row a dict of strings). CSV is what ends in
  .csv or is asked for by --format; "-" is standard input.

output:
  One JSON value a line, in the order of the input, without those that failed. With --failed, one JSON
  object for each row that failed: line, item, error, message, attempts.

checkpoint:
  With --checkpoint FILE a run that was ended in the middle, in whatever way, goes on where it was when it is
  started again: rows that are done are skipped, and the output files are appended to.

exit status:
  0 all rows succeeded; 1 some failed; 2 wrong usage; 130 interrupted by Ctrl-C.

example:
  python -m batcher run shop.mails:send customers.jsonl --max-concurrent 16 --retries 2 --failed failed.jsonl
"""


def add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `run` and its arguments."""
    parser = commands.add_parser(
        "run",
        help="call a function for each row of a JSON Lines or CSV file, several at once",
        description="Calls a function for each row of a JSON Lines or CSV file, several at once, and writes what it "
        "returns as JSON Lines.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("function", metavar="MODULE:FUNCTION", help="what to call; the current directory is searched")
    parser.add_argument("input", metavar="INPUT", help='the file to read, or "-"')
    parser.add_argument("--output", metavar="O", help="where results go (default: standard output)")
    parser.add_argument("--failed", metavar="F", help="where rows that failed go (default: only their number is told)")
    parser.add_argument("--format", choices=("jsonl", "csv"), help="of the input (default: by the name of the file)")
    parser.add_argument("--batch-size", metavar="N", type=int, default=100, help="rows in a batch (default: 100)")
    parser.add_argument("--max-concurrent", metavar="N", type=int, default=4, help="batches at once (default: 4)")
    parser.add_argument("--retries", metavar="N", type=int, default=0, help="extra attempts for a row (default: 0)")
    parser.add_argument("--timeout", metavar="S", type=float, help="seconds for a row (default: no limit)")
    parser.add_argument("--checkpoint", metavar="C", help="a file that remembers which rows are done")
    parser.add_argument("--quiet", action="store_true", help="draw no progress bar")
    parser.set_defaults(command=lambda arguments: run(parser, arguments))


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Do what the arguments say; return the exit status."""
    is_csv = arguments.format == "csv" or (arguments.format is None and arguments.input.endswith(".csv"))
    with ExitStack() as stack:
        try:
            function = find_function(arguments.function)
            meter = stack.enter_context(Meter(sys.stderr, is_quiet=arguments.quiet))
            processor: BatchProcessor[Row, str] = BatchProcessor(
                RowFunction(function, is_csv=is_csv),
                batch_size=arguments.batch_size,
                max_concurrent=arguments.max_concurrent,
                retries=arguments.retries,
                timeout=arguments.timeout,
                on_progress=meter,
                checkpoint=arguments.checkpoint,
                item_key=None if arguments.checkpoint is None else _key,
            )
            # Files last: nothing is overwritten where something else is wrong.
            source, meter.total = _open_input(arguments.input, stack, is_csv=is_csv)
            output = _open_output(arguments.output, stack, arguments)
            failed = None if arguments.failed is None else _open_output(arguments.failed, stack, arguments)
        except (OSError, TypeError, ValueError) as error:
            parser.error(str(error))
        try:
            return _process(processor, source, output, failed, is_csv=is_csv)
        except BrokenPipeError:
            # Whoever read the output has seen enough; nor is there anybody for what Python flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return SOME_FAILED
        except Exception as error:  # noqa: BLE001 - what reading the input, or the checkpoint, came to
            meter.close()
            print(f"{parser.prog}: error: {type(error).__name__}: {error}", file=sys.stderr)
            return USAGE
        except KeyboardInterrupt:
            meter.close()
            print(f"{parser.prog}: interrupted", file=sys.stderr)
            return INTERRUPTED


def _process(
    processor: BatchProcessor[Row, str], source: IO[str], output: IO[str], failed: IO[str] | None, *, is_csv: bool
) -> int:
    status = OK
    stream = processor.stream(read_rows(source, is_csv=is_csv), ordered=True)
    try:
        for outcome in stream:
            if outcome.error is None:
                print(outcome.result, file=output)
            else:
                status = SOME_FAILED
                if failed is not None:
                    print(failed_line(outcome.item, outcome.error, outcome.attempts), file=failed)
    finally:
        stream.close()
    return status


def find_function(name: str) -> Callable[[Any], Any]:
    """Return the function that MODULE:FUNCTION means.

    Raises:
        ValueError: There is none.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise ValueError(f"expected MODULE:FUNCTION, got {name!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"no module {error.name!r} for {name!r}") from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ValueError(f"{module_name!r} has no function {path!r}")  # noqa: TRY004 - one kind for all
    function: Callable[[Any], Any] = found
    return function


def _open_input(name: str, stack: ExitStack, *, is_csv: bool) -> tuple[IO[str], int | None]:
    """Open the input; return it with the number of its lines, where that is the number of its rows."""
    if name == "-":
        return sys.stdin, None
    total = None
    if not is_csv:
        with Path(name).open("rb") as file:
            total = sum(bool(line.strip()) for line in file)
    # No translation of line ends: csv does that itself, and knows better.
    return stack.enter_context(Path(name).open(encoding="utf-8-sig", newline="" if is_csv else None)), total


def _open_output(name: str | None, stack: ExitStack, arguments: argparse.Namespace) -> IO[str]:
    """Open an output; with a checkpoint line by line, so that a line is out before its row is recorded.

    Raises:
        ValueError: It is the input.
    """
    if name is None:
        if arguments.checkpoint is not None and isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
        return sys.stdout
    path = Path(name)
    if path.exists() and arguments.input != "-" and path.samefile(arguments.input):
        raise ValueError(f"{name!r} is the input: it would be overwritten")
    mode, buffering = ("w", -1) if arguments.checkpoint is None else ("a", 1)
    return stack.enter_context(path.open(mode, buffering=buffering, encoding="utf-8", newline="\n"))


def _key(row: Row) -> str:
    return row.key
