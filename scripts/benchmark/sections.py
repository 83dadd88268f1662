"""The benchmark's comparisons, and the target of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["SECTIONS", "Comparison", "Limit"]


@dataclass(frozen=True)
class Comparison:
    """Two cases whose speeds are compared; the target is the ratio of ours to the peer's."""

    title: str
    ours: str
    peer: str
    target: float
    ours_options: dict[str, Any] = field(default_factory=dict)
    peer_options: dict[str, Any] = field(default_factory=dict)
    unit: str = "env steps/s"


@dataclass(frozen=True)
class Limit:
    """One case with a minimum speed or a maximum memory."""

    title: str
    case: str
    options: dict[str, Any]
    min_speed: float | None = None
    max_mebibytes: float | None = None
    unit: str = "env steps/s"


def _against(
    title: str, ours: str, num_envs: int, peer: str, target: float, **peer_options: Any
) -> Comparison:
    return Comparison(
        title,
        "batch",
        peer,
        target,
        {"env": ours, "num_envs": num_envs},
        {"num_envs": num_envs, **peer_options},
    )


_CHEETAH, _ANT, _WALKER = "HalfCheetahVel:promp", "AntDir:promp", "Walker2DRandParams:pearl"
_SIZES = (16, 64, 256, 1024, 4096)


def _against_recurrent_ppo(
    title: str, env: str, num_episodes: int, num_trials: int, target: float
) -> Comparison:
    options = {"env": env, "num_episodes": num_episodes, "num_trials": num_trials}
    return Comparison(
        f"RL² on {title} against RecurrentPPO",
        *("rl2 iteration", "recurrent ppo iteration", target),
        options,
        options,
    )


_PEERS = {"a loop over tasks": "looped", "higher": "higher", "TorchOpt": "torchopt"}


def _meta_steps(
    title: str, peer: str, target: float, dataset: str, num_steps: tuple[int, int], **options: Any
) -> Comparison:
    """Our meta-steps against another implementation; `num_steps` per run of ours and the peer."""
    return Comparison(
        f"{title} against {peer}",
        *("meta steps", f"{_PEERS[peer]} meta steps", target),
        {"dataset": dataset, "num_steps": num_steps[0], **options},
        {"dataset": dataset, "num_steps": num_steps[1]},
        unit="meta-steps/s",
    )


def _photographs(learner: str, num_tasks: int) -> Comparison:
    options: dict[str, Any] = {"learner": learner, "num_tasks": num_tasks}
    return Comparison(
        f"{learner} on photographs, {num_tasks} tasks, against a channels-last loop",
        *("photograph meta-gradient", "looped photograph meta-gradient", 1.0),
        options,
        options,
        unit="meta-gradients/s",
    )


def _memory(differentiation: str, num_inner_steps: int) -> Limit:
    options = {"num_inner_steps": num_inner_steps, "num_tasks": 8}
    return Limit(
        f"characters, 8 tasks, {num_inner_steps} inner steps, {differentiation}",
        "meta steps",
        {"dataset": "glyphs", "num_steps": 1, "differentiation": differentiation, **options},
        unit="meta-steps/s",
    )


def _padding(title: str, case: str, agent: str) -> Comparison:
    """Ten-step episodes with horizon 1000 against horizon 10; at most 1.3 times as slow."""
    return Comparison(
        f"{title}, episodes of 10 steps, horizon 1000 against 10",
        *(case, case, 1 / 1.3),
        {"agent": agent, "horizon": 1000},
        {"agent": agent, "horizon": 10},
        unit="times/s",
    )


SECTIONS: dict[str, tuple[Comparison | Limit, ...]] = {
    "cheetah": (
        _against(
            "HalfCheetah × 16 against SubprocVecEnv",
            *(_CHEETAH, 16, "subprocesses", 6),
            env="HalfCheetah-v5",
        ),
        _against(
            "HalfCheetah × 16 against AsyncVectorEnv",
            *(_CHEETAH, 16, "gymnasium", 1),
            env="HalfCheetah-v5",
            mode="async",
        ),
        _against(
            "HalfCheetah × 16 against SyncVectorEnv",
            *(_CHEETAH, 16, "gymnasium", 1),
            env="HalfCheetah-v5",
            mode="sync",
        ),
        _against("HalfCheetah × 800 against the open-loop limit", _CHEETAH, 800, "open loop", 0.85),
    ),
    "envs": (
        _against(
            "HalfCheetah × 64 against EnvPool",
            *(_CHEETAH, 64, "envpool", 1.3),
            env="HalfCheetah-v4",
        ),
        _against("Ant × 64 against EnvPool", _ANT, 64, "envpool", 1.3, env="Ant-v4"),
        _against("Ant × 16 against SubprocVecEnv", _ANT, 16, "subprocesses", 6, env="Ant-v5"),
        Comparison(
            "Walker × 256, a model each, against one shared model",
            *("walker physics", "walker physics", 0.85),
            {"num_envs": 256, "shared": False},
            {"num_envs": 256, "shared": True},
        ),
        Comparison(
            "CartPole × 64 in 2 workers against AsyncVectorEnv, both restarting",
            *("batch", "gymnasium", 3),
            {"env": "CartPoleMass:rllib", "num_envs": 64},
            {"env": "CartPole-v1", "num_envs": 64, "mode": "async"},
        ),
        *(
            Limit(
                f"{env} × 4096",
                "batch",
                {"env": env, "num_envs": 4096, "num_tasks": 64},
                min_speed=target,
            )
            for env, target in (
                ("Bandit:n100-k10", 5e6),
                ("Navigation2D:maml17", 5e6),
                ("TabularMDP:rl2", 2e6),
                ("GridNavigation:varibad", 2e6),
                ("DarkRoom:dpt", 2e6),
            )
        ),
        Limit(
            "HalfCheetah × 4096",
            *("batch", {"env": _CHEETAH, "num_envs": 4096, "num_tasks": 64}),
            max_mebibytes=2048,
        ),
        Limit(
            "Walker × 1000, a model each",
            *("batch", {"env": _WALKER, "num_envs": 1000}),
            max_mebibytes=2048,
        ),
    ),
    "metaworld": (
        _against(
            "Meta-World reach × 16 in 2 workers against AsyncVectorEnv",
            *("MetaWorld:ml1-reach", 16, "metaworld vector", 1.5),
            task="reach-v3",
        ),
        Limit(
            "making the 10 training environments of ML10",
            *("building", {"env": "MetaWorld:ml10", "num_envs": 10}),
            min_speed=1 / 3,
            unit="times/s",
        ),
    ),
    "growth": tuple(
        Limit(f"{env} × {size}", "batch", {"env": env, "num_envs": size, "num_tasks": 16})
        for env in (_CHEETAH, _ANT, "Navigation2D:maml17", "TabularMDP:rl2")
        for size in _SIZES
    ),
    "navigation": (
        Comparison(
            "2D navigation collection against SyncVectorEnv × 800",
            "navigation collect",
            "navigation sync",
            100,
        ),
    ),
    "update": (
        Comparison(
            "2D navigation iteration against the textbook Fisher product",
            "navigation iteration",
            "navigation textbook",
            5,
            unit="iterations/s",
        ),
        Comparison(
            "cheetah meta-update against its sampling",
            "cheetah update",
            "cheetah sampling",
            1,
            unit="iterations/s",
        ),
    ),
    "rl2": (
        _against_recurrent_ppo("64 bandits of 100 pulls", "Bandit:n100-k5", 1, 64, 20),
        _against_recurrent_ppo("500 bandits of 100 pulls", "Bandit:n100-k5", 1, 500, 20),
        _against_recurrent_ppo("64 cheetahs × 2 episodes", "HalfCheetahVel:varibad", 2, 64, 3),
        *(
            Comparison(
                f"transformer acting, {num_trials} × {length} steps against {num_trials} × 100",
                *("transformer trial", "transformer trial", target),
                {"length": length, "num_trials": num_trials},
                {"length": 100, "num_trials": num_trials},
                unit="steps/s",
            )
            for num_trials, length, target in (
                (1, 200, 0.8),
                (1, 400, 0.8),
                (1, 800, 0.8),
                (16, 800, 0.3),
            )
        ),
    ),
    "padding": (
        _padding("MAML-TRPO iteration", "short iterations", "maml-trpo"),
        _padding("RL² iteration", "short iterations", "rl2"),
        _padding("MAML-TRPO evaluation", "short evaluation", "maml-trpo"),
        _padding("RL² evaluation", "short evaluation", "rl2"),
        *(
            Limit(
                f"MAML-TRPO iteration on {env}",
                *("varying iteration", {"env": env}),
                unit="iterations/s",
            )
            for env in ("CartPoleMass:rllib", "Walker2DRandParams:pearl")
        ),
    ),
    "overhead": (
        Comparison(
            "output of metarl train in 100 iterations, against an iteration",
            "training without iterations",
            "default iteration",
            33.0,  # 3 % of the time of training
            unit="iterations/s",
        ),
    ),
    "fewshot": (
        *(_meta_steps("sinusoid meta-step", peer, 15, "sinusoid", (100, 10)) for peer in _PEERS),
        _meta_steps(
            "compiled sinusoid meta-step",
            *("a loop over tasks", 40, "sinusoid", (300, 10)),
            compile=True,
        ),
        *(_meta_steps("characters' meta-step", peer, 2, "glyphs", (2, 2)) for peer in _PEERS),
        *(
            _photographs(learner, num_tasks)
            for learner in ("maml", "fomaml")
            for num_tasks in (1, 4)
        ),
        *(_memory(method, steps) for method in ("recurrence", "unrolled") for steps in (1, 5, 20)),
        *(
            Limit(
                f"sinusoid meta-step of {num_tasks} tasks",
                *("meta steps", {"dataset": "sinusoid", "num_steps": 50, "num_tasks": num_tasks}),
                unit="meta-steps/s",
            )
            for num_tasks in (1, 4, 16, 64, 256)
        ),
    ),
}
