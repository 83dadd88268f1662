"""Registries: order, lookup, lazy import, and their errors."""

import fractions

import pytest

from metarl.registry import Entry, Registry

FRACTION = Entry("Fraction", "fractions:Fraction", "a ratio", ("exact",))
MISSING = Entry("Missing", "no_such_module_of_ours:Thing", "not installed")


def test_entries_come_in_the_order_of_registration():
    registry = Registry("thing", (MISSING, FRACTION))
    registry.register(Entry("Another", "fractions:Decimal", "the last"))
    assert [entry.name for entry in registry] == ["Missing", "Fraction", "Another"]


def test_an_entry_is_found_by_its_name_and_loaded():
    registry = Registry("thing", (MISSING, FRACTION))
    assert registry.get("Fraction") is FRACTION
    assert registry.load("Fraction") is fractions.Fraction


def test_nothing_is_imported_before_it_is_asked_for():
    registry = Registry("thing", (MISSING,))
    assert registry.get("Missing") is MISSING
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_ours"):
        registry.load("Missing")


def test_the_thing_itself_may_be_registered():
    registry = Registry("thing", (Entry("Fraction", fractions.Fraction, "a ratio"),))
    assert registry.load("Fraction") is fractions.Fraction


def test_what_a_module_does_not_hold_is_named():
    registry = Registry("thing", (Entry("Thing", "fractions:Fractoin", "misspelt"),))
    with pytest.raises(ImportError, match=r"^Thing: module 'fractions' has no 'Fractoin'$"):
        registry.load("Thing")


def test_a_registry_knows_its_names():
    registry = Registry("thing", (FRACTION,))
    assert "Fraction" in registry
    assert "Missing" not in registry


def test_registries_do_not_share_entries():
    first, second = Registry("thing"), Registry("thing")
    first.register(FRACTION)
    assert list(second) == []


@pytest.mark.parametrize("ask", ["get", "load"])
def test_an_unknown_name_is_answered_with_the_nearest(ask):
    registry = Registry("thing", (MISSING, FRACTION))
    message = "thing must be one of Missing, Fraction, got 'fractoin'; did you mean 'Fraction'"
    with pytest.raises(ValueError, match=message):
        getattr(registry, ask)("fractoin")


def test_a_name_is_registered_once():
    registry = Registry("thing", (FRACTION,))
    with pytest.raises(ValueError, match="thing 'Fraction' is registered already"):
        registry.register(Entry("Fraction", "fractions:Other", "a second one"))
    assert registry.get("Fraction") is FRACTION


@pytest.mark.parametrize("entry_point", ["fractions.Fraction", "a:b:c", ""])
def test_an_entry_point_is_a_module_and_an_attribute(entry_point):
    message = f"entry_point must read 'module:attribute', got '{entry_point}'"
    with pytest.raises(ValueError, match=message):
        Registry("thing", (Entry("Thing", entry_point, "broken"),))
