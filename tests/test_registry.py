"""Registries: order, lookup, lazy import, and their errors."""

import fractions
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from metarl import registry as registry_module
from metarl.registry import Entry, Registry, import_module

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


def test_nothing_is_imported_before_it_is_loaded():
    registry = Registry("thing", (MISSING,))
    assert registry.get("Missing") is MISSING
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_ours"):
        registry.load("Missing")


def test_an_object_may_be_registered():
    registry = Registry("thing", (Entry("Fraction", fractions.Fraction, "a ratio"),))
    assert registry.load("Fraction") is fractions.Fraction


def test_a_missing_attribute_of_a_module_is_named():
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
def test_an_unknown_name_is_rejected_with_the_nearest(ask):
    registry = Registry("thing", (MISSING, FRACTION))
    message = "thing must be one of Missing, Fraction, got 'fractoin'; did you mean 'Fraction'"
    with pytest.raises(ValueError, match=message):
        getattr(registry, ask)("fractoin")


def test_a_name_is_registered_once():
    registry = Registry("thing", (FRACTION,))
    with pytest.raises(ValueError, match="thing 'Fraction' is registered already"):
        registry.register(Entry("Fraction", "fractions:Other", "a second one"))
    assert registry.get("Fraction") is FRACTION


@pytest.mark.parametrize(
    ("name", "description", "error", "message"),
    [
        (None, "x", TypeError, "name of the thing must be a string, got None"),
        ("", "x", ValueError, "name of the thing must hold letters.*got ''"),
        ("a/b", "x", ValueError, "name of the thing must hold letters.*got 'a/b'"),
        ("fewshot-maml", "x", ValueError, "not begin with fewshot-, got 'fewshot-maml'"),
        ("a", None, TypeError, "description of thing 'a' must be a string, got None"),
    ],
)
def test_names_and_descriptions_that_lists_and_files_cannot_hold_are_rejected(
    name, description, error, message
):
    registry = Registry("thing")
    with pytest.raises(error, match=message):
        registry.register(Entry(name, "math:sqrt", description))
    assert not list(registry)


@pytest.mark.parametrize("entry_point", ["fractions.Fraction", "a:b:c", ""])
def test_an_entry_point_is_a_module_and_an_attribute(entry_point):
    message = f"entry_point must read 'module:attribute', got '{entry_point}'"
    with pytest.raises(ValueError, match=message):
        Registry("thing", (Entry("Thing", entry_point, "broken"),))


# Entries of installed packages.

TAKEN = Entry("Fraction", "fractions:Fraction", "built in")
THEIRS = Entry("Theirs", "decimal:Decimal", "of another package")
GROUP = "metarl.things"


class Plugin:
    """An entry point whose import runs a function; only the first load does, as for a module."""

    def __init__(self, package: str, run: Callable[[], object], value: str = "their.things"):
        self.dist, self.value, self._run = SimpleNamespace(name=package), value, run
        self.num_loads = 0

    def load(self) -> None:
        self.num_loads += 1
        self._run()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Plugin]]:
    """Entry points of the group."""
    points: list[Plugin] = []
    monkeypatch.setattr(registry_module, "_GROUPS", {})
    monkeypatch.setattr(
        registry_module, "entry_points", lambda group: points if group == GROUP else []
    )
    return points


def fail() -> None:
    raise RuntimeError("no license")


def test_entries_of_installed_packages_are_loaded_once_at_the_first_lookup(installed):
    things = Registry("thing", group=GROUP)
    plugin = Plugin("theirs", lambda: things.register(THEIRS))
    installed.append(plugin)
    things.register(Entry("Mine", "fractions:Fraction", "of a script"))
    assert plugin.num_loads == 0
    assert [entry.name for entry in things] == ["Mine", "Theirs"]
    assert "Theirs" in things
    assert things.get("Theirs") is THEIRS
    assert plugin.num_loads == 1


def test_built_in_entries_come_first_and_a_package_that_takes_their_name_is_reported(
    installed, caplog
):
    things = Registry("thing", group=GROUP)
    thief = Plugin("thief", lambda: things.register(Entry("Fraction", "a:b", "stolen")), "a.things")
    built_in = Plugin("metarl-toolkit", lambda: things.register(TAKEN), "metarl.things")
    installed += [thief, built_in]
    assert things.get("Fraction") is TAKEN
    assert [failure.package for failure in things.failures] == ["thief"]
    assert caplog.messages == [
        "warning: package 'thief' could not be loaded (ValueError: thing 'Fraction' is registered "
        "already); repair or uninstall it"
    ]


def test_registering_a_built_in_name_is_an_error(installed):
    things = Registry("thing", group=GROUP)
    installed.append(Plugin("metarl-toolkit", lambda: things.register(TAKEN), "metarl.things"))
    with pytest.raises(ValueError, match="thing 'Fraction' is registered already"):
        things.register(Entry("Fraction", "a:b", "stolen"))
    assert things.get("Fraction") is TAKEN


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (fail, "RuntimeError: no license"),
        (lambda: sys.exit(0), "SystemExit: 0"),
        (lambda: __import__("no_such_module_of_ours"), "ModuleNotFoundError: No module named"),
    ],
)
def test_a_broken_package_is_reported_in_one_line_and_the_others_are_loaded(
    installed, caplog, run, reason
):
    things, parts = Registry("thing", (TAKEN,), group=GROUP), Registry("part", group=GROUP)

    def register_and_fail() -> None:
        things.register(Entry("Broken", "a:b", "of the broken package"))
        parts.register(Entry("Half", "a:b", "of the broken package"))
        run()

    broken = Plugin("broken", register_and_fail, "broken.things")
    installed += [broken, Plugin("theirs", lambda: things.register(THEIRS))]
    assert [entry.name for entry in things] == ["Fraction", "Theirs"]
    assert list(parts) == []
    assert broken.num_loads == 1
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"warning: package 'broken' could not be loaded ({reason}")
    with pytest.raises(ImportError, match=r"^thing 'Broken' is not available: package 'broken' co"):
        things.load("Broken")
    message = r"thing must be one of Fraction, Theirs, got 'Thiers'; did you mean 'Theirs'\?; pack"
    with pytest.raises(ValueError, match=message):
        things.get("Thiers")


def test_a_broken_built_in_package_is_not_hidden(installed):
    installed.append(Plugin("metarl-toolkit", fail, "metarl.things"))
    with pytest.raises(RuntimeError, match="no license"):
        list(Registry("thing", group=GROUP))


def test_a_lookup_while_a_package_loads_does_not_load_it_again(installed):
    things = Registry("thing", (TAKEN,), group=GROUP)
    plugin = Plugin("theirs", lambda: things.register(THEIRS) or list(things))
    installed.append(plugin)
    assert [entry.name for entry in things] == ["Fraction", "Theirs"]
    assert plugin.num_loads == 1


def test_stale_metadata_that_names_a_package_twice_is_harmless(installed):
    things = Registry("thing", group=GROUP)
    installed += [Plugin("theirs", lambda: things.register(THEIRS)) for _ in range(2)]
    assert [entry.name for entry in things] == ["Theirs"]


def test_an_entry_whose_module_exits_is_an_import_error(monkeypatch, tmp_path):
    (tmp_path / "exiting_module.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("thing", (Entry("Exits", "exiting_module:Thing", "exits"),))
    with pytest.raises(
        ImportError, match=r"^Exits: module 'exiting_module' failed \(SystemExit: 0\)$"
    ):
        registry.load("Exits")
    with pytest.raises(ValueError, match="module 'exiting_module' failed: SystemExit: 0"):
        import_module("exiting_module", option="--import")
