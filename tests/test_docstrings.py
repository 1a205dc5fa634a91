"""The examples in docstrings work."""

import doctest
import importlib

import pytest

import batcher
from tests.import_ranks import package_sources
from tests.test_house import ROOT

MODULES = sorted(name.removesuffix(".") for name in package_sources(ROOT / "batcher"))


@pytest.mark.parametrize("name", MODULES)
def test_examples_work(name: str) -> None:
    """Each example in a docstring gives what it shows."""
    result = doctest.testmod(importlib.import_module(name))

    assert result.failed == 0


@pytest.mark.parametrize("name", ["Batcher", "batched"])
def test_main_names_have_an_example(name: str) -> None:
    """What most users start with is explained by an example that is executed."""
    examples = doctest.DocTestFinder(recurse=False).find(getattr(batcher, name), name)

    assert any(test.examples for test in examples)
