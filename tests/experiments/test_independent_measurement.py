"""Published results, measured again without the library.

Each test loads a committed checkpoint and implements the tasks, the network, the adaptation and the
measurement from the papers' formulas, in plain torch and NumPy. Nothing of metarl is imported.
Scores of agents are measured on the published tasks and compared task by task; few-shot scores are
measured on new tasks.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy import stats
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, linear, max_pool2d, relu

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
CONFIDENCE = 0.99


def published_agent(folder: str) -> tuple[dict[str, Tensor], Tensor, np.ndarray]:
    """Parameters, tasks [N, D], and the returns of the committed run by stage and task, [S, N]."""
    path = RESULTS / folder
    [stored] = json.loads((path / "evaluation.json").read_text())["evaluations"]
    assert stored["protocol"]["deterministic"] == "never"
    returns = np.array(stored["measured"]["returns"])[0].mean(-1)  # of the first run
    tasks = np.array(stored["tasks"]).reshape(-1, *np.shape(stored["tasks"])[-1:])
    return load_file(path / "checkpoint.safetensors"), torch.tensor(tasks), returns


def published_learner(folder: str, file: str) -> tuple[dict[str, Tensor], dict[int, np.ndarray]]:
    """Parameters, and the scores [tasks] after each number of adaptation steps."""
    path = RESULTS / "fewshot" / folder
    rows = json.loads((path / file).read_text())["steps"]
    parameters = load_file(path / "checkpoint.safetensors")
    scores = {row["step"]: np.array(row["scores"]) for row in rows}
    return {name.removeprefix("parameters/"): one for name, one in parameters.items()}, scores


def assert_equal_on_the_same_tasks(mine: np.ndarray, published: np.ndarray) -> None:
    """The 99 % interval of the mean difference over tasks contains 0 at every stage, [S, N].

    Its half width is below a tenth of the published gain, otherwise the test could hardly fail.
    """
    assert mine.shape == published.shape
    differences, gain = mine - published, np.ptp(published.mean(1))
    factor = stats.t.ppf((1 + CONFIDENCE) / 2, differences.shape[1] - 1)
    for stage in differences:
        half = factor * stats.sem(stage)
        assert abs(stage.mean()) <= half
        assert half < 0.1 * gain


def assert_equal_on_other_tasks(mine: np.ndarray, published: np.ndarray) -> None:
    """The 99 % interval of the difference of means contains 0 (Welch)."""
    interval = stats.ttest_ind(mine, published, equal_var=False).confidence_interval(CONFIDENCE)
    assert interval.low <= 0 <= interval.high


def test_maml_trpo_on_2d_navigation():
    params, goals, published = published_agent("Navigation2D-maml17/maml-trpo")
    generator = torch.Generator().manual_seed(11)
    repeated = maml_returns(params, goals.float().repeat(2, 1), generator)
    assert_equal_on_the_same_tasks(repeated.reshape(4, 2, 40).mean(1), published)


def maml_returns(
    params: dict[str, Tensor], goals: Tensor, generator: torch.Generator
) -> np.ndarray:
    """Mean returns [4, N] before and after 1, 2 and 3 gradient steps on 20 episodes each.

    Source: Finn et al. 2017, algorithm 3; the rate is .1, and half of it after the first step.
    """
    own, returns = {name: one.expand(len(goals), *one.shape) for name, one in params.items()}, []
    for rate in (0.1, 0.05, 0.05, 0.0):
        positions, actions, rewards, valid = navigate(own, goals, generator)
        returns.append((rewards * valid).sum(2).mean(1).numpy())
        advantages = advantages_of(positions, rewards, valid)
        own = {name: one.detach().requires_grad_() for name, one in own.items()}
        log_probs = gaussian(own, positions.flatten(1, 2)).log_prob(actions.flatten(1, 2)).sum(-1)
        weighted = (log_probs * (advantages * valid).flatten(1)).sum(1) / valid.sum((1, 2))
        gradients = torch.autograd.grad(-weighted.sum(), list(own.values()))
        own = {n: p - rate * g for (n, p), g in zip(own.items(), gradients, strict=True)}
    return np.stack(returns)


def gaussian(params: dict[str, Tensor], inputs: Tensor) -> torch.distributions.Normal:
    """The policy of each task at positions [N, B, 2]."""
    hidden = inputs
    for k in range(3):
        hidden = hidden @ params[f"weight_{k}"].mT + params[f"bias_{k}"].unsqueeze(-2)
        hidden = torch.tanh(hidden) if k < 2 else hidden
    deviation = params["log_std"].clamp(min=math.log(1e-6)).exp()
    return torch.distributions.Normal(hidden, deviation.unsqueeze(-2))


@torch.no_grad()
def navigate(
    params: dict[str, Tensor], goals: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """20 episodes of each task: positions and actions [N, 20, 100, 2], rewards and validity.

    The reward is −‖s_{t+1} − g‖; steps are clipped to ±.1 and an episode ends within ±.01 of the
    goal.
    """
    place, active = torch.zeros(len(goals), 20, 2), torch.ones(len(goals), 20)
    steps = []
    for _ in range(100):
        policy = gaussian(params, place)
        action = policy.mean + policy.stddev * torch.randn(place.shape, generator=generator)
        following = place + action.clamp(-0.1, 0.1)
        offset = following - goals.unsqueeze(1)
        steps.append((place, action, -offset.norm(dim=-1), active))
        place, active = following, active * ~(offset.abs() < 0.01).all(-1)
    positions, actions, rewards, valid = (torch.stack(part, 2) for part in zip(*steps, strict=True))
    return positions, actions, rewards, valid


def advantages_of(positions: Tensor, rewards: Tensor, valid: Tensor) -> Tensor:
    """Discounted returns minus a linear baseline in s, s², t, t², t³ and 1, standardized.

    The baseline is a ridge regression for each task (Duan et al. 2016, arXiv:1604.06778, sec. 4).
    """
    returns, later = torch.zeros_like(rewards), torch.zeros_like(rewards[..., 0])
    for t in reversed(range(100)):
        later = (rewards[..., t] + 0.99 * later) * valid[..., t]
        returns[..., t] = later
    time = (torch.arange(100.0).double() / 100).expand(*rewards.shape)[..., None]
    place = positions.double().clamp(-10, 10)
    features = torch.cat([place, place**2, time, time**2, time**3, time**0], -1).flatten(1, 2)
    used = features * valid.flatten(1).unsqueeze(-1)
    gram = used.mT @ used + 1e-5 * torch.eye(8, dtype=torch.float64)
    weights = torch.linalg.solve(gram, used.mT @ returns.double().flatten(1).unsqueeze(-1))
    advantages = returns - (features @ weights).view(returns.shape).float()
    count = valid.sum((1, 2), keepdim=True)
    centered = advantages - (advantages * valid).sum((1, 2), keepdim=True) / count
    return centered / ((centered**2 * valid).sum((1, 2), keepdim=True) / count).sqrt()


def test_rl2_on_grid_navigation():
    params, goals, published = published_agent("GridNavigation-varibad/rl2")
    generator = torch.Generator().manual_seed(12)
    assert_equal_on_the_same_tasks(rl2_returns(params, goals[:, 0].long(), generator), published)


@torch.no_grad()
def rl2_returns(params: dict[str, Tensor], tasks: Tensor, generator: torch.Generator) -> np.ndarray:
    """Returns of 4 episodes of 15 steps with one memory (Duan 2016; GridNavi of Zintgraf 2020)."""
    goals = torch.tensor([(x, y) for x in range(5) for y in range(5) if x > 1 or y > 1])[tasks]
    moves = torch.tensor([(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)])
    memory = torch.nn.GRUCell(9, 64)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(memory, name).copy_(params[f"parameters/policy.memory.{name}"])
    weight, bias = (params[f"parameters/policy.head.{name}_0"] for name in ("weight", "bias"))
    hidden, outcome = torch.zeros(len(tasks), 64), torch.zeros(len(tasks), 7)
    returns = np.zeros((4, len(tasks)))
    for episode in range(4):
        cells = torch.zeros(len(tasks), 2, dtype=torch.long)
        for step in range(15):
            hidden = memory(torch.cat([cells.float(), outcome], -1), hidden)
            probabilities = linear(hidden, weight, bias).softmax(-1)
            actions = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
            cells = (cells + moves[actions]).clamp(0, 4)
            rewards = torch.where((cells == goals).all(-1), 1.0, -0.1)
            returns[episode] += rewards.numpy()
            one_hot = torch.nn.functional.one_hot(actions, 5).float()
            ended = torch.full((len(tasks), 1), float(step == 14))
            outcome = torch.cat([one_hot, rewards[:, None], ended], -1)
    return returns


def sinusoids(num_tasks: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """10 support points and 100 even query points of A sin(x − φ), A ~ U(.1, 5), φ ~ U(0, π)."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(num_tasks, 12, 1, generator=generator)
    amplitude, phase = 0.1 + 4.9 * uniform[:, :1], math.pi * uniform[:, 1:2]
    support, query = -5 + 10 * uniform[:, 2:], torch.linspace(-5, 5, 100).view(1, 100, 1)
    return (
        support,
        amplitude * torch.sin(support - phase),
        query.expand(num_tasks, -1, -1),
        amplitude * torch.sin(query - phase),
    )


def curve(params: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """The perceptron with a task axis, [N, B, I] ↦ [N, B, 1]."""
    for k in range(3):
        inputs = inputs @ params[f"weight_{k}"].mT + params[f"bias_{k}"].unsqueeze(-2)
        inputs = relu(inputs) if k < 2 else inputs
    return inputs


def test_maml_on_sinusoids():
    params, published = published_learner("sinusoid/maml-10shot", "evaluation-10shot.json")
    support, targets, query, answers = sinusoids(4000, seed=13)
    own = {name: one.expand(4000, *one.shape) for name, one in params.items()}
    for step in range(3):
        errors = (curve(own, query) - answers).square().mean((1, 2))
        assert_equal_on_other_tasks(errors.detach().numpy(), published[step])
        own = {name: one.detach().requires_grad_() for name, one in own.items()}
        loss = (curve(own, support) - targets).square().mean((1, 2)).sum()
        gradients = torch.autograd.grad(loss, list(own.values()))
        own = {n: p - 0.01 * g for (n, p), g in zip(own.items(), gradients, strict=True)}


def test_cavia_on_sinusoids():
    params, published = published_learner("sinusoid/cavia-10shot", "evaluation-10shot.json")
    support, targets, query, answers = sinusoids(4000, seed=14)
    context = torch.zeros(4000, 1, 5)

    def with_context(inputs: Tensor, numbers: Tensor) -> Tensor:
        return torch.cat([inputs, numbers.expand(-1, inputs.shape[1], -1)], -1)

    for step in range(3):
        errors = (curve(params, with_context(query, context)) - answers).square().mean((1, 2))
        assert_equal_on_other_tasks(errors.detach().numpy(), published[step])
        context = context.detach().requires_grad_()
        outputs = curve(params, with_context(support, context))
        loss = (outputs - targets).square().mean((1, 2)).sum()
        context = context - torch.autograd.grad(loss, context)[0]


OMNIGLOT = Path(os.environ.get("METARL_OMNIGLOT", ROOT / "data" / "omniglot"))


@pytest.mark.skipif(
    not (OMNIGLOT / "images_evaluation.zip").is_file(), reason="METARL_OMNIGLOT has no images"
)
def test_protonet_on_omniglot():
    folder = "omniglot-vinyals/protonet-5way-1shot"
    params, published = published_learner(folder, "evaluation-5way-1shot.json")
    images = omniglot_test_images()  # [1692, 20, 28, 28]
    assert len(images) == 4 * 423
    generator = np.random.default_rng(15)
    mine = np.array([protonet_accuracy(params, images, generator) for _ in range(200)])
    assert_equal_on_other_tasks(mine, published[1])


def omniglot_test_images() -> np.ndarray:
    """Test characters of Vinyals et al. 2016, nearest-resized; rotations are further classes."""
    lists = ROOT / "metarl/fewshot/datasets/assets/omniglot_vinyals.json"
    chosen: dict[str, Any] = json.loads(lists.read_text())["test"]
    classes: dict[str, list[np.ndarray]] = {}
    for name in ("images_background.zip", "images_evaluation.zip"):
        with zipfile.ZipFile(OMNIGLOT / name) as archive:
            for member in sorted(archive.namelist()):
                _, *where = member.split("/")
                if not member.endswith(".png") or where[0] not in chosen:
                    continue
                first, last = chosen[where[0]]
                if first <= int(where[1].removeprefix("character")) <= last:
                    drawing = Image.open(io.BytesIO(archive.read(member)))
                    small = drawing.resize((28, 28), Image.Resampling.NEAREST)
                    classes.setdefault("/".join(where[:2]), []).append(~np.asarray(small))
    images = np.array(list(classes.values())).astype(np.float32)
    return np.concatenate([np.rot90(images, k, axes=(2, 3)) for k in range(4)])


@torch.no_grad()
def protonet_accuracy(
    params: dict[str, Tensor], images: np.ndarray, generator: np.random.Generator
) -> float:
    """Accuracy on one 5-way 1-shot task with 15 queries per class (Snell et al. 2017)."""
    drawn = images[generator.choice(len(images), 5, replace=False)]
    order = np.stack([generator.permutation(20)[:16] for _ in range(5)])
    hidden = torch.tensor(drawn[np.arange(5)[:, None], order]).view(80, 1, 28, 28)
    for k in range(4):
        hidden = conv2d(hidden, params[f"weight_{k}"], padding=1)
        mean, variance = (params[f"running/running_{part}_{k}"] for part in ("mean", "variance"))
        scale, offset = params[f"scale_{k}"][0], params[f"offset_{k}"][0]
        hidden = max_pool2d(relu(batch_norm(hidden, mean, variance, scale, offset)), 2)
    embedded = hidden.flatten(1).view(5, 16, 64)
    prototypes, queries = embedded[:, 0], embedded[:, 1:]
    nearest = torch.cdist(queries.reshape(75, 64), prototypes).argmin(-1)
    return float((nearest.view(5, 15) == torch.arange(5)[:, None]).float().mean())
