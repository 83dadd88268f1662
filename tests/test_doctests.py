"""The examples in the docstrings are correct."""

import doctest
import importlib
import pkgutil

import pytest

import metarl

MODULES = [
    module.name
    for package in ("metarl", "metarl.envs", "metarl.agents", "metarl.scripts")
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    if not module.ispkg
    and not any(f".examples.{word}_" in module.name for word in ("my", "family"))  # they register
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_some_module_has_an_example():
    finder = doctest.DocTestFinder()
    examples = [t for t in finder.find(importlib.import_module("metarl.validation")) if t.examples]
    assert examples
    assert metarl.__doc__
