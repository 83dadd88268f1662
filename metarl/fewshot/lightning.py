"""Any few-shot learner under a Lightning Trainer: its loops, callbacks, loggers and checkpoints.

`FewShotTraining` samples the tasks, computes the meta-gradient and keeps the counters. Lightning
owns the tensors and decides when to iterate, validate, save and stop. Results are bitwise identical
to `FewShotTraining.iterate`. Needs Lightning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from metarl.fewshot.training import FewShotTraining
from metarl.finite import first_non_finite
from metarl.validation import require_at_least

try:
    from lightning.pytorch import LightningModule
except ImportError as missing:
    raise ImportError(
        "metarl.fewshot.lightning needs Lightning: pip install 'lightning>=2.4'"
    ) from missing

__all__ = ["FewShotModule"]

_RUNNING = "running/"
_STATE = "fewshot"  # key in a Lightning checkpoint
_COUNTER = "num_iterations"
Self = TypeVar("Self", bound="FewShotModule")


class FewShotModule(LightningModule):
    """A few-shot learner as a LightningModule; one training step is one meta-update.

        config = recipe("protonet", "glyphs", decay_iterations=1000)
        module = FewShotModule(FewShotTraining("protonet", make_tasks("glyphs"), config))
        best = ModelCheckpoint(monitor="validation/accuracy", mode="max")
        trainer = Trainer(max_steps=1000, accelerator="cpu", callbacks=[best])
        trainer.fit(module)
        evaluate_fewshot(module.fewshot)

    Optimizer, schedule and clipping are taken from the learner's settings. Lightning takes the step
    with the meta-gradient: hooks before the step see the gradients, and `gradient_clip_val` of the
    trainer applies in addition. A checkpoint holds everything that
    `trainer.fit(module, ckpt_path=…)` needs to continue bitwise identically, even in the middle of
    an epoch.

    The module logs `meta/query_loss` (`meta/query_mse` for regression) of each step, and
    `validation/accuracy` on the same 100 tasks in every validation (`train/accuracy` if the data
    set has no validation split, nothing for regression).

    The trainer chooses the device, which must be the device of the data. After `fit`, Lightning
    moves the module to the CPU; `module.to(device)` moves the learner too.
    """

    def __init__(self, fewshot: FewShotTraining, *, iterations_per_epoch: int = 100) -> None:
        """Wrap a learner, trained or not.

        Args:
            fewshot: the learner; the module shares its parameters.
            iterations_per_epoch: meta-updates per epoch, after which Lightning validates and calls
                the hooks of the end of an epoch.

        Raises:
            ValueError: if `iterations_per_epoch` is below 1.
        """
        super().__init__()
        require_at_least("iterations_per_epoch", iterations_per_epoch, 1)
        self.fewshot = fewshot
        self.params = nn.ParameterDict(fewshot.params)
        for name, values in fewshot.running.items():
            self.register_buffer(_RUNNING + name, values)
        self._iterations_per_epoch = iterations_per_epoch
        self._share_tensors()
        self.save_hyperparameters(self._identity())

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Reject settings of the trainer that would change the results silently.

        Raises:
            ValueError: if the trainer has several devices, another precision than 32-true, or
                accumulates gradients.
        """
        trainer = self.trainer
        requirements = (
            ("devices", trainer.world_size, 1, "all tasks form one batch on one device"),
            ("precision", trainer.precision, "32-true", "tasks are sampled in float32"),
            ("accumulate_grad_batches", trainer.accumulate_grad_batches, 1,
             "meta_batch_size sets the size of a step's batch"),
        )  # fmt: skip
        for name, found, needed, reason in requirements:
            if found != needed:
                raise ValueError(
                    f"{name} of the Trainer must be {needed!r} for a few-shot learner "
                    f"because {reason}, got {found!r}"
                )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The learner's optimizer; the schedule of its settings is applied in each step."""
        return self.fewshot.optimizer

    def train_dataloader(self) -> _Epoch:
        """The steps of an epoch; `FewShotTraining` samples the tasks of each from its seed."""
        return _Epoch(self._iterations_per_epoch)

    def val_dataloader(self) -> _Epoch:
        """One step, whose tasks are always the same."""
        return _Epoch(1)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Set the meta-gradient on new tasks as the parameters' gradients, and return the loss.

        Raises:
            FloatingPointError: if a loss or a gradient is not finite; the parameters are
                unchanged.
        """
        metrics = self.fewshot.compute_gradients()
        self.log_dict(metrics, prog_bar=True, batch_size=1)
        (loss,) = metrics.values()
        return torch.tensor(loss, dtype=torch.float32)

    def optimizer_zero_grad(self, *args: object) -> None:
        """Do nothing: each step overwrites the gradients."""

    def backward(self, loss: Tensor, *args: object, **keywords: object) -> None:
        """Do nothing: `training_step` has set the gradients."""

    def validation_step(self, batch: int, batch_idx: int) -> None:  # noqa: ARG002
        """Log the accuracy on the validation tasks; nothing for regression."""
        with torch.inference_mode(False), torch.no_grad():  # adaptation needs gradients
            self.log_dict(self.fewshot.validate(), prog_bar=True, batch_size=1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the learner's identity and its number of iterations."""
        checkpoint[_STATE] = {**self._identity(), _COUNTER: self.fewshot.num_iterations}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the number of iterations; Lightning restores parameters and optimizer.

        Raises:
            ValueError: if the checkpoint has another learner, data set, seed or settings, or a
                parameter is not finite.
        """
        stored = checkpoint.get(_STATE)
        if stored is None:
            raise ValueError("the Lightning checkpoint must be one of a FewShotModule")
        name = first_non_finite(checkpoint["state_dict"])
        if name is not None:
            raise ValueError(
                f"the Lightning checkpoint must hold finite numbers only, {name} does not; use an "
                "earlier one"
            )
        for name, wanted in self._identity().items():
            if stored.get(name, wanted) != wanted:
                raise ValueError(
                    f"the Lightning checkpoint must have {name} {wanted!r} like the module, "
                    f"got {stored[name]!r}"
                )
        self.fewshot.num_iterations = stored[_COUNTER]
        self.fewshot.forget_statistics()

    def _identity(self) -> dict[str, Any]:
        """Facts that a checkpoint must share for training to continue as if uninterrupted."""
        fewshot = self.fewshot
        named = {"learner": fewshot.name, "dataset": fewshot.tasks.name, "seed": fewshot.seed}
        return {**named, **asdict(fewshot.config)}

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Share the tensors again after a move to another device or type."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._share_tensors()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Share the tensors of a copy with its own learner."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._share_tensors()

    def _share_tensors(self) -> None:
        """Let the learner use the module's tensors."""
        running = {name: self.get_buffer(_RUNNING + name) for name in self.fewshot.running}
        self.fewshot.set_params(dict(self.params.items()), running)


class _Epoch:
    """A number of steps as a data loader, which Lightning requires.

    The learner's counter determines the tasks of a step, so there is no state to restore if an
    epoch resumes in the middle; the two state methods declare this to Lightning.
    """

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._num_steps))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state
