"""Uses an installed `batcher` once, to prove that the distribution is whole."""

import sys
from importlib.metadata import files, version
from pathlib import Path

import batcher


def double(numbers: list[int]) -> list[int]:
    """Return each number doubled."""
    return [2 * number for number in numbers]


assert Path(batcher.__file__).is_relative_to(sys.prefix), f"imported from {batcher.__file__}, not from the wheel"

shipped = {file.parts[0] for file in files("thread-batcher") or ()}
metadata = f"thread_batcher-{version('thread-batcher')}.dist-info"
assert shipped == {"batcher", metadata}, f"the wheel ships {sorted(shipped)}"
assert Path(batcher.__file__).with_name("py.typed").exists(), "the wheel has no py.typed"

with batcher.Batcher(double) as doubler:
    assert doubler.add(21).result(timeout=5) == 42

print(f"The wheel works on Python {sys.version.split()[0]}.")
