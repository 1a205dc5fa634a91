"""One measurement in a process of its own: `python -m benchmarks.child WORKLOAD CONTENDER [quick]`.

Prints one line of JSON: the figures, or why there are none.
"""

from __future__ import annotations

import json
import os
import sys

from benchmarks.contender import MissingError
from benchmarks.contenders import CONTENDERS
from benchmarks.workloads import WORKLOADS


def main(arguments: list[str]) -> None:
    """Measure, and print."""
    workload, contender, *rest = arguments
    try:
        answer: dict[str, object] = {
            "figures": WORKLOADS[workload].run(CONTENDERS[contender], is_quick=rest == ["quick"])
        }
    except MissingError as error:
        answer = {"missing": str(error)}
    print(json.dumps(answer), flush=True)
    # Some libraries leave threads that would be joined, and objects that complain: nothing of it is measured.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
