"""Reads which module imports which, and says where that goes against the ranks of the rooms."""

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = "batcher"

# A room may import rooms of lower rank, and neighbours of its own rank as long as no circle comes of it.
ROOMS_BY_RANK: tuple[tuple[str, ...], ...] = (
    ("errors", "_clock", "_options", "_process", "_reentry", "_circuit", "_heirs"),
    ("_failure", "_kinds", "_status", "_report", "_retry", "_pace", "_places", "_edges"),
    ("_result", "_control", "_checkpoint", "_preparation"),
    ("_future", "_turn", "_errand", "_throttle", "_breaker", "_metrics", "_job"),
    ("_settings", "_starts", "_progress"),
    ("_lanes", "_collection", "_bar", "_bulk_settings"),
    ("_group",),
    ("_flights", "_cache"),
    ("_offers", "_held", "_sizing", "_regroup"),
    ("_pending", "_outcomes", "_workers", "_feed"),
    ("_execution", "_again"),
    ("_line",),
    ("_tell", "_verdict", "_parcel"),
    ("_drop",),
    ("_settle",),
    ("_labour", "_delivery"),
    ("_crew", "_lent"),
    ("_conductor",),
    ("_bulk_run",),
    ("_intake", "_dispatch"),
    ("_flusher",),
    ("_drain",),
    ("_lifecycle",),
    ("_batcher", "_bulk", "_sigterm", "_timer"),
    ("_bursts",),
    ("_debounce",),
    ("_decorators", "_throttled", "_debounced", "_layers"),
    ("_optimizer",),
    ("contrib", "http", "testing", "_demo", "_demo_api", "_meter", "_rows", "_files", "_cli", "__main__"),
)
RANKS = {room: rank for rank, rooms in enumerate(ROOMS_BY_RANK) for room in rooms}
TOP_RANK = len(ROOMS_BY_RANK) - 1


def package_sources(root: Path) -> dict[str, str]:
    """Return the source of each module of the package in `root`, by the module's full name; packages end in a dot."""
    sources = {}
    for path in root.rglob("*.py"):
        *parents, name = path.relative_to(root).with_suffix("").parts
        dotted = ".".join((PACKAGE, *parents))
        sources[f"{dotted}." if name == "__init__" else f"{dotted}.{name}"] = path.read_text(encoding="utf-8")
    return sources


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return for each module the modules of the package that it imports, wherever in its source it does so.

    Imports in functions and under TYPE_CHECKING count: a circle is as hard to read there as at the top.
    """
    modules = {name.removesuffix(".") for name in sources}
    graph: dict[str, set[str]] = {}
    for name, source in sources.items():
        package = name[:-1] if name.endswith(".") else name.rpartition(".")[0]
        targets = {_innermost_module(imported, modules) for imported in _imported_names(source, package)}
        graph[name.removesuffix(".")] = targets - {""}
    return graph


def violations(graph: Mapping[str, set[str]]) -> list[str]:
    """Return a sentence for each import, room or circle that the ranks don't allow."""
    found = [f"{module} has no rank" for module in sorted(graph) if module != PACKAGE and _room(module) not in RANKS]
    for module, targets in sorted(graph.items()):
        found += [f"{module} imports {target}" for target in sorted(targets) if _is_upward(module, target)]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found.append("a circle: " + " <- ".join(error.args[1]))
    return found


def _is_upward(module: str, target: str) -> bool:
    """Return whether the import leads to a room that stands above the importing one."""
    if module == PACKAGE:
        return False
    rank = RANKS.get(_room(module), TOP_RANK)
    if target == PACKAGE:
        return rank < TOP_RANK
    return RANKS.get(_room(target), 0) > rank


def _room(module: str) -> str:
    """Return the part of a module's name that has a rank."""
    return module.removeprefix(f"{PACKAGE}.").partition(".")[0]


def _imported_names(source: str, package: str) -> Iterator[str]:
    """Yield the full dotted name of all that a source imports; the last part may be something inside a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """Return the full name of the module that a `from ... import` starts at."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    parents = parents[: len(parents) - node.level + 1]
    return ".".join((*parents, node.module) if node.module else parents)


def _innermost_module(name: str, modules: set[str]) -> str:
    """Return the longest beginning of a dotted name that is a module of the package, or nothing."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name
