"""Which task families there are; nothing is imported until a family is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

from metarl.known_task import KnownTask
from metarl.registry import Entry, Registry
from metarl.suggestions import unknown_name
from metarl.tasks import TaskFamily

from .gymnasium_ids import gymnasium_id, register_gymnasium_id
from .metaworld_tasks import VARIANTS as METAWORLD_VARIANTS

__all__ = ["FAMILIES", "family_ids", "make_family", "register_family"]

_PLUGIN_GROUP = "metarl.families"

FAMILIES = Registry("environment")


def _add(name: str, module: str, description: str, *variants: str) -> None:
    FAMILIES.register(Entry(name, f"metarl.envs.{module}:{name}", description, variants))
    register_gymnasium_id(name)


_add("Navigation2D", "navigation", "a point in the plane walks to a hidden goal", "maml17")
_add("PointRobot", "navigation", "a point walks from anywhere to a hidden goal", "pearl")
_add(
    "SparsePointRobot",
    "point_robots",
    "a point looks for a hidden goal on a half circle, paid near it only",
    *("pearl", "varibad", "borel", "metacure"),
)
_add("CornerPoint", "point_robots", "a point looks for the one paid corner of four", "promp")
_add("WindyPoint", "windy_point", "a point walks to a known goal in unknown wind", "borel", "pomdp")
_add("GridNavigation", "grids", "a walker looks for a hidden goal cell", "varibad")
_add("DarkRoom", "grids", "a walker in the dark looks for a hidden goal cell", "dpt", "ad")
_add("KeyToDoor", "grids", "a walker in the dark looks for a key, then for a door", "ad")
_add(
    "Bandit",
    "bandits",
    "independent Bernoulli arms",
    *(f"n{pulls}-k{arms}" for pulls in (10, 100, 500) for arms in (5, 10, 50)),
)
_add(
    "DependentBandit",
    "bandits",
    "two arms whose probabilities depend on each other",
    *("independent", "uniform", "easy", "medium", "hard"),
)
_add("ElevenArmBandit", "bandits", "eleven arms, one of which tells where the target is", "wang16")
_add("TabularMDP", "tabular_mdp", "small random Markov decision processes", "rl2")
_add(
    "HalfCheetahVel",
    "half_cheetah",
    "a planar runner on MuJoCo keeps a hidden target velocity",
    *("maml17", "cavia", "pytorch-maml-rl", "garage", "promp", "pearl", "varibad", "amago", "ldm"),
)
_add(
    "HalfCheetahDir",
    "half_cheetah",
    "a planar runner on MuJoCo runs forward or backward",
    *("maml17", "pytorch-maml-rl", "garage", "learn2learn", "promp", "pearl", "varibad"),
)
_add(
    "HalfCheetahDirSparse",
    "half_cheetah",
    "a planar runner on MuJoCo runs forward or backward, paid only far out",
    *("hyperx", "hyper"),
)
_add(
    "AntVel",
    "ant",
    "a four-legged robot on MuJoCo keeps a hidden target velocity",
    *("maml17", "pytorch-maml-rl"),
)
_add(
    "AntDir",
    "ant",
    "a four-legged robot on MuJoCo runs in a hidden direction",
    *("maml17", "pytorch-maml-rl", "promp", "promp-2d", "learn2learn", "pearl", "varibad", "ldm"),
)
_add(
    "AntGoal",
    "ant_goals",
    "a four-legged robot on MuJoCo walks to a hidden goal",
    *("maml17", "pytorch-maml-rl", "promp", "pearl", "varibad", "ldm"),
)
_add(
    "AntGoalSparse",
    "ant_goals",
    "a four-legged robot on MuJoCo looks for a hidden goal, paid near it only",
    *("hyperx", "metacure"),
)
_add(
    "HumanoidDir",
    "humanoid",
    "a humanoid on MuJoCo walks in a hidden direction",
    *("pearl", "promp", "learn2learn"),
)
_add("Walker2DVel", "walkers", "a planar walker on MuJoCo keeps a hidden velocity", "promp")
_add("Walker2DDir", "walkers", "a planar walker on MuJoCo walks forward or backward", "promp")
_add("SwimmerVel", "walkers", "a planar swimmer on MuJoCo keeps a hidden velocity", "promp")
_add(
    "Walker2DRandParams",
    "random_dynamics",
    "a planar walker on MuJoCo whose masses, damping and friction are hidden",
    "pearl",
)
_add(
    "HopperRandParams",
    "random_dynamics",
    "a planar hopper on MuJoCo whose masses, damping and friction are hidden",
    "pearl",
)
_add("CartPoleMass", "classic_control", "CartPole with hidden masses", "rllib")
_add("PendulumMass", "classic_control", "Pendulum with a hidden mass", "rllib")
_add(
    "MetaWorld",
    "metaworld",
    "manipulation tasks of Meta-World, goals hidden (needs metarl-toolkit[metaworld])",
    *METAWORLD_VARIANTS,
)


def register_family(
    name: str,
    factory: Callable[[str], TaskFamily] | str,
    *,
    description: str,
    variants: Sequence[str],
) -> None:
    """Make a family of your own known by name, as `make_family` and the command line use it.

    Gymnasium knows it as "metarl/NAME-v0".

    Args:
        name: of the family, without a colon.
        factory: gives the family of a variant: its class, a function, or "module:attribute",
            which is imported when the family is first made.
        description: one line.
        variants: the variants' names, one or more.

    Raises:
        ValueError: if the name is taken or not one that ids can hold, or no variant is named, one
            twice, or one that ids cannot hold.
        TypeError: if `variants` is a string.
    """
    gymnasium_id(name)  # refuses a name that Gymnasium could not read
    names = _variant_names(name, variants)
    FAMILIES.register(Entry(name, factory, description, names))
    register_gymnasium_id(name)


def _variant_names(family: str, variants: Sequence[str]) -> tuple[str, ...]:
    if isinstance(variants, str):
        raise TypeError(f"variants of {family} must be a sequence of names, got {variants!r}")
    names = tuple(variants)
    if not names:
        raise ValueError(f"variants of {family} must name one variant or more, got none")
    for variant in names:
        if not re.fullmatch(r"[\w.-]+", variant):
            raise ValueError(
                f"variants of {family} must hold letters, digits, '_', '-' and '.' only, "
                f"got {variant!r}"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"variants of {family} must differ, got {', '.join(names)}")
    return names


def family_ids() -> tuple[str, ...]:
    """The ids of all registered families and variants, those of installed packages included."""
    _load_plugins()
    return tuple(f"{entry.name}:{variant}" for entry in FAMILIES for variant in entry.variants)


def make_family(family_id: str) -> TaskFamily:
    """The task family of an id "Family:variant"; with "+task" behind it, the task is observed.

    >>> make_family("Navigation2D:maml17").horizon
    100

    Raises:
        ValueError: if the family or the variant is unknown, or no variant is named: one name
            stands for several tasks in the literature, so there is no default; or if the family
            calls itself otherwise than it is registered, as its results could then not be found.
        ImportError: if it needs a package that is not installed.
        TypeError: if what is registered gives no `TaskFamily`.
    """
    name, _, rest = family_id.partition(":")
    variant, plus, suffix = rest.partition("+")
    if name not in FAMILIES:
        _load_plugins()
    entry = FAMILIES.get(name)
    if not variant:
        choices = ", ".join(f"{name}:{v}" for v in entry.variants)
        raise ValueError(f"environment must name its variant, one of {choices}, got {family_id!r}")
    if variant not in entry.variants:
        raise ValueError(unknown_name(f"variant of {name}", variant, entry.variants))
    if plus and suffix != "task":
        raise ValueError(f"only '+task' may follow a variant, got {family_id!r}")
    family = entry.load()(variant)
    if not isinstance(family, TaskFamily):
        raise TypeError(f"{name} must give a TaskFamily, got {type(family).__name__}")
    if family.id != f"{name}:{variant}":
        raise ValueError(
            f"the family of {name}:{variant} calls itself {family.id!r}; its `name` and `variant` "
            "must be those it is registered under"
        )
    return KnownTask(family) if plus else family


def _load_plugins() -> None:
    """Import what installed packages name in the entry-point group "metarl.families".

    Raises:
        ImportError: if that fails, with the package's name.
    """
    for plugin in entry_points(group=_PLUGIN_GROUP):
        try:
            plugin.load()
        except Exception as error:  # the package's own code may fail in any way
            package = plugin.dist.name if plugin.dist else plugin.value
            raise ImportError(
                f"families of package {package!r} could not be imported "
                f"({type(error).__name__}: {error}); repair or uninstall it"
            ) from error
