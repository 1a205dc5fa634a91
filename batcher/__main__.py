"""The command line: ``python -m batcher`` shows what the package does, ``python -m batcher run`` does a job."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from batcher._cli import add_run
from batcher._demo import Plan, run_demo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None, plan: Plan | None = None) -> int:
    """Run what the arguments ask for; without any, the demo.

    Args:
        argv: The arguments after the program's name; None takes those of the process.
        plan: How much the demo sends; None sends as much as `Plan` says by itself.

    Returns:
        The exit status.

    Raises:
        SystemExit: With status 0 after ``--help``, with 2 for arguments that mean nothing here.
    """
    parser = argparse.ArgumentParser(
        prog="python -m batcher",
        description="Turns many single calls into few bulk calls. Without arguments it runs a demo of some seconds: "
        "readings sent to a slow HTTP API, one call each and then batched, and read back from its database.",
    )
    parser.set_defaults(command=lambda _: run_demo(plan or Plan()))
    add_run(parser.add_subparsers(title="commands", metavar="COMMAND"))
    arguments = parser.parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


if __name__ == "__main__":
    sys.exit(main())
