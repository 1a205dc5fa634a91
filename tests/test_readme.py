"""The README keeps its promises: it is short, starts with an example, and all that it shows works."""

import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MAX_LINES = 250
FIRST_EXAMPLE_BEFORE_LINE = 31

FENCE = re.compile(r"^(?P<indent> *)```python *\n(?P<code>.*?)^(?P=indent)``` *$", re.MULTILINE | re.DOTALL)
MARKER = re.compile(r"<!-- not executed:(?P<reason>.*?)-->\s*\Z", re.DOTALL)
SHOWN_COMMAND = re.compile(r"(?:`|^ *(?:\$ )?)make +(?P<target>[a-z]+)", re.MULTILINE)
MAKEFILE_TARGET = re.compile(r"^(?P<target>[a-z]+):", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A Python block of the README: where it starts, its code, and why it isn't executed, if it isn't."""

    line: int
    code: str
    skip_reason: str | None


def find_examples(text: str) -> list[Example]:
    """Return all Python blocks of a Markdown text in their order."""
    examples = []
    for fence in FENCE.finditer(text):
        marker = MARKER.search(text, 0, fence.start())
        reason = marker["reason"].strip() if marker else None
        line = text.count("\n", 0, fence.start()) + 1
        if reason == "":
            message = f"line {line}: a block that isn't executed needs a reason"
            raise ValueError(message)
        examples.append(Example(line, textwrap.dedent(fence["code"]), reason))
    return examples


def execute(example: Example, directory: Path) -> None:
    """Run an example as a program of its own; it must succeed and have nothing to complain about."""
    # The leading line breaks make a traceback show the README's own line numbers.
    script = directory / f"readme_line_{example.line}.py"
    script.write_text("\n" * example.line + example.code, encoding="utf-8")
    search_path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    run = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": search_path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (run.returncode, run.stderr) == (0, ""), f"README, line {example.line}:\n{run.stderr}"


def read_readme() -> str:
    """Return the README's text; a missing one is reported by a test, and not by an error while tests are collected."""
    return README.read_text(encoding="utf-8") if README.exists() else ""


@pytest.mark.integration
@pytest.mark.parametrize(
    "example",
    [example for example in find_examples(read_readme()) if example.skip_reason is None],
    ids=lambda example: f"line-{example.line}",
)
def test_example_runs(example: Example, tmp_path: Path) -> None:
    """Each example of the README runs by itself, ends well and prints no error or warning."""
    execute(example, tmp_path)


def test_readme_is_short_and_starts_with_an_example() -> None:
    """The README has at most 250 lines, and its first example stands before line 31 and is executed."""
    text = read_readme()
    first = find_examples(text)[0]

    assert len(text.splitlines()) <= MAX_LINES
    assert first.line < FIRST_EXAMPLE_BEFORE_LINE
    assert first.skip_reason is None


def test_commands_exist() -> None:
    """Every make target that the README names is one that the Makefile has."""
    shown = {match["target"] for match in SHOWN_COMMAND.finditer(read_readme())}
    targets = {match["target"] for match in MAKEFILE_TARGET.finditer((ROOT / "Makefile").read_text(encoding="utf-8"))}

    assert {"demo", "test"} <= shown
    assert shown <= targets


def test_blocks_are_found() -> None:
    """Blocks are found with their lines, indented ones too; other languages don't count, and a marker has a reason."""
    text = textwrap.dedent("""\
        # Title
        ```python
        first = 1
        ```
        ```console
        $ make demo
        ```
        - A list

          <!-- not executed: needs a sensor -->
          ```python
          if first:
              second = 2
          ```
        """)

    assert find_examples(text) == [
        Example(2, "first = 1\n", None),
        Example(11, "if first:\n    second = 2\n", "needs a sensor"),
    ]


def test_marker_needs_a_reason() -> None:
    """A block can't be taken out without saying why."""
    with pytest.raises(ValueError, match=r"line 2: .* needs a reason"):
        find_examples("<!-- not executed: -->\n```python\nbroken(\n```\n")


def test_marker_holds_for_one_block() -> None:
    """A marker takes out the block right after it, and no later one."""
    text = "<!-- not executed: slow -->\n```python\n1\n```\n\n```python\n2\n```\n"

    assert [example.skip_reason for example in find_examples(text)] == ["slow", None]


@pytest.mark.parametrize(
    "code",
    ["raise SystemExit(1)", "undefined", "import warnings; warnings.warn('old')", "open(__file__)"],
    ids=["exit-status", "exception", "warning", "resource-warning"],
)
def test_broken_example_fails(code: str, tmp_path: Path) -> None:
    """An example that fails, warns or leaves something open doesn't pass."""
    with pytest.raises(AssertionError, match="README, line 7"):
        execute(Example(7, code, None), tmp_path)
