"""RecurrentPPO of sb3-contrib as an RL² agent.

    python scripts/examples/train_recurrent_ppo.py --out DIR

A whole trial is one episode of its environment (see `metarl.rollouts.trial_env`), so the algorithm
is unchanged. The evaluator of this toolkit then measures each episode. Needs sb3-contrib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metarl.console import plain_console
from metarl.envs import make_family
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.files import write_evaluations
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.results import Evaluation
from metarl.report.terminal import print_evaluation
from metarl.rollouts.trial_env import TrialFamily
from metarl.scripts.command_line import parse, run
from metarl.validation import Count, Seed, Settings

__all__ = ["RecurrentPPOConfig", "main", "train"]


@dataclass(frozen=True)
class RecurrentPPOConfig(Settings):
    """Train RecurrentPPO on trials of a family and evaluate it on unseen tasks."""

    out: Path
    """A new directory for model.zip and evaluation.json."""
    env: str = "Bandit:n10-k5"
    """Family and variant."""
    num_episodes: Count = 2
    """Episodes of a trial."""
    num_envs: Count = 64
    """Environments; each has a new task for each trial."""
    num_steps: Count = 100_000
    """Environment steps of training."""
    num_tasks: Count = 1000
    """Unseen tasks of the evaluation."""
    seed: Seed = 0
    """Seed of tasks, parameters and actions."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        if self.out.exists():
            raise ValueError(f"out must be a new directory, {self.out} exists")


def main(arguments: Sequence[str]) -> None:
    """The script's command line."""
    config = parse(
        RecurrentPPOConfig, arguments, program="python scripts/examples/train_recurrent_ppo.py"
    )
    evaluation = train(config)
    console = plain_console()
    print_evaluation(console, evaluation)
    console.print(
        f"wrote {config.out / 'evaluation.json'}; evaluate it differently with "
        f"metarl evaluate {config.out / 'model.zip'} --sb3 RecurrentPPO --env {config.env} "
        f"--adaptation-steps {config.num_episodes - 1}",
        soft_wrap=True,
    )


def train(config: RecurrentPPOConfig) -> Evaluation:
    """Train, save and evaluate.

    Raises:
        ImportError: if sb3-contrib is missing.
    """
    try:
        from sb3_contrib import RecurrentPPO
    except ImportError as error:
        raise ImportError(
            "scripts/examples/train_recurrent_ppo.py needs sb3-contrib: pip install sb3-contrib"
        ) from error

    from metarl.bridges.sb3_agent import SB3Agent
    from metarl.bridges.sb3_env import as_sb3_vec_env

    family = make_family(config.env)
    trials = TrialFamily(family, config.num_episodes)
    envs = as_sb3_vec_env(trials, config.num_envs, seed=config.seed)
    model = RecurrentPPO(
        "MlpLstmPolicy",
        envs,
        n_steps=trials.horizon,
        batch_size=max(2, config.num_envs * trials.horizon // 4),
        learning_rate=1e-3,
        policy_kwargs={"lstm_hidden_size": 64, "net_arch": []},
        seed=config.seed,
        device="cpu",
    )
    config.out.mkdir(parents=True)
    model.learn(config.num_steps)
    model.save(config.out / "model.zip")
    protocol = EvaluationProtocol(
        num_tasks=config.num_tasks,
        exploration_episodes=1,
        evaluation_episodes=1,
        adaptation_steps=config.num_episodes - 1,
        seed=config.seed,
    )
    evaluation = evaluate(SB3Agent(model, family), family, protocol, name="RecurrentPPO")
    write_evaluations(config.out / "evaluation.json", [evaluation])
    return evaluation


if __name__ == "__main__":
    run(main)
