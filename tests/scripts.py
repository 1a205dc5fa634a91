"""Run a program in a fresh interpreter, on every Python that this machine has, and see how it ends."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
# A program that takes longer hangs.
SECONDS = 20.0

# What every program begins with: a handler that shows each item as it is delivered.
PREAMBLE = """
import atexit, multiprocessing, os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from batcher import Batcher, BatcherClosedError

def show(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def deliver(items):
    for item in items:
        show(item)

def hang(items):
    deliver(items)
    threading.Event().wait()
"""


@dataclass(frozen=True)
class Ending:
    """How a program ended."""

    code: int
    lines: list[str]
    errors: str
    seconds: float


@functools.cache
def interpreter(version: str) -> str:
    """Return the path of a Python of that version; skip the test where there is none."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return sys.executable
    pyenv = shutil.which("pyenv")
    if pyenv is not None:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip()
        for path in sorted(Path(root, "versions").glob(f"{version}.*/bin/python"), reverse=True):
            return str(path)
    pytest.skip(f"this machine has no Python {version}")


def run_script(program: str, directory: Path, *, version: str | None = None, preamble: str = PREAMBLE) -> Ending:
    """Run a program in a file of its own, as `spawn` needs it, and return how it ended."""
    path = directory / "program.py"
    path.write_text(preamble + textwrap.dedent(program))
    python = sys.executable if version is None else interpreter(version)
    began = time.monotonic()
    ended = subprocess.run(
        [python, "-W", "error::ResourceWarning", str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return Ending(ended.returncode, ended.stdout.split(), ended.stderr, time.monotonic() - began)
