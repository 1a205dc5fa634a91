"""``python -m batcher run``: a function over the lines of a file.

Results are written in the order of the input, each line before its row is recorded in the checkpoint: a
run that is killed and started again loses no line of output and repeats at most the last batches.
"""

from __future__ import annotations

import argparse
import importlib
import operator
import os
import sys
import traceback
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from batcher._bulk import BatchProcessor
from batcher._files import check_distinct, cut_torn_line, open_input, open_outputs
from batcher._meter import Meter
from batcher._options import check_does_its_work
from batcher._rows import Row, RowFunction, failed_line, field_key, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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
  started again: rows that are done are skipped, and the output files are appended to. A row is known by its
  place and its content; with --key FIELD by that field alone, so that rows may be inserted, moved or changed.
  No two rows of the input should have the same there.

exit status:
  0 all rows succeeded; 1 some failed; 2 wrong usage, or input, output or checkpoint can't be used;
  130 interrupted by Ctrl-C.

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
    parser.add_argument(
        "--key", metavar="FIELD", help="the field by which the checkpoint knows a row (default: its place and content)"
    )
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
                item_key=_key_of(arguments, is_csv=is_csv),
            )
            # Files last: nothing is overwritten where something else is wrong.
            check_distinct({part: getattr(arguments, part) for part in ("input", "output", "failed", "checkpoint")})
            source, meter.total = open_input(arguments.input, stack, is_csv=is_csv)
            goes_on = arguments.checkpoint is not None
            is_rerun = goes_on and Path(arguments.checkpoint).exists()
            output, failed = open_outputs(arguments.output, arguments.failed, stack, goes_on=goes_on)
        except (OSError, TypeError, ValueError) as error:
            parser.error(str(error))
        try:
            torn = (arguments.output, arguments.failed) if is_rerun else ()
            return _process(processor, _rows(source, torn, is_csv=is_csv), output, failed)
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


def _rows(source: IO[str], torn: Iterable[str | None], *, is_csv: bool) -> Iterator[Row]:
    """Yield the rows; before the first, when the checkpoint is ours, cut the outputs that a kill may have torn."""
    for name in torn:
        cut_torn_line(name)
    yield from read_rows(source, is_csv=is_csv)


def _process(processor: BatchProcessor[Row, str], rows: Iterator[Row], output: IO[str], failed: IO[str] | None) -> int:
    status = OK
    stream = processor.stream(rows, ordered=True)
    try:
        for outcome in stream:
            # Each line in one step: Ctrl-C must not come before its end.
            if outcome.error is None:
                output.write(f"{outcome.result}\n")
            else:
                status = SOME_FAILED
                if failed is not None:
                    failed.write(f"{failed_line(outcome.item, outcome.error, outcome.attempts)}\n")
    finally:
        stream.close()
    return status


def find_function(name: str) -> Callable[[Any], Any]:
    """Return the function that MODULE:FUNCTION means.

    Raises:
        ValueError: There is none.
        TypeError: It is a coroutine function.
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
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise ValueError(f"importing {module_name!r} raised {type(error).__name__}: {error}") from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ValueError(f"{module_name!r} has no function {path!r}")  # noqa: TRY004 - one kind for all
    check_does_its_work(path, found)
    function: Callable[[Any], Any] = found
    return function


def _key_of(arguments: argparse.Namespace, *, is_csv: bool) -> Callable[[Row], str] | None:
    """Return what the checkpoint knows a row by.

    Raises:
        ValueError: There is a key, and no checkpoint.
    """
    field: str | None = arguments.key
    if arguments.checkpoint is None:
        if field is not None:
            raise ValueError("--key needs --checkpoint")
        return None
    return operator.attrgetter("key") if field is None else partial(field_key, field=field, is_csv=is_csv)
