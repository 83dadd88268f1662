"""Meta-World's goals, environments and splits, against the package itself."""

import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs.metaworld.families import MetaWorld
from metarl.envs.metaworld.sawyer import _compiled, _Rotation, make_sawyer, set_goal
from metarl.envs.metaworld.tasks import TASK_NAMES, VARIANTS
from metarl.soundness.check import require_sound
from metarl.tasks.registry import FAMILIES

Array = NDArray[np.float64]
Rows = list[tuple[str, Array]]

needs_metaworld = pytest.mark.skipif(find_spec("metaworld") is None, reason="needs metaworld")

# Objects whose pose comes from geometries, bodies and sites; grasps; a moving base; two objects.
SOME_TASKS = ("reach", "pick-place", "door-open", "button-press", "peg-insert-side", "stick-pull")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _log_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """MuJoCo writes a log of its warnings into the working directory."""
    monkeypatch.chdir(tmp_path)


def family(variant: str, num_workers: int = 0) -> MetaWorld:
    made = MetaWorld(variant)
    made.num_workers = num_workers
    return made


@pytest.fixture(scope="module")
def ml10() -> MetaWorld:
    return family("ml10")


@pytest.fixture
def no_hand_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta-World's resets without most of their physics, which goals do not depend on."""
    from metaworld.sawyer_xyz_env import SawyerXYZEnv

    reset_hand = SawyerXYZEnv._reset_hand
    monkeypatch.setattr(SawyerXYZEnv, "_reset_hand", lambda self, **_: reset_hand(self, 1))


def goals_of(made: MetaWorld, split: str) -> Rows:
    """Task name and goal of all tasks of a split, in their order."""
    return [
        (section.task_name, goal)
        for section in made._sections
        if section.split == split
        for goal in section.goals
    ]


def assert_same_goals(ours: Rows, tasks: list[Any]) -> None:
    """The goals of Meta-World's own tasks, bitwise."""
    theirs = [(task.env_name, pickle.loads(task.data)["rand_vec"]) for task in tasks]
    assert [f"{name}-v3" for name, _ in ours] == [name for name, _ in theirs]
    for (_, a), (_, b) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_the_package_the_error_names_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(
        ImportError,
        match=r"^MetaWorld needs the package metaworld: "
        r'pip install "metarl-toolkit\[metaworld\]" \(it pins mujoco 3\.3\.0\)$',
    ):
        MetaWorld("ml10")


def test_an_unknown_variant_is_rejected_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"variant of MetaWorld must .* got 'ml1-reech'; did you "):
        MetaWorld("ml1-reech")


def test_the_catalog_lists_the_variants() -> None:
    assert FAMILIES.get("MetaWorld").variants == VARIANTS
    assert len(VARIANTS) == len(set(VARIANTS)) == 50 + 3 + 6


@needs_metaworld
class TestGoals:
    def test_every_task_of_the_package_has_an_ml1(self) -> None:
        from metaworld import ALL_V3_ENVIRONMENTS

        assert sorted(f"{name}-v3" for name in TASK_NAMES) == sorted(ALL_V3_ENVIRONMENTS)

    def test_goals_of_ml1_equal_the_packages(self) -> None:
        import metaworld

        reach, benchmark = family("ml1-reach"), metaworld.ML1("reach-v3", seed=0)
        assert_same_goals(goals_of(reach, "train"), benchmark.train_tasks)
        assert_same_goals(goals_of(reach, "test"), benchmark.test_tasks)

    @pytest.mark.usefixtures("no_hand_motion")
    def test_goals_of_ml10_equal_the_packages(self, ml10) -> None:
        import metaworld

        benchmark = metaworld.ML10(seed=0)
        assert_same_goals(goals_of(ml10, "train"), benchmark.train_tasks)
        assert_same_goals(goals_of(ml10, "test"), benchmark.test_tasks)

    @pytest.mark.slow
    @pytest.mark.usefixtures("no_hand_motion")
    @pytest.mark.parametrize("name", ["ML25", "ML45"])  # all tasks are in ML45
    def test_goals_of_larger_benchmarks_equal_the_packages(self, name) -> None:
        import metaworld

        ours, benchmark = family(name.lower()), getattr(metaworld, name)(seed=0)
        assert_same_goals(goals_of(ours, "train"), benchmark.train_tasks)
        assert_same_goals(goals_of(ours, "test"), benchmark.test_tasks)

    @pytest.mark.parametrize("variant", ["ml1-push", "ml25"])
    def test_no_goal_is_in_both_splits(self, variant) -> None:
        made = family(variant)
        splits = [
            {(name, *goal.tolist()) for name, goal in goals_of(made, split)}
            for split in made.splits
        ]
        assert not splits[0] & splits[1]

    def test_ml25_warns_of_the_task_in_both_splits(self) -> None:
        assert family("ml25").warning == "basketball is in both splits, with different goals"
        assert family("ml45").warning == ""

    def test_ml1_warns_of_the_package_s_own_id(self) -> None:
        assert "Meta-World/ML1-train uses the test goals" in family("ml1-push").warning

    def test_a_sample_contains_every_section_and_goal_before_one_is_repeated(self, ml10) -> None:
        sampled = ml10.sample_tasks(2 * 500, seed=3)
        for part in (sampled[:500], sampled[500:]):
            assert set(Counter(map(tuple, part)).values()) == {1}
        for start in range(0, 1000, 10):
            assert sorted(sampled[start : start + 10, 0]) == list(range(10))
        assert sorted(set(ml10.sample_tasks(7, split="test", seed=3)[:, 0])) == [10, 11, 12, 13, 14]


def actions(steps: int, num_tasks: int = 1, num_envs: int = 1) -> Tensor:
    sampled = torch.rand(steps, num_tasks, num_envs, 4, generator=generator(1))
    return 2 * sampled - 1


def rollout(env: Any, task: str, steps: int = 40) -> list[Any]:
    """Results of an environment under the scripted policy with noise."""
    from metaworld.policies import ENV_POLICY_MAP

    policy = ENV_POLICY_MAP[f"{task}-v3"]()
    observation, _ = env.reset()
    seen = [observation.tolist()]
    for noise in actions(steps)[:, 0, 0].numpy():
        guided = np.concatenate([observation[:-3], env._target_pos])
        action = policy.get_action(guided).clip(-1, 1)[:4].astype(np.float32) + noise / 4
        observation, reward, _, _, info = env.step(action)
        seen += [observation.tolist(), reward, info]
    return seen


@needs_metaworld
@pytest.mark.filterwarnings("ignore:Constant.s. may be too high:UserWarning")
@pytest.mark.parametrize("reward", ["v2", "v1"])
@pytest.mark.parametrize(
    "name", [n if n in SOME_TASKS else pytest.param(n, marks=pytest.mark.slow) for n in TASK_NAMES]
)
def test_environments_give_the_package_s_numbers_bitwise(name, reward) -> None:
    """The package's class, new, against ours, new and used."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    made = family(f"ml1-{name}")
    ours = make_sawyer(name, reward)
    theirs = ALL_V3_ENVIRONMENTS[f"{name}-v3"](reward_function_version=reward)
    for env in (ours, theirs):
        set_goal(env, name, made.random_vector(np.array([0, 3])))
    expected = rollout(theirs, name)
    assert rollout(ours, name) == expected
    set_goal(ours, name, made.random_vector(np.array([1, 7])))
    rollout(ours, name)
    set_goal(ours, name, made.random_vector(np.array([0, 3])))
    assert rollout(ours, name) == expected


@needs_metaworld
def test_quaternions_are_scipy_s_in_all_four_cases() -> None:
    from scipy.spatial.transform import Rotation

    turns = Rotation.random(200, random_state=np.random.default_rng(0))
    largest = set()
    for turn in turns:
        expected = turn.as_matrix()
        np.testing.assert_allclose(
            _Rotation.from_matrix(expected).as_quat(),
            Rotation.from_matrix(expected).as_quat(),
            atol=1e-15,
        )
        largest.add(int(np.abs(turn.as_quat()).argmax()))
    assert largest == {0, 1, 2, 3}


Make = Callable[..., Any]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes batches of a family and closes them: make(family, rows, num_envs)."""
    made = []

    def make_batch(of: MetaWorld, rows: list[list[int]], num_envs: int = 1) -> Any:
        made.append(of.make_batch(np.array(rows, np.float64), num_envs=num_envs))
        return made[-1]

    yield make_batch
    for batch in made:
        batch.close()


def run(batch: Any, steps: int = 12) -> Tensor:
    """Observations and rewards of a run under fixed actions, [T + 1, N, E, 40]."""
    seen = batch.reset(generator())
    visited = [torch.cat([seen, torch.zeros_like(seen[..., :1])], -1)]
    for action in actions(steps, batch.num_tasks, batch.num_envs):
        step = batch.step(action)
        visited.append(torch.cat([step.observations, step.rewards.unsqueeze(-1)], -1))
    return torch.stack(visited)


@needs_metaworld
class TestBatch:
    def test_the_goal_is_set_but_not_observed(self, make) -> None:
        reach = family("ml1-reach")
        rows = [[0, 0], [1, 0]]
        batch = make(reach, rows)
        seen = run(batch)
        assert (seen[..., 36:39] == 0).all()
        for index, row in enumerate(np.array(rows)):
            sawyer: Any = batch._pool._shard._envs[index]
            np.testing.assert_array_equal(sawyer._target_pos, reach.random_vector(row)[3:])
            np.testing.assert_allclose(
                seen[0, index, 0, 4:7], reach.random_vector(row)[:3], atol=1e-6
            )

    def test_reward_of_reaching_is_the_distance_s_formula(self, make) -> None:
        """v1: 1000 (D − d) + 1000 (exp(−d²/0.01) + exp(−d²/0.001)), D the distance at the start."""
        older = family("ml1-reach-reward-v1")
        batch = make(older, [[0, 5]])
        batch.reset(generator())
        sawyer: Any = batch._pool._shard._envs[0]
        goal = older.random_vector(np.array([0, 5]))[3:]
        start = np.linalg.norm(sawyer.init_tcp - goal)
        for _ in range(30):
            reward = float(batch.step(batch.oracle_actions()).rewards)
        d = np.linalg.norm(sawyer.tcp_center - goal)
        assert d < start - 0.05
        near = np.exp(-(d**2) / 0.01) + np.exp(-(d**2) / 0.001)
        assert reward == pytest.approx(1000 * (start - d + near), rel=1e-5)

    def test_the_oracle_succeeds_and_random_actions_do_not(self, make) -> None:
        batch = make(family("ml1-reach"), [[0, 0], [1, 1]], 2)
        for guided in (True, False):
            batch.reset(generator())
            solved = torch.zeros(2, 2, dtype=torch.bool)
            reward = torch.zeros(2, 2)
            for action in actions(80, 2, 2):
                step = batch.step(batch.oracle_actions() if guided else action)
                assert step.success.dtype == torch.bool
                solved |= step.success
                reward = step.rewards
            assert solved.all() if guided else not solved.any()
            assert (reward > 9.9).all() if guided else (reward < 5).all()

    def test_oracles_solve_tasks_with_different_kinds_of_goals(self, make) -> None:
        names = ("drawer-close", "sweep-into", "window-open")
        ml45 = family("ml45")
        sections = [section.task_name for section in ml45._sections]
        batch = make(ml45, [[sections.index(name), 2] for name in names])
        batch.reset(generator())
        solved = torch.zeros(3, 1, dtype=torch.bool)
        for _ in range(150):
            solved |= batch.step(batch.oracle_actions()).success
        assert solved.all()

    def test_episodes_are_cut_at_500_and_may_be_stepped_on(self, make) -> None:
        batch = make(family("ml1-reach"), [[0, 0]])
        batch.reset(generator())
        ends = [bool(batch.step(action).truncated) for action in actions(502)]
        assert ends == [False] * 499 + [True] * 3
        batch.reset(generator(), torch.ones(1, 1, dtype=torch.bool))
        assert not batch.step(actions(1)[0]).truncated.any()

    def test_tasks_of_another_kind_can_be_set(self, make, ml10) -> None:
        before, after = [[0, 0], [3, 1]], [[3, 2], [10, 1]]
        used = make(ml10, before)
        run(used)
        used.set_tasks(np.array(after, np.float64))
        assert torch.equal(run(used), run(make(ml10, after)))

    def test_workers_give_the_same_numbers(self, make, ml10) -> None:
        rows = [[2, 0], [4, 1], [9, 2]]
        alone, shared = (make(of, rows, 2) for of in (ml10, family("ml10", num_workers=2)))
        assert torch.equal(run(alone, 5), run(shared, 5))

    def test_a_model_is_compiled_once_for_each_kind_of_task(self, make, ml10) -> None:
        _compiled.cache_clear()
        make(ml10, [[section, goal] for section in range(10) for goal in (0, 1)])
        assert _compiled.cache_info().misses == 10

    def test_an_error_states_why_nothing_can_be_rendered(self, make, monkeypatch) -> None:
        batch = make(family("ml1-reach"), [[0, 0]])
        batch.reset(generator())

        def fail(*_: object) -> None:
            raise RuntimeError("MuJoCo cannot render off screen here")

        monkeypatch.setattr("metarl.envs.metaworld.sawyer.render", fail)
        with pytest.raises(NotImplementedError, match="cannot render images: MuJoCo cannot render"):
            batch.render(0, 0)

    @pytest.mark.slow
    @pytest.mark.parametrize("variant", ["ml1-reach", "ml10"])
    def test_families_keep_their_promises(self, variant) -> None:
        require_sound(family(variant))


@needs_metaworld
def test_sampling_goals_does_not_use_global_generators() -> None:
    before = np.random.get_state()[1].tolist()  # noqa: NPY002 - it must not be used
    with closing(family("ml1-push").make_batch(np.zeros((1, 2)), num_envs=1)) as batch:
        batch.reset(generator())
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
