"""The public names of `metarl`: each exists, and equals the object that type checkers see."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import metarl

SOURCE = ast.parse(Path(metarl.__file__).read_text(encoding="utf-8"))
TYPED = {
    alias.asname or alias.name: (node.module, alias.name)
    for block in SOURCE.body
    if isinstance(block, ast.If)
    for node in block.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}


@pytest.mark.parametrize("name", sorted({*metarl.__all__} - {"report"}))
def test_a_public_name_is_the_object_that_type_checkers_see(name):
    module, attribute = TYPED[name]
    assert getattr(metarl, name) is getattr(import_module(module), attribute)


def test_all_public_names_are_listed():
    assert set(metarl.__all__) == set(TYPED)
    assert set(metarl.__all__) <= set(dir(metarl))
    assert callable(metarl.report)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'metarl' has no attribute 'trian'"):
        metarl.trian  # noqa: B018
