"""The catalog: every listed family exists and is sound, and families of a user can be added."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import pytest

sys.path.append(str(Path(__file__).parents[1] / "support"))

from sound_families import Walk

from metarl.envs import FAMILIES, family_ids, make_family, register_family
from metarl.envs.simulators.gymnasium_family import GymnasiumFamily
from metarl.soundness.check import check_family
from metarl.tasks.family import TaskFamily

IDS = family_ids()
NAMES = [entry.name for entry in FAMILIES]


def made(family_id: str) -> TaskFamily:
    """The family; MetaWorld needs a package that may be missing."""
    if family_id.startswith("MetaWorld:"):
        pytest.importorskip("metaworld")
    return make_family(family_id)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restores the registry after the test."""
    monkeypatch.setattr(FAMILIES, "_entries", dict(FAMILIES._entries))
    before = set(gymnasium.registry)
    yield
    for env_id in set(gymnasium.registry) - before:
        del gymnasium.registry[env_id]


def register_walk(name: str = "Walk", factory: object = Walk, **settings: object) -> None:
    given = {"description": "a point walks on a line", "variants": ("plain",), **settings}
    register_family(name, factory, **given)


# Every family of the catalog.


@pytest.mark.parametrize("family_id", IDS)
def test_every_family_is_sound(family_id):
    family = made(family_id)
    if isinstance(family, GymnasiumFamily):
        family.num_workers = 0  # starting processes takes seconds; they have tests of their own
    num_tasks = 2 if family.horizon >= 500 else 3
    checks = check_family(family, num_tasks=num_tasks, num_envs=2)
    assert [check for check in checks if check.outcome == "failed"] == []


@pytest.mark.parametrize("family_id", IDS)
def test_every_family_describes_itself(family_id):
    family = made(family_id)
    assert family.id == family_id
    for text in (family.task_description, family.observation_description, family.source):
        assert text == text.strip() != ""
    for text in (family.description, family.warning, *family.splits):
        assert "\n" not in text
    assert not family.warning.endswith(".")  # it becomes part of a sentence
    assert {"train", "test"} <= set(family.splits)


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_is_listed_where_the_family_is_defined_and_in_the_catalog(name):
    entry = FAMILIES.get(name)
    made(f"{name}:{entry.variants[0]}")  # or skipped
    assert entry.load().variants == entry.variants
    assert entry.load().name == name


@pytest.mark.parametrize("name", NAMES)
def test_the_class_rejects_an_unknown_variant(name):
    first = FAMILIES.get(name).variants[0]
    made(f"{name}:{first}")
    wrong = f"{first}x"
    message = re.escape(f"got {wrong!r}; did you mean {first!r}?")
    with pytest.raises(ValueError, match=rf"^variant of {name} must be one of .*{message}$"):
        FAMILIES.load(name)(wrong)


def test_ids_are_all_families_and_variants_in_the_catalog_s_order():
    assert len(set(IDS)) == len(IDS) >= 81
    assert IDS[0] == "Navigation2D:maml17"
    assert [name for name in NAMES if not any(i.startswith(f"{name}:") for i in IDS)] == []


# Naming a family.


@pytest.mark.parametrize(
    ("family_id", "message"),
    [
        ("Navigation:maml17", r"environment must be one of .*; did you mean 'Navigation2D'\?"),
        ("", "environment must be one of .*, got ''"),
        (
            "WindyPoint:bored",
            r"^variant of WindyPoint must be one of borel, pomdp, got 'bored'; "
            r"did you mean 'borel'\?$",
        ),
        (
            "WindyPoint",
            "environment must name its variant, one of WindyPoint:borel, WindyPoint:pomdp, "
            "got 'WindyPoint'",
        ),
        ("Navigation2D:", "environment must name its variant, one of Navigation2D:maml17"),
        ("Navigation2D:maml17+goal", r"only '\+task' may follow a variant, got 'Navigation2D:"),
        ("Navigation2D:maml17+", r"only '\+task' may follow a variant, got 'Navigation2D:"),
    ],
)
def test_an_unknown_id_is_rejected_with_the_choices(family_id, message):
    with pytest.raises(ValueError, match=message):
        make_family(family_id)


# Families of a user.


@pytest.mark.usefixtures("registry")
def test_a_registered_family_is_made_by_its_id_and_listed():
    register_walk()
    assert isinstance(make_family("Walk:plain"), Walk)
    assert make_family("Walk:plain+task").id == "Walk:plain+task"
    assert family_ids()[-1] == "Walk:plain"
    assert FAMILIES.get("Walk").description == "a point walks on a line"


@pytest.mark.usefixtures("registry")
def test_a_registered_family_may_be_a_module_attribute_or_a_function():
    register_walk(factory="broken_families:Walk")
    assert type(make_family("Walk:plain")).__name__ == "Walk"
    calls = []

    def make(variant: str) -> Walk:
        calls.append(variant)
        return Walk()

    register_walk("Walk2", make, variants=["plain"])
    with pytest.raises(ValueError, match="the family of Walk2:plain calls itself 'Walk:plain'; "):
        make_family("Walk2:plain")
    assert calls == ["plain"]


@pytest.mark.usefixtures("registry")
def test_gymnasium_knows_a_registered_family():
    register_walk()
    env = gymnasium.make("metarl/Walk-v0", variant="plain")
    assert env.observation_space == Walk.observation_space
    env.close()


def walk_with(**changes: object) -> Callable[[str], Walk]:
    def make(variant: str) -> Walk:
        family = Walk()
        vars(family).update({"variant": variant, **changes})
        return family

    return make


@pytest.mark.usefixtures("registry")
def test_a_family_with_another_name_than_the_registered_one_is_rejected():
    register_walk(factory=walk_with(variant="other"))
    message = (
        "the family of Walk:plain calls itself 'Walk:other'; its `name` and `variant` "
        "must be those it is registered under"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        make_family("Walk:plain")


@pytest.mark.usefixtures("registry")
def test_other_objects_than_families_are_rejected():
    register_walk(factory=str)
    with pytest.raises(TypeError, match=r"^Walk must give a TaskFamily, got str$"):
        make_family("Walk:plain")


def broken(variant: str) -> None:
    raise RuntimeError(f"no {variant}")


def leaving(variant: str) -> None:
    del variant
    raise SystemExit(0)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("factory", "reason"), [(broken, "RuntimeError: no plain"), (leaving, "SystemExit: 0")]
)
def test_a_factory_that_fails_is_named(factory, reason):
    register_walk(factory=factory)
    place = r" \(test_catalog\.py, line \d+\)"
    message = f"^the factory of Walk:plain failed with {reason}{place}$"
    with pytest.raises(TypeError, match=message):
        make_family("Walk:plain")


@pytest.mark.usefixtures("registry")
def test_a_class_that_is_not_in_its_module_is_named():
    register_walk(factory="broken_families:Wlak")
    with pytest.raises(ImportError, match=r"^Walk: module 'broken_families' has no 'Wlak'$"):
        make_family("Walk:plain")


WRONG = [
    ({"name": "Navigation2D"}, "environment 'Navigation2D' is registered already"),
    ({"name": ""}, "name must hold letters, digits, '_', '-' and '.' only, got ''"),
    ({"name": "My:Walk"}, "name must hold letters, .* only, got 'My:Walk'"),
    ({"name": "My+Walk"}, "name must hold letters, .* only, got 'My[+]Walk'"),
    ({"name": "My Walk"}, "name must hold letters, .* only, got 'My Walk'"),
    ({"variants": ()}, "variants of Walk must name at least one variant, got none"),
    ({"variants": ("a", "b", "a")}, "variants of Walk must differ, got a, b, a"),
    ({"variants": ("a", "b+c")}, "variants of Walk must hold letters, .* only, got 'b[+]c'"),
    ({"variants": ("",)}, "variants of Walk must hold letters, .* only, got ''"),
    ({"factory": "broken_families.Walk"}, "entry_point must read 'module:attribute', got 'broken"),
]


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_invalid_entries_are_not_registered(settings, message):
    before = family_ids()
    with pytest.raises(ValueError, match=f"^{message}"):
        register_walk(**settings)
    assert family_ids() == before


@pytest.mark.usefixtures("registry")
def test_variants_must_not_be_a_string():
    message = "^variants of Walk must be a sequence of names, got 'plain'$"
    with pytest.raises(TypeError, match=message):
        register_walk(variants="plain")
