"""MAML for supervised regression: the core's second client beside MAML-TRPO."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.bilevel import InnerLoop, Params, adapt, inner_step, meta_gradient, sgd
from metarl.checkpoints import load_checkpoint, read_counter, save_checkpoint, select_tensors
from metarl.fewshot.sinusoid import FewShotBatch, SinusoidTasks
from metarl.finite import in_iteration, require_finite_params, require_finite_tasks
from metarl.mlp import Activation, activation_function, init_mlp, mlp
from metarl.ranges import require_at_least, require_between
from metarl.seeding import torch_generator
from metarl.stored_settings import read_settings

__all__ = ["MAML", "MAMLConfig"]

_ADAM = ("step", "exp_avg", "exp_avg_sq")  # what torch keeps for each parameter
_REMEDY = "try a smaller inner_lr or meta_lr"


@dataclass(frozen=True)
class MAMLConfig:
    """Defaults are those of the sinusoid experiment of Finn et al. 2017 (arXiv:1703.03400)."""

    shots: int = 10
    """Support points per task."""
    meta_batch_size: int = 25
    """Tasks per iteration."""
    num_inner_steps: int = 1
    """Gradient steps of adaptation in training. 0 pre-trains one net on all tasks."""
    inner_lr: float = 0.01
    """Learning rate of adaptation."""
    mode: Literal["unrolled", "recurrence", "first_order"] = "unrolled"
    """How the meta-gradient is computed; first_order drops second derivatives."""
    meta_lr: float = 1e-3
    """Learning rate of Adam, the outer optimiser."""
    hidden_sizes: tuple[int, ...] = (40, 40)
    """Hidden layers."""
    activation: Activation = "relu"
    """Between the layers."""

    def __post_init__(self) -> None:
        for name in ("shots", "meta_batch_size"):
            require_at_least(name, getattr(self, name), 1)
        require_at_least("num_inner_steps", self.num_inner_steps, 0)
        for name in ("inner_lr", "meta_lr"):
            require_between(name, getattr(self, name), 0, float("inf"), open_low=True)
        for size in self.hidden_sizes:
            require_at_least("hidden_sizes", size, 1)
        activation_function(self.activation)
        if self.mode not in ("unrolled", "recurrence", "first_order"):
            raise ValueError(
                f"mode must be 'unrolled', 'recurrence' or 'first_order', got {self.mode!r}"
            )


class MAML:
    """A perceptron whose first gradient steps on a new curve fit it.

    Source: Finn et al. 2017 (arXiv:1703.03400), alg. 2.
    """

    def __init__(
        self,
        tasks: SinusoidTasks,
        config: MAMLConfig | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.tasks, self.config, self.seed = tasks, config or MAMLConfig(), seed
        self.device = torch.device(device)
        sizes = (1, *self.config.hidden_sizes, 1)
        initial = init_mlp(sizes, torch_generator(seed, "parameters"), scheme="fan_in")
        self.params: Params = {name: p.to(self.device) for name, p in initial.items()}
        self.num_iterations = 0
        self._activation = activation_function(self.config.activation)
        self._inner = InnerLoop(
            loss=self._loss,
            rule=sgd(self.config.inner_lr),
            num_steps=self.config.num_inner_steps,
            mode=self.config.mode,
            batching="explicit",
        )
        self._optimizer = torch.optim.Adam(
            list(self.params.values()), lr=self.config.meta_lr, fused=True
        )

    def iterate(self) -> dict[str, float]:
        """One meta-update on fresh tasks.

        Raises:
            FloatingPointError: if a loss or a gradient is not finite; the parameters stay as they
                were.
        """
        config = self.config
        chance = torch_generator(self.seed, "tasks", self.num_iterations, device=self.device)
        batch = self.tasks.sample(config.meta_batch_size, config.shots, config.shots, chance)
        losses, grads = meta_gradient(self.params, batch.support, batch.query, self._inner)
        with in_iteration(self.num_iterations + 1):
            require_finite_tasks("query loss", losses, remedy=_REMEDY)
            require_finite_params("meta-gradient of", grads, remedy=_REMEDY)
        for name, p in self.params.items():
            p.grad = grads[name]
        self._optimizer.step()
        self.num_iterations += 1
        return {"meta/query_mse": float(losses.mean())}

    def adapt(self, support: tuple[Tensor, Tensor]) -> Params:
        """Parameters of all tasks after the inner steps; inputs, targets [tasks, shots, 1]."""
        return adapt(self.params, support, self._inner)

    def predict(self, params: Params, inputs: Tensor) -> Tensor:
        """Targets for inputs [tasks, points, 1], with parameters that `adapt` returned."""
        return mlp(params, inputs, self._activation)

    def adaptation_curve(self, batch: FewShotBatch, num_steps: int) -> NDArray[np.float64]:
        """Query mean squared error of each task after 0 … num_steps steps, [steps + 1, tasks]."""
        params = adapt(self.params, batch.support, replace(self._inner, num_steps=0))
        errors = [self._loss(params, batch.query)]
        for _ in range(num_steps):
            params = inner_step(params, batch.support, self._inner)
            errors.append(self._loss(params, batch.query))
        curve: NDArray[np.float64] = torch.stack(errors).double().cpu().numpy()
        return curve

    def save(self, path: Path) -> None:
        """Write parameters, optimiser, settings and counters.

        Raises:
            FloatingPointError: if a parameter is not finite; nothing is written.
        """
        require_finite_params("parameter", self.params)
        groups = {"parameters": self.params, **self._optimizer_state()}
        tensors = {f"{group}/{name}": t for group, ts in groups.items() for name, t in ts.items()}
        save_checkpoint(
            path,
            tensors,
            {
                "agent": "fewshot-maml",
                "environment": "sinusoid",
                "seed": self.seed,
                "config": asdict(self.config),
                "counters": {"num_iterations": self.num_iterations},
            },
        )

    @classmethod
    def load(cls, path: Path, tasks: SinusoidTasks, *, device: torch.device | str = "cpu") -> MAML:
        """The learner of a checkpoint; it goes on as if it had never been stopped.

        One of format 1 holds no optimiser; its learner adapts and predicts, but `iterate` begins
        with a fresh optimiser.

        Raises:
            ValueError: if the file is no checkpoint of this learner.
        """
        tensors, header = load_checkpoint(path, agent="fewshot-maml", environment="sinusoid")
        config = read_settings(MAMLConfig, header["config"], where=f"checkpoint {path}")
        learner = cls(tasks, config, seed=header["seed"], device=device)
        held = select_tensors(path, tensors, "parameters", learner.params)
        for name, p in learner.params.items():
            p.copy_(held[name])
        learner.num_iterations = read_counter(path, header, "num_iterations")
        if header["format_version"] > 1:
            learner._restore_optimizer(path, tensors)
        return learner

    def _optimizer_state(self) -> dict[str, Params]:
        """Adam's step counts and moments, by group; before the first step they are zeros."""
        groups: dict[str, Params] = {f"optimizer/{kind}": {} for kind in _ADAM}
        for name, p in self.params.items():
            state = self._optimizer.state.get(p, {})
            for kind in _ADAM:
                empty = torch.zeros((), device=p.device) if kind == "step" else torch.zeros_like(p)
                groups[f"optimizer/{kind}"][name] = state.get(kind, empty)
        return groups

    def _restore_optimizer(self, path: Path, tensors: dict[str, Tensor]) -> None:
        for group, like in self._optimizer_state().items():
            held = select_tensors(path, tensors, group, like)
            for name, p in self.params.items():
                self._optimizer.state[p][group.removeprefix("optimizer/")] = held[name]

    def _loss(self, params: Params, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        return (mlp(params, inputs, self._activation) - targets).square().mean((-2, -1))
