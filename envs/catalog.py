"""Registry entries of the built-in families; a family's module is imported on first use."""

from __future__ import annotations

from metarl.registry import Entry
from metarl.tasks.registry import FAMILIES, register_gymnasium_id

from .metaworld.tasks import VARIANTS as METAWORLD_VARIANTS


def _add(name: str, module: str, description: str, *variants: str) -> None:
    FAMILIES.register(Entry(name, f"metarl.envs.{module}:{name}", description, variants))
    register_gymnasium_id(name)


_add("Navigation2D", "navigation.goals", "a point in the plane moves to a hidden goal", "maml17")
_add(
    "PointRobot", "navigation.goals", "a point moves from a random start to a hidden goal", "pearl"
)
_add(
    "SparsePointRobot",
    "navigation.sparse_goals",
    "a point searches for a hidden goal on a half circle, rewarded only near it",
    *("pearl", "varibad", "borel", "metacure"),
)
_add(
    "CornerPoint",
    "navigation.sparse_goals",
    "a point searches for the one of four corners that gives reward",
    "promp",
)
_add(
    "WindyPoint",
    "navigation.windy",
    "a point moves to a known goal in an unknown wind",
    "borel",
    "pomdp",
)
_add(
    "GridNavigation",
    "navigation.grids",
    "an agent on a grid searches for a hidden goal cell",
    "varibad",
)
_add(
    "DarkRoom",
    "navigation.grids",
    "an agent in a dark room searches for a hidden goal cell",
    "dpt",
    "ad",
)
_add(
    "KeyToDoor",
    "navigation.grids",
    "an agent in a dark room searches for a key, then for a door",
    "ad",
)
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
_add("ElevenArmBandit", "bandits", "eleven arms, one of which reveals the target arm", "wang16")
_add("TabularMDP", "tabular_mdp", "small random Markov decision processes", "rl2")
_add(
    "HalfCheetahVel",
    "locomotion.half_cheetah",
    "a planar MuJoCo robot runs at a hidden target velocity",
    *("maml17", "cavia", "pytorch-maml-rl", "garage", "promp", "pearl", "varibad", "amago", "ldm"),
)
_add(
    "HalfCheetahDir",
    "locomotion.half_cheetah",
    "a planar MuJoCo robot runs forward or backward",
    *("maml17", "cavia", "pytorch-maml-rl", "garage", "learn2learn", "promp", "pearl", "varibad"),
)
_add(
    "HalfCheetahDirSparse",
    "locomotion.half_cheetah",
    "a planar MuJoCo robot runs forward or backward, rewarded only far from the start",
    *("hyperx", "hyper"),
)
_add(
    "AntVel",
    "locomotion.ant",
    "a four-legged MuJoCo robot walks at a hidden target velocity",
    *("maml17", "cavia", "pytorch-maml-rl"),
)
_add(
    "AntDir",
    "locomotion.ant",
    "a four-legged MuJoCo robot walks in a hidden direction",
    *(
        "maml17",
        "cavia",
        "pytorch-maml-rl",
        "promp",
        "promp-2d",
        "learn2learn",
        "pearl",
        "pearl-forward-backward",
        "varibad",
        "ldm",
    ),
)
_add(
    "AntGoal",
    "locomotion.ant_goals",
    "a four-legged MuJoCo robot walks to a hidden goal",
    *("maml17", "cavia", "pytorch-maml-rl", "promp", "pearl", "varibad", "ldm"),
)
_add(
    "AntGoalSparse",
    "locomotion.ant_goals",
    "a four-legged MuJoCo robot searches for a hidden goal, rewarded only near it",
    *("hyperx", "metacure"),
)
_add(
    "HumanoidDir",
    "locomotion.humanoid",
    "a MuJoCo humanoid walks in a hidden direction",
    *("pearl", "promp", "learn2learn"),
)
_add(
    "Walker2DVel",
    "locomotion.walkers",
    "a planar MuJoCo walker walks at a hidden target velocity",
    "promp",
)
_add(
    "Walker2DDir",
    "locomotion.walkers",
    "a planar MuJoCo walker walks forward or backward",
    "promp",
)
_add(
    "SwimmerVel",
    "locomotion.walkers",
    "a planar MuJoCo swimmer swims at a hidden target velocity",
    "promp",
)
_add(
    "Walker2DRandParams",
    "locomotion.random_dynamics",
    "a planar MuJoCo walker with hidden masses, damping and friction",
    "pearl",
)
_add(
    "HopperRandParams",
    "locomotion.random_dynamics",
    "a planar MuJoCo hopper with hidden masses, damping and friction",
    "pearl",
)
_add("CartPoleMass", "classic_control", "CartPole with hidden masses", "rllib")
_add("PendulumMass", "classic_control", "Pendulum with a hidden mass", "rllib")
_add(
    "MetaWorld",
    "metaworld.families",
    "Meta-World manipulation tasks with hidden goals (needs metarl-toolkit[metaworld])",
    *METAWORLD_VARIANTS,
)
