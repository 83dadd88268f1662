"""The built-in families; each is imported when it is made."""

from __future__ import annotations

from metarl.registry import Entry
from metarl.tasks.registry import FAMILIES, register_gymnasium_id

from .metaworld.tasks import VARIANTS as METAWORLD_VARIANTS


def _add(name: str, module: str, description: str, *variants: str) -> None:
    FAMILIES.register(Entry(name, f"metarl.envs.{module}:{name}", description, variants))
    register_gymnasium_id(name)


_add("Navigation2D", "navigation.goals", "a point in the plane walks to a hidden goal", "maml17")
_add("PointRobot", "navigation.goals", "a point walks from anywhere to a hidden goal", "pearl")
_add(
    "SparsePointRobot",
    "navigation.sparse_goals",
    "a point looks for a hidden goal on a half circle, paid near it only",
    *("pearl", "varibad", "borel", "metacure"),
)
_add(
    "CornerPoint",
    "navigation.sparse_goals",
    "a point looks for the one paid corner of four",
    "promp",
)
_add(
    "WindyPoint",
    "navigation.windy",
    "a point walks to a known goal in unknown wind",
    "borel",
    "pomdp",
)
_add("GridNavigation", "navigation.grids", "a walker looks for a hidden goal cell", "varibad")
_add(
    "DarkRoom", "navigation.grids", "a walker in the dark looks for a hidden goal cell", "dpt", "ad"
)
_add("KeyToDoor", "navigation.grids", "a walker in the dark looks for a key, then for a door", "ad")
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
    "locomotion.half_cheetah",
    "a planar runner on MuJoCo keeps a hidden target velocity",
    *("maml17", "cavia", "pytorch-maml-rl", "garage", "promp", "pearl", "varibad", "amago", "ldm"),
)
_add(
    "HalfCheetahDir",
    "locomotion.half_cheetah",
    "a planar runner on MuJoCo runs forward or backward",
    *("maml17", "pytorch-maml-rl", "garage", "learn2learn", "promp", "pearl", "varibad"),
)
_add(
    "HalfCheetahDirSparse",
    "locomotion.half_cheetah",
    "a planar runner on MuJoCo runs forward or backward, paid only far out",
    *("hyperx", "hyper"),
)
_add(
    "AntVel",
    "locomotion.ant",
    "a four-legged robot on MuJoCo keeps a hidden target velocity",
    *("maml17", "pytorch-maml-rl"),
)
_add(
    "AntDir",
    "locomotion.ant",
    "a four-legged robot on MuJoCo runs in a hidden direction",
    *("maml17", "pytorch-maml-rl", "promp", "promp-2d", "learn2learn", "pearl", "varibad", "ldm"),
)
_add(
    "AntGoal",
    "locomotion.ant_goals",
    "a four-legged robot on MuJoCo walks to a hidden goal",
    *("maml17", "pytorch-maml-rl", "promp", "pearl", "varibad", "ldm"),
)
_add(
    "AntGoalSparse",
    "locomotion.ant_goals",
    "a four-legged robot on MuJoCo looks for a hidden goal, paid near it only",
    *("hyperx", "metacure"),
)
_add(
    "HumanoidDir",
    "locomotion.humanoid",
    "a humanoid on MuJoCo walks in a hidden direction",
    *("pearl", "promp", "learn2learn"),
)
_add(
    "Walker2DVel",
    "locomotion.walkers",
    "a planar walker on MuJoCo keeps a hidden velocity",
    "promp",
)
_add(
    "Walker2DDir",
    "locomotion.walkers",
    "a planar walker on MuJoCo walks forward or backward",
    "promp",
)
_add(
    "SwimmerVel",
    "locomotion.walkers",
    "a planar swimmer on MuJoCo keeps a hidden velocity",
    "promp",
)
_add(
    "Walker2DRandParams",
    "locomotion.random_dynamics",
    "a planar walker on MuJoCo whose masses, damping and friction are hidden",
    "pearl",
)
_add(
    "HopperRandParams",
    "locomotion.random_dynamics",
    "a planar hopper on MuJoCo whose masses, damping and friction are hidden",
    "pearl",
)
_add("CartPoleMass", "classic_control", "CartPole with hidden masses", "rllib")
_add("PendulumMass", "classic_control", "Pendulum with a hidden mass", "rllib")
_add(
    "MetaWorld",
    "metaworld.families",
    "manipulation tasks of Meta-World, goals hidden (needs metarl-toolkit[metaworld])",
    *METAWORLD_VARIANTS,
)
