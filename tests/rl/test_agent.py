"""The contract of agents, with a tiny agent of a user."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_agent import TinyAgent, TinyConfig, episodes_of, tiny

from metarl.envs import make_family
from metarl.envs.navigation.goals import Navigation2D
from metarl.rl.agent import Agent, Iteration
from metarl.rollouts.trials import ActorInput
from metarl.storage.checkpoints import load_checkpoint, read_header, save_checkpoint
from metarl.tasks.spaces import Tasks

TIMES = ["time/env_steps", "time/env_steps_per_second", "time/sampling_seconds",
         "time/update_seconds"]  # fmt: skip


def state(agent: Agent[Any]) -> dict[str, torch.Tensor]:
    groups = agent._state()
    return {f"{g}/{n}": t.detach().clone() for g, ts in groups.items() for n, t in ts.items()}


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Bitwise."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def untimed(metrics: Mapping[str, float]) -> dict[str, float]:
    return {k: v for k, v in metrics.items() if k not in TIMES[1:]}


# Iterations.


def test_an_iteration_is_counted_and_timed():
    agent = tiny()
    metrics = agent.iterate()
    assert list(metrics) == ["rollout/return", "meta/step", *TIMES]
    steps = 3 * 2 * agent.family.horizon
    assert metrics["time/env_steps"] == agent.num_env_steps == steps
    assert agent.iterate()["time/env_steps"] == agent.num_env_steps == 2 * steps
    assert agent.num_iterations == 2
    assert metrics["time/sampling_seconds"] > 0
    assert metrics["time/update_seconds"] > 0
    seconds = metrics["time/sampling_seconds"] + metrics["time/update_seconds"]
    assert metrics["time/env_steps_per_second"] == pytest.approx(steps / seconds)


def test_tasks_follow_from_the_seed_and_the_counter(monkeypatch):
    seen: list[Tasks] = []
    iterate = TinyAgent._iterate
    monkeypatch.setattr(
        TinyAgent, "_iterate", lambda agent, tasks: [seen.append(tasks), iterate(agent, tasks)][1]
    )
    tiny(seed=0).learn(2)
    tiny(seed=0).learn(2)
    tiny(seed=1).learn(1)
    assert seen[0].shape == (3, 2)
    assert np.array_equal(seen[0], seen[2])
    assert np.array_equal(seen[1], seen[3])
    assert len({rows.tobytes() for rows in (seen[0], seen[1], seen[4])}) == 3


def test_a_callback_sees_each_iteration_and_can_stop():
    seen: list[int] = []
    agent = tiny()

    def callback(learner: TinyAgent, metrics: dict[str, float]) -> bool:
        assert metrics["time/env_steps"] == learner.num_env_steps
        seen.append(learner.num_iterations)
        return learner.num_iterations < 2

    assert agent.learn(5, callback=callback) is agent
    assert seen == [1, 2]
    with pytest.raises(ValueError, match="num_iterations must be 0 or more, got -1"):
        agent.learn(-1)


@pytest.mark.parametrize("error", [RuntimeError("no luck"), KeyboardInterrupt(), MemoryError()])
def test_an_iteration_that_fails_is_undone_whatever_the_error(error):
    agent, other = tiny().learn(1), tiny().learn(1)
    before, steps = state(agent), agent.num_env_steps
    agent.fail = error
    with pytest.raises(type(error)):
        agent.iterate()
    assert same(state(agent), before)
    assert (agent.num_iterations, agent.num_env_steps) == (1, steps)
    agent.fail = None
    assert untimed(agent.iterate()) == untimed(other.iterate())
    assert same(state(agent), state(other))


def test_a_number_that_is_not_finite_names_the_iteration():
    agent = tiny().learn(1)
    agent.fail = FloatingPointError("loss must be finite")
    with pytest.raises(FloatingPointError, match=r"^iteration 2: loss must be finite$"):
        agent.iterate()
    agent.fail = None
    agent.params["action"][0] = math.nan
    with pytest.raises(FloatingPointError, match="iteration 2: parameter action must be finite"):
        agent.iterate()


def test_environments_are_kept_until_closed_or_the_number_changes(monkeypatch):
    agent = tiny()
    made: list[int] = []
    make = agent.family.make_batch

    def counted(tasks: Tasks, *, num_envs: int, device: Any) -> Any:
        made.append(num_envs)
        return make(tasks, num_envs=num_envs, device=device)

    monkeypatch.setattr(agent.family, "make_batch", counted)
    agent.learn(2)
    assert made == [2]
    agent.close()
    agent.learn(1)
    assert made == [2, 2]
    with agent._training_envs(agent.family.sample_tasks(1, seed=0), num_envs=4) as env:
        assert env.num_envs == 4


# The declaration.


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        ({}, ValueError, "of agent 'tiny' must return each declared metric, 'meta/step' is missi"),
        ({"meta/step": 1, "meta/other": 1}, ValueError, "metric 'meta/other' of agent 'tiny' must "
         "be declared in its metrics, which are rollout/return, meta/step"),
        ({"meta/step": math.nan}, FloatingPointError,
         "iteration 1: metric 'meta/step' of agent 'tiny' must be finite, got nan"),
        ({"meta/step": torch.ones(())}, TypeError,
         r"metric 'meta/step' of agent 'tiny' must be a number, got Tensor; use float\(value\)"),
        ({"meta/step": "1"}, TypeError, "must be a number, got str"),
        ({"meta/step": 10**400}, FloatingPointError, "must be finite, got 1000"),
    ],
)  # fmt: skip
def test_metrics_that_are_not_as_declared_are_rejected(returned, error, message):
    agent = tiny()
    before = state(agent)
    agent.changed_metrics = returned
    with pytest.raises(error, match=message):
        agent.iterate()
    assert agent.num_iterations == 0
    assert same(state(agent), before)


def test_numbers_of_numpy_become_numbers_of_python():
    agent = tiny()
    agent.changed_metrics = {"meta/step": np.float32(0.5)}
    metrics = agent.iterate()
    assert type(metrics["meta/step"]) is float
    assert metrics["meta/step"] == 0.5


@pytest.mark.parametrize("outcome", [{"rollout/return": 1.0}, None, 3.0])
def test_an_outcome_that_is_not_an_iteration_is_rejected(monkeypatch, outcome):
    monkeypatch.setattr(TinyAgent, "_iterate", lambda *_: outcome)
    kind = type(outcome).__name__
    message = rf"'tiny' must return Iteration\(metrics, num_env_steps\), got {kind}"
    with pytest.raises(TypeError, match=message):
        tiny().iterate()


def test_a_number_of_steps_that_is_not_a_count_is_rejected(monkeypatch):
    outcome = Iteration({"rollout/return": 1.0, "meta/step": 1.0}, -1)
    monkeypatch.setattr(TinyAgent, "_iterate", lambda *_: outcome)
    with pytest.raises(ValueError, match="num_env_steps must be 0 or more, got -1"):
        tiny().iterate()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"metrics": {}}, "agent 'tiny' must declare its metrics, such as .*, got none"),
        ({"metrics": {"loss": "x"}}, "metrics of agent 'tiny' must be named group/name.*'loss'"),
        ({"metrics": {"time/x": "x"}}, "another group than time, got 'time/x'"),
        ({"score": "rollout/x"}, "score of agent 'tiny' must be among its metrics rollout/return, "
         "meta/step, got 'rollout/x'"),
        ({"shown_metrics": ("meta/step", "x")}, "shown_metrics of agent 'tiny' must be .*got 'x'"),
        ({"metrics": ["a/b"]}, r"agent 'tiny' must declare its metrics, such as .*, got \['a/b'\]"),
        ({"metrics": None}, "agent 'tiny' must declare its metrics, such as .*, got none"),
        ({"metrics": {"/x": "x"}}, "metrics of agent 'tiny' must be named group/name.*'/x'"),
        ({"metrics": {3: "x"}}, "metrics of agent 'tiny' must be named group/name.*got 3"),
        ({"metrics": {"a/b": 3}}, "metrics of agent 'tiny' must describe 'a/b' by a string, got 3"),
        ({"name": None}, "name of Changed must be a string, such as name = 'my-agent', got none"),
        ({"config_type": dict}, "config_type of Changed must be a dataclass with a field meta_bat"),
    ],
)  # fmt: skip
def test_an_invalid_declaration_is_rejected(changed, message):
    with pytest.raises(TypeError, match=message):
        type("Changed", (TinyAgent,), changed)(Navigation2D("maml17"))


def test_score_and_progress_follow_from_the_declaration():
    assert tiny().score == "rollout/return"
    plain = type(
        "Plain", (TinyAgent,), {"shown_metrics": Agent.shown_metrics, "score": Agent.score}
    )
    agent = plain(Navigation2D("maml17"))
    assert agent.score == "rollout/return"
    assert agent.shown_metrics == ("rollout/return",)
    metrics = {"rollout/return": -12.3456, "meta/step": 0.001, "time/env_steps_per_second": 5678.9}
    assert agent.progress(metrics) == "return -12.35  5,679 steps/s"
    assert tiny().progress(metrics) == "return -12.35  step 0.001  5,679 steps/s"


def test_an_agent_without_parameters_is_rejected(tmp_path):
    agent = tiny()
    agent.params = {}
    for call in (agent.iterate, lambda: agent.save(tmp_path / "a")):
        with pytest.raises(TypeError, match="agent 'tiny' must set params to its meta-learned"):
            call()


@pytest.mark.parametrize("params", [[torch.zeros(2)], {"action": np.zeros(2)}, {3: torch.zeros(2)}])
def test_parameters_that_are_not_tensors_by_name_are_rejected(tmp_path, params):
    agent = tiny()
    agent.params = params
    for call in (agent.iterate, lambda: agent.save(tmp_path / "a")):
        with pytest.raises(TypeError, match=r"agent 'tiny' must set params .*a dict of tensors"):
            call()


@pytest.mark.parametrize(
    "returned", [[1], {"other": {}}, {"parameters": 3}, {"parameters": {}, "optimizer": {"x": 3}}]
)
def test_a_state_that_no_checkpoint_can_hold_is_rejected(monkeypatch, tmp_path, returned):
    agent = tiny()
    monkeypatch.setattr(TinyAgent, "_state", lambda _: returned)
    for call in (agent.iterate, lambda: agent.save(tmp_path / "a")):
        with pytest.raises(TypeError, match="_state of agent 'tiny' must return tensors by group"):
            call()


def resize(params: dict[str, torch.Tensor]) -> None:
    params["action"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda params: params.update(new=torch.zeros(1)), r"new was nothing and became .* \[1\]"),
        (
            lambda params: params.clear() or params.update(new=torch.zeros(1)),
            "action was .*nothing",
        ),
        (resize, r"parameters/action was torch.float32 \[2\] and became torch.float32 \[3\]"),
    ],
)
def test_an_iteration_that_changes_what_a_checkpoint_holds_leaves_no_trace(
    monkeypatch, change, message
):
    agent, other = tiny().learn(1), tiny().learn(2)
    before, iterate = state(agent), TinyAgent._iterate
    with monkeypatch.context() as patched:
        patched.setattr(
            TinyAgent,
            "_iterate",
            lambda agent, tasks: [iterate(agent, tasks), change(agent.params)][0],
        )
        with pytest.raises(TypeError, match=f"_iterate of agent 'tiny' must keep.*{message}"):
            agent.iterate()
    assert same(state(agent), before)
    agent.iterate()  # the optimizer and the agent hold the same tensors again
    assert same(state(agent), state(other))


def test_an_iteration_that_ends_with_parameters_that_are_not_finite_leaves_no_trace(monkeypatch):
    agent = tiny().learn(1)
    before, iterate = state(agent), TinyAgent._iterate
    monkeypatch.setattr(
        TinyAgent,
        "_iterate",
        lambda agent, tasks: [iterate(agent, tasks), agent.params["action"].fill_(math.nan)][0],
    )
    with pytest.raises(FloatingPointError, match="iteration 2: parameter action must be finite"):
        agent.iterate()
    assert agent.num_iterations == 1
    assert same(state(agent), before)


@dataclass(frozen=True)
class NoDefaults:
    meta_batch_size: int


def test_settings_without_a_default_are_rejected_unless_given():
    changed = type("Changed", (TinyAgent,), {"config_type": NoDefaults})
    with pytest.raises(TypeError, match="settings of Changed must all have defaults"):
        changed(Navigation2D("maml17"))


@dataclass(frozen=True)
class OtherConfig:
    meta_batch_size: int = 3


def test_settings_of_another_type_are_rejected():
    with pytest.raises(TypeError, match="must be of type TinyConfig, got OtherConfig"):
        TinyAgent(Navigation2D("maml17"), OtherConfig())


def test_settings_cannot_be_replaced():
    agent = tiny()
    with pytest.raises(AttributeError, match="config of an agent cannot be replaced; create anot"):
        agent.config = TinyConfig(step_size=3.0)
    assert agent.config.step_size == 0.1


def test_the_default_action_divisor_is_the_one_of_the_variant():
    assert tiny().config.action_divisor == Navigation2D("maml17").action_divisor
    assert tiny(action_divisor=3.0).config.action_divisor == 3.0


# Files and copies.


def test_a_saved_agent_continues_as_if_never_stopped(tmp_path: Path):
    straight, stopped = tiny(seed=4).learn(2), tiny(seed=4).learn(2)
    stopped.save(tmp_path / "agent")
    resumed = TinyAgent.load(tmp_path / "agent", Navigation2D("maml17"))
    assert same(state(resumed), state(straight))
    assert (resumed.seed, resumed.config) == (4, straight.config)
    assert (resumed.num_iterations, resumed.num_env_steps) == (2, straight.num_env_steps)
    assert untimed(resumed.iterate()) == untimed(straight.iterate())
    assert same(state(resumed), state(straight))


def test_a_checkpoint_holds_the_declared_state_under_the_agents_name(tmp_path: Path):
    agent = tiny(seed=4).learn(1)
    agent.save(tmp_path / "agent")
    header = read_header(tmp_path / "agent")
    assert list(header)[1:6] == ["agent", "environment", "seed", "config", "counters"]
    assert header["agent"] == "tiny"
    assert header["environment"] == "Navigation2D:maml17"
    assert header["counters"] == {"num_iterations": 1, "num_env_steps": agent.num_env_steps}
    assert same(load_file(tmp_path / "agent"), state(agent))


@pytest.mark.parametrize("name", ["parameters/action", "optimizer/exp_avg/action"])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_checkpoint_with_a_number_that_is_not_finite_is_rejected(tmp_path: Path, name, value):
    path = tmp_path / "agent"
    tiny().learn(1).save(path)
    tensors, header = load_checkpoint(path, agent="tiny", environment="Navigation2D:maml17")
    tensors[name].view(-1)[0] = value
    save_checkpoint(path, tensors, header)
    with pytest.raises(ValueError, match=f"must hold finite numbers only, {name} does not"):
        TinyAgent.load(path, Navigation2D("maml17"))


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path):
    agent = tiny()
    agent.params["action"][0] = math.nan
    with pytest.raises(FloatingPointError, match="parameter action must be finite"):
        agent.save(tmp_path / "agent")
    assert not (tmp_path / "agent").exists()


def test_the_checkpoint_of_another_agent_or_family_is_rejected(tmp_path: Path):
    tiny().save(tmp_path / "agent")
    other = type("Other", (TinyAgent,), {"name": "other"})
    with pytest.raises(ValueError, match="must be of agent 'other', it is of 'tiny'"):
        other.load(tmp_path / "agent", Navigation2D("maml17"))
    with pytest.raises(ValueError, match="must be of environment 'Bandit:n10-k5', it is of 'Navig"):
        TinyAgent.load(tmp_path / "agent", make_family("Bandit:n10-k5"))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_copies_continue_bitwise_and_independently(copied):
    agent, straight = tiny(seed=2).learn(2), tiny(seed=2).learn(2)
    other = copied(agent)
    before = state(agent)
    assert untimed(other.iterate()) == untimed(straight.iterate())
    assert same(state(other), state(straight))
    assert same(state(agent), before)
    assert other.num_env_steps == straight.num_env_steps


def test_an_untrained_agent_has_the_same_settings_and_has_learned_nothing():
    agent = tiny(seed=3, step_size=0.3).learn(2)
    fresh = agent.untrained()
    assert (fresh.config, fresh.seed, fresh.num_iterations) == (agent.config, 3, 0)
    assert same(state(fresh), state(tiny(seed=3)))
    other = Navigation2D("maml17")
    assert agent.untrained(family=other).family is other


# Acting with recorded data.


def test_an_agent_adapts_to_each_batch_and_acts_with_the_result():
    agent = tiny()
    batches = [episodes_of(agent.family, seed=k) for k in range(2)]
    observations = torch.zeros(2, 3, 2)
    start, _ = agent.predict(observations)
    assert torch.equal(start, agent.params["action"].expand(2, 3, 2))
    adapted = agent.adapt(batches)
    actions, after = agent.predict(observations, adapted)
    moved = sum(batch.returns.mean(1) for batch in batches)
    torch.testing.assert_close(actions, start + moved.view(2, 1, 1))
    assert after is adapted
    one, _ = agent.predict(observations, agent.adapt(batches[0]))
    torch.testing.assert_close(one, start + batches[0].returns.mean(1).view(2, 1, 1))


def test_predictions_are_sampled_with_the_given_generator():
    agent, observations = tiny(), np.zeros((2, 3, 2))
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    first, again, other = (
        agent.predict(observations, deterministic=False, generator=g)[0] for g in generators
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    second, _ = agent.predict(observations, deterministic=False, generator=generators[0])
    assert not torch.equal(second, first)
    player = agent.play(2, 3, torch.Generator().manual_seed(1))
    never = torch.zeros(2, 3, dtype=torch.bool)
    inputs = ActorInput(torch.zeros(2, 3, 2), None, torch.zeros(2, 3), never, never)
    assert torch.equal(player.act(inputs), first)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: a.adapt([]), ValueError, r"episodes must hold at least one batch \[tasks, envs"),
        (lambda a: a.adapt([1]), TypeError, "episodes must be Episodes or a list of them, got int"),
        (lambda a: a.adapt([episodes_of(a.family), episodes_of(a.family, num_tasks=3)]), ValueError,
         r"episodes must have the same number of tasks in each batch, got \[2\] and \[3\]"),
        (lambda a: a.predict(torch.zeros(2, 3)), ValueError,
         r"observations must have shape \[tasks, envs, 2\], got \[2, 3\]"),
        (lambda a: a.predict(torch.zeros(2, 3, 5)), ValueError, r"2\], got \[2, 3, 5\]"),
        (lambda a: a.predict(torch.zeros(3, 1, 2), a.adapt(episodes_of(a.family))), ValueError,
         r"observations must have shape \[2, envs, 2\], got \[3, 1, 2\]"),
        (lambda a: a.predict(torch.zeros(2, 1, 2), {"bias": 1}), TypeError,
         "adapted must be a state from adapt or predict, got dict"),
        (lambda a: a.predict(torch.zeros(2, 1, 2), tiny().adapt(episodes_of(a.family))),
         ValueError, "adapted must be a state of this agent, got another agent's"),
        (lambda a: a.predict(torch.zeros(2, 1, 2), deterministic=False), ValueError,
         r"generator must be given to draw actions \(deterministic=False\)"),
    ],
)  # fmt: skip
def test_recorded_data_that_do_not_fit_are_rejected(call, error, message):
    with pytest.raises(error, match=message):
        call(tiny())


@dataclass(frozen=True)
class UndividedConfig:
    """Settings without the number that actions are divided by."""

    meta_batch_size: int = 2
    step_size: float = 0.1


class UndividedAgent(TinyAgent):
    config_type = UndividedConfig


def test_settings_without_an_action_divisor_fit_every_family():
    family = make_family("Bandit:n10-k5")
    assert family.action_divisor is None
    assert UndividedAgent(family).config == UndividedConfig()
