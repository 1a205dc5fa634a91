"""The house: imports run downward, importing is cheap, and what is shipped is complete."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import batcher
from tests.import_ranks import import_graph, package_sources, violations

ROOT = Path(__file__).parents[1]

# Prints which top-level modules an import of the package adds, and how many threads run after it.
IMPORT_PROBE = """
import json, sys, threading
before = {name.partition(".")[0] for name in sys.modules}
import batcher
added = {name.partition(".")[0] for name in sys.modules} - before
print(json.dumps({"added": sorted(added), "threads": threading.active_count()}))
"""


def test_imports_run_downward() -> None:
    """No module imports a room above its own, no circle exists, and every module has a rank."""
    graph = import_graph(package_sources(ROOT / "batcher"))

    assert violations(graph) == []


@pytest.mark.parametrize(
    "source",
    [
        "import batcher._batcher",
        "from batcher._batcher import Batcher",
        "from batcher import _batcher",
        "from ._batcher import Batcher",
        "from . import _batcher",
        "def late():\n    from batcher._batcher import Batcher",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ._batcher import Batcher",
    ],
    ids=["import", "from-module", "from-package", "relative", "relative-package", "in-function", "type-checking"],
)
def test_upward_import_is_found(source: str) -> None:
    """An upward import is found in every form that it can be written in."""
    graph = import_graph({"batcher.": "", "batcher._pending": source, "batcher._batcher": ""})

    assert violations(graph) == ["batcher._pending imports batcher._batcher"]


def test_import_out_of_a_subpackage_is_resolved() -> None:
    """A relative import that leaves a subpackage is followed to the room that it means."""
    sources = {
        "batcher.contrib.": "",
        "batcher.contrib.django": "from .._batcher import Batcher",
        "batcher._batcher": "",
    }

    assert import_graph(sources)["batcher.contrib.django"] == {"batcher._batcher"}


def test_import_of_the_facade_is_found() -> None:
    """A room imports the modules it needs, never the package that gathers them; what stands on top may do so."""
    sources = {
        "batcher.": "from batcher._flusher import run",
        "batcher._flusher": "from batcher import Batcher",
        "batcher.testing": "from batcher import Batcher",
    }

    upward, circle = violations(import_graph(sources))

    assert upward == "batcher._flusher imports batcher"
    assert circle.startswith("a circle: ")


def test_circle_among_neighbours_is_found() -> None:
    """Rooms of one rank may import each other in one direction only."""
    one_way = {"batcher._report": "from . import _status", "batcher._status": ""}
    both_ways = one_way | {"batcher._status": "from . import _report"}

    assert violations(import_graph({"batcher.": "", **one_way})) == []
    assert [found[:10] for found in violations(import_graph({"batcher.": "", **both_ways}))] == ["a circle: "]


def test_unranked_module_is_found() -> None:
    """A new module fails the check until somebody gives it a rank."""
    graph = import_graph({"batcher.": "", "batcher._novelty": ""})

    assert violations(graph) == ["batcher._novelty has no rank"]


def test_import_needs_only_the_standard_library() -> None:
    """Importing the package loads no third-party module, not even typing_extensions, and starts no thread."""
    probe = subprocess.run(
        [sys.executable, "-c", IMPORT_PROBE], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    report = json.loads(probe.stdout)

    assert set(report["added"]) - sys.stdlib_module_names == {"batcher"}
    assert report["threads"] == 1


def test_public_names() -> None:
    """Every public name exists, and the list of them is sorted and without repetition."""
    names = list(batcher.__all__)

    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(batcher, name)] == []


def test_every_error_is_public() -> None:
    """Every error of `batcher.errors` can be imported from `batcher` too, and descends from the one root."""
    errors = importlib.import_module("batcher.errors")
    names = [
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    ]

    assert names
    for name in names:
        assert getattr(batcher, name) is getattr(errors, name)
        assert issubclass(getattr(errors, name), errors.BatcherError)


def test_package_is_typed() -> None:
    """Type checkers read the annotations of a package only where it has the marker file."""
    assert (ROOT / "batcher" / "py.typed").is_file()


def test_no_line_is_exempt_from_coverage() -> None:
    """Full coverage means all lines: none is taken out by a comment."""
    exempt = [name for name, source in package_sources(ROOT / "batcher").items() if "pragma: no" in source.lower()]

    assert exempt == []
