"""Evaluation of agents of every kind on unseen tasks, according to a protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from metarl.evaluation.measured import Measured, Scores
from metarl.evaluation.overlap import overlap_of
from metarl.evaluation.protocol import EvaluationProtocol, without_adaptation
from metarl.evaluation.results import Evaluation, episode_name
from metarl.progress import Progress, ignore_progress
from metarl.rl.players import AdaptiveAgent, Player, begin_play, can_adapt
from metarl.rollouts.actors import random_actor
from metarl.rollouts.episodes import Actor, Episodes, collect
from metarl.rollouts.trials import ActorInput, Trials, collect_trials
from metarl.seeding import derive_seed, draw_key, torch_generator
from metarl.tasks.batch_memory import require_batch_memory
from metarl.tasks.family import BatchEnv, TaskFamily
from metarl.tasks.observations import float_dtype
from metarl.tasks.spaces import Tasks

__all__ = ["evaluate", "evaluation_tasks", "play_stages", "stage_names"]


def evaluate(
    agents: AdaptiveAgent | Mapping[str, AdaptiveAgent],
    family: TaskFamily,
    protocol: EvaluationProtocol | None = None,
    *,
    name: str = "agent",
    references: Mapping[str, Mapping[str, AdaptiveAgent]] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = ignore_progress,
) -> Evaluation:
    """Adapt agents to tasks and measure their returns at every stage, with random and oracle.

    Args:
        agents: one agent, or several runs of one agent by name. Each run has its own tasks and
            random numbers, unless `protocol.paired`.
        family: family of the tasks.
        protocol: how the agents adapt and which episodes are scored; None: the preset maml.
        name: name of the agent, for tables.
        references: other agents by name, each as a mapping of its runs, such as a policy trained
            on all tasks without adaptation. They are scored at the last stage; if they have a
            memory and the stages are episodes, also over the whole trial. A reference with
            one run is measured on the tasks of all runs, run k of another one on the tasks of
            run k.
        device: device of the agents.
        progress: called before each agent and reference is measured.

    Returns:
        Raw returns of every run, stage, task and episode; an agent that does not adapt has the
        single stage before adaptation. The references include random actions
        and, if the family has one, the oracle.

    Raises:
        ValueError: if a number is out of range, the split is unknown, or an environment returns
            a number that is not finite.
    """
    protocol = protocol or EvaluationProtocol()
    runs = agents if isinstance(agents, Mapping) else {name: agents}
    if not runs:
        raise ValueError("agents must hold at least one run, got none")
    groups = {kind: list(group.values()) for kind, group in (references or {}).items()}
    report = _MeasurementCounter(progress, f" on {protocol.split} tasks of {family.id}")
    report.total = 2 + len(runs) + sum(map(len, groups.values()))
    own = _evaluators(family, protocol, device, len(runs))
    report("measuring random actions")
    others = {"random": _joined([one.measure_random() for one in own])}
    report("measuring the oracle")
    oracle = [one.measure_oracle() for one in own]
    if all(part is not None for part in oracle):
        others["oracle"] = _joined([part for part in oracle if part is not None])
    totals = {}
    for kind, group in groups.items():
        doing = f"measuring reference {kind}"
        if len(group) == 1:
            report(doing)
            played = [_joined([one.measure(group[0]) for one in own])]
        else:
            sets = _evaluators(family, protocol, device, len(group))
            played = _measure_runs(sets, report.each(group, doing))
        others[kind] = _stacked([_last(stages) for stages in played])
        if protocol.stages_are_episodes and all(agent.remembers for agent in group):
            totals[kind] = np.stack([stages.returns.sum(0).mean(-1) for stages in played])
    remembers = {agent.remembers for agent in runs.values()}
    tasks = np.stack([one.tasks for one in own])
    same_tasks = bool((tasks == tasks[:1]).all())
    adapts = any(map(can_adapt, runs.values()))
    if not adapts:
        protocol = without_adaptation(protocol)
        own = _evaluators(family, protocol, device, len(runs))
    measured = _measure_runs(own, report.each(runs.values(), f"measuring {name}"))
    return Evaluation(
        environment=family.id,
        agent=name,
        protocol=protocol,
        tasks=tasks[:1] if same_tasks else tasks,
        same_tasks=same_tasks,
        runs=tuple(runs),
        stages=stage_names(protocol, remembers=remembers == {True}, adapts=adapts),
        measured=_stacked(measured),
        references=others,
        iterations=tuple(getattr(agent, "num_iterations", None) for agent in runs.values()),
        totals=totals,
        stored_overlap=overlap_of(family, protocol.split),
    )


def _evaluators(
    family: TaskFamily, protocol: EvaluationProtocol, device: torch.device | str, num_runs: int
) -> list[_Evaluator]:
    """One evaluator for each run, or a single one for paired runs."""
    draws = range(1 if protocol.paired else num_runs)
    return [_Evaluator(family, protocol, torch.device(device), draw) for draw in draws]


def _measure_runs(
    evaluators: Sequence[_Evaluator], agents: Iterable[AdaptiveAgent]
) -> list[Measured]:
    """Stages of each agent, [S + 1, N, M]; each has its own evaluator, or all have the only one."""
    return [
        evaluators[min(index, len(evaluators) - 1)].measure(agent)
        for index, agent in enumerate(agents)
    ]


def evaluation_tasks(family: TaskFamily, protocol: EvaluationProtocol, draw: int = 0) -> Tasks:
    """The tasks of a run in an evaluation, [N, D].

    Args:
        family: the family to sample from.
        protocol: their number, split and seed.
        draw: index of the run if runs have their own tasks.

    Raises:
        ValueError: if the split is unknown.
    """
    seed = derive_seed(protocol.seed, "evaluation", *draw_key(draw))
    return family.sample_tasks(protocol.num_tasks, split=protocol.split, seed=seed)


def stage_names(
    protocol: EvaluationProtocol, *, remembers: bool, adapts: bool = True
) -> tuple[str, ...]:
    """Names of the stages: by episodes for agents with a memory, by steps for others."""
    stages = range(protocol.num_stages)
    if not adapts:
        return ("no adaptation",)
    if not remembers:
        return ("before", *(f"after {s} step{'s' if s > 1 else ''}" for s in stages[1:]))
    if protocol.stages_are_episodes:
        return tuple(map(episode_name, stages))
    counts = (protocol.episodes_before(s) for s in stages[1:])
    return ("before", *(f"after {n} episode{'s' if n > 1 else ''}" for n in counts))


def play_stages(
    agent: AdaptiveAgent,
    env: BatchEnv,
    protocol: EvaluationProtocol,
    resets: torch.Generator,
    noise: torch.Generator,
) -> Iterator[Episodes]:
    """Yield the evaluation episodes of each stage; the agent adapts between the stages.

    If evaluation episodes are not the data of the adaptation step, more episodes are collected.

    Args:
        agent: an agent without a memory.
        env: the tasks, with `protocol.episodes_together` environments of each.
        protocol: how the agent adapts and which episodes are scored.
        resets: samples the initial states. On the CPU.
        noise: samples the actions. On the agent's device.
    """
    player = begin_play(agent, env.num_tasks, env.num_envs, noise)
    for stage in range(protocol.num_stages):
        episodes = collect(env, _actor(player, protocol.deterministic != "never"), resets)
        yield episodes
        if stage < protocol.adaptation_steps:
            if not protocol.shares_episodes:
                episodes = collect(env, _actor(player, False), resets)
            player.adapt(episodes.first_envs(protocol.exploration_episodes))


class _MeasurementCounter:
    """Reports the start of each measurement, with the number of finished ones."""

    def __init__(self, progress: Progress, where: str) -> None:
        self._progress, self._where, self._done, self.total = progress, where, 0, 0

    def __call__(self, doing: str) -> None:
        self._progress(f"{doing}{self._where}", self._done, self.total)
        self._done += 1

    def each(self, agents: Iterable[AdaptiveAgent], doing: str) -> Iterator[AdaptiveAgent]:
        """Yield the agents and report each as the next measurement."""
        for agent in agents:
            self(doing)
            yield agent


class _Evaluator:
    """Measures agents on the same tasks with the same random streams.

    Evaluators with different numbers `draw` have independent tasks and random streams.
    """

    def __init__(
        self, family: TaskFamily, protocol: EvaluationProtocol, device: torch.device, draw: int
    ) -> None:
        self.tasks = evaluation_tasks(family, protocol, draw)
        self._family, self._protocol, self._device, self._draw = family, protocol, device, draw

    def measure(self, agent: AdaptiveAgent) -> Measured:
        """Returns of an agent's episodes at every stage, [S + 1, N, M]."""
        return self._measure_trials(agent) if agent.remembers else self._measure_rounds(agent)

    def measure_random(self) -> Measured:
        """Returns of random actions, [1, N, M]."""
        return self._measure_actor(lambda env: random_actor(env, self._noise()))

    def measure_oracle(self) -> Measured | None:
        """Returns of the family's oracle, [1, N, M]; None if it has no oracle."""
        with closing(self._batch(1)) as env:
            env.reset(self._resets())
            if env.oracle_actions() is None:
                return None
        return self._measure_actor(_oracle)

    def _measure_rounds(self, agent: AdaptiveAgent) -> Measured:
        """Measure an agent without a memory: parallel episodes, with adaptation between stages."""
        protocol, resets = self._protocol, self._resets()
        with closing(self._batch(protocol.episodes_together)) as env:
            stages = [
                _measured(episodes.first_envs(protocol.evaluation_episodes))
                for episodes in play_stages(agent, env, protocol, resets, self._noise())
            ]
        return _stacked(stages)

    def _measure_trials(self, agent: AdaptiveAgent) -> Measured:
        """Measure an agent with a memory in M independent trials of each task.

        If exploration takes the same actions as measurement, all stages are episodes of the same
        trials, and otherwise each stage has its own trials.
        """
        protocol = self._protocol
        before = [protocol.episodes_before(stage) for stage in range(protocol.num_stages)]
        resets, noise = self._resets(), self._noise()
        with closing(self._batch(protocol.evaluation_episodes)) as env:
            if protocol.is_one_trial:
                trials = self._trials(env, agent, resets, noise, protocol.adaptation_steps)
                return _stacked([_measured_episode(trials, episode) for episode in before])
            return _stacked(
                [
                    _measured_episode(self._trials(env, agent, resets, noise, stage), episode)
                    for stage, episode in enumerate(before)
                ]
            )

    def _trials(
        self,
        env: BatchEnv,
        agent: AdaptiveAgent,
        resets: torch.Generator,
        noise: torch.Generator,
        stage: int,
    ) -> Trials:
        """Trials up to the measured episode of a stage."""
        return collect_trials(
            env,
            begin_play(agent, env.num_tasks, env.num_envs, noise),
            resets,
            num_episodes=self._protocol.episodes_before(stage) + 1,
            num_exploratory=self._protocol.num_exploratory(stage),
        )

    def _measure_actor(self, make_actor: Callable[[BatchEnv], Actor]) -> Measured:
        with closing(self._batch(self._protocol.evaluation_episodes)) as env:
            return _stacked([_measured(collect(env, make_actor(env), self._resets()))])

    def _batch(self, num_envs: int) -> BatchEnv:
        require_batch_memory(self._family, len(self.tasks), num_envs)
        return self._family.make_batch(self.tasks, num_envs=num_envs, device=self._device)

    def _resets(self) -> torch.Generator:
        return torch_generator(self._protocol.seed, "evaluation", *draw_key(self._draw), "resets")

    def _noise(self) -> torch.Generator:
        return torch_generator(
            self._protocol.seed, "evaluation", *draw_key(self._draw), "actions", device=self._device
        )


def _actor(player: Player, deterministic: bool) -> Actor:
    """A player without a memory as a function of observations."""

    def act(observations: Tensor) -> Tensor:
        batch_shape = observations.shape[:2]
        never = torch.zeros(batch_shape, dtype=torch.bool, device=observations.device)
        nothing = observations.new_zeros(batch_shape, dtype=float_dtype(observations))
        actor_input = ActorInput(observations, None, nothing, never, never | deterministic)
        return player.act(actor_input)

    return act


def _oracle(env: BatchEnv) -> Actor:
    def act(observations: Tensor) -> Tensor:  # noqa: ARG001 - the oracle reads the state
        actions = env.oracle_actions()
        assert actions is not None
        return actions

    return act


def _measured(episodes: Episodes) -> Measured:
    success = None if episodes.success is None else _array(episodes.success.any(-1))
    return Measured(_array(episodes.returns), success)


def _measured_episode(trials: Trials, episode: int) -> Measured:
    """Returns of one episode of each trial, [N, M]."""
    success = trials.episode_success
    return Measured(
        _array(trials.episode_returns[..., episode]),
        None if success is None else _array(success[..., episode]),
    )


def _array(values: Tensor) -> Scores:
    array: Scores = values.double().cpu().numpy()
    return array


def _map_arrays(part: Measured, change: Callable[[Scores], Scores]) -> Measured:
    return Measured(change(part.returns), None if part.success is None else change(part.success))


def _last(stages: Measured) -> Measured:
    return _map_arrays(stages, lambda values: values[-1])


def _stacked(parts: list[Measured]) -> Measured:
    """Stack along a new first axis."""
    success = [part.success for part in parts if part.success is not None]
    return Measured(
        np.stack([part.returns for part in parts]), np.stack(success) if success else None
    )


def _joined(parts: list[Measured]) -> Measured:
    """Measurements of one agent on several sets of tasks, [..., N, M], along the axis of tasks."""
    success = [part.success for part in parts if part.success is not None]
    return Measured(
        np.concatenate([part.returns for part in parts], axis=-2),
        np.concatenate(success, axis=-2) if success else None,
    )
