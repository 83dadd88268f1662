"""Any few-shot learner under a Lightning Trainer: its loops, callbacks, loggers and checkpoints.

`FewShotTraining` stays what trains: it draws the tasks, computes the meta-gradient and keeps the
counters. Lightning owns the tensors and decides when to iterate, validate, save and stop. So the
numbers are those of `FewShotTraining.iterate`, bitwise. Needs Lightning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from metarl.fewshot.training import FewShotTraining
from metarl.validation import require_at_least

try:
    from lightning.pytorch import LightningModule
except ImportError as missing:
    raise ImportError(
        "metarl.fewshot.lightning needs Lightning: pip install 'lightning>=2.4'"
    ) from missing

__all__ = ["FewShotModule"]

_RUNNING = "running/"
_STATE = "fewshot"  # its place in a Lightning checkpoint
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

    The optimizer, its schedule and its clipping are those of the learner's settings. The step
    itself is Lightning's, with the meta-gradient in place: hooks before it see the gradients, a
    `gradient_clip_val` of the trainer comes on top, and a checkpoint holds everything that
    `trainer.fit(module, ckpt_path=…)` needs to continue bitwise identically, in an epoch's middle
    too.

    Logged are `meta/query_loss` (`meta/query_mse` for regression) of each step, and in validation
    `validation/accuracy` of always the same 100 tasks (`train/accuracy` where the data have no
    validation split, nothing for regression).

    The trainer decides the device; data that are kept on a device must be on that one. After `fit`
    Lightning leaves the module on the CPU, `module.to(device)` takes the learner along.
    """

    def __init__(self, fewshot: FewShotTraining, *, iterations_per_epoch: int = 100) -> None:
        """Take over a learner, trained or not.

        Args:
            fewshot: the learner; its parameters become those of the module.
            iterations_per_epoch: meta-updates that Lightning calls an epoch, after which it
                validates and calls what happens at the end of epochs.

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
        """Reject settings of the trainer that would change the numbers silently.

        Raises:
            ValueError: if the trainer has several devices, another precision than 32-true, or
                accumulates gradients.
        """
        trainer = self.trainer
        refused = (
            ("devices", trainer.world_size, 1, "all tasks are one batch on one device"),
            ("precision", trainer.precision, "32-true", "tasks are drawn in float32"),
            ("accumulate_grad_batches", trainer.accumulate_grad_batches, 1,
             "meta_batch_size is what makes a step's batch larger"),
        )  # fmt: skip
        for name, found, needed, reason in refused:
            if found != needed:
                raise ValueError(
                    f"{name} of the Trainer must be {needed!r} for a few-shot learner, for "
                    f"{reason}, got {found!r}"
                )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The learner's optimizer; the schedule of its settings is applied in each step."""
        return self.fewshot.optimizer

    def train_dataloader(self) -> _Epoch:
        """The steps of an epoch; `FewShotTraining` draws the tasks of each from its seed."""
        return _Epoch(self._iterations_per_epoch)

    def val_dataloader(self) -> _Epoch:
        """One step, whose tasks are always the same."""
        return _Epoch(1)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:  # noqa: ARG002
        """The meta-gradient on fresh tasks, set as the parameters' gradients; the loss.

        Raises:
            FloatingPointError: if a loss or a gradient is not finite; the parameters stay as they
                were.
        """
        metrics = self.fewshot.compute_gradients()
        self.log_dict(metrics, prog_bar=True, batch_size=1)
        (loss,) = metrics.values()
        return torch.tensor(loss)

    def optimizer_zero_grad(self, *args: object) -> None:
        """Nothing: gradients are not added up, each step sets them again."""

    def backward(self, loss: Tensor, *args: object, **keywords: object) -> None:
        """Nothing: `training_step` has left the meta-gradient where the optimizer finds it."""

    def validation_step(self, batch: int, batch_idx: int) -> None:  # noqa: ARG002
        """Accuracy on the validation tasks; nothing for regression."""
        with torch.inference_mode(False), torch.no_grad():  # adaptation needs gradients
            self.log_dict(self.fewshot.validate(), prog_bar=True, batch_size=1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the learner's identity and its number of iterations."""
        checkpoint[_STATE] = {**self._identity(), _COUNTER: self.fewshot.num_iterations}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the count of iterations; parameters and optimizer are restored by Lightning.

        Raises:
            ValueError: if the checkpoint is of another learner, data set, seed or settings.
        """
        held = checkpoint.get(_STATE)
        if held is None:
            raise ValueError("the Lightning checkpoint must be of a FewShotModule, it is not")
        for name, wanted in self._identity().items():
            if held.get(name, wanted) != wanted:
                raise ValueError(
                    f"the Lightning checkpoint must have {name} {wanted!r} as the module has, "
                    f"it has {held[name]!r}"
                )
        self.fewshot.num_iterations = held[_COUNTER]

    def _identity(self) -> dict[str, Any]:
        """Facts that a checkpoint must share for training to continue as if uninterrupted."""
        fewshot = self.fewshot
        named = {"learner": fewshot.name, "dataset": fewshot.tasks.name, "seed": fewshot.seed}
        return {**named, **asdict(fewshot.config)}

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Called by every move of a module to another device or type."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._share_tensors()
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies and pickles share their tensors with their own learner."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._share_tensors()

    def _share_tensors(self) -> None:
        """Make the module's tensors those of the learner."""
        running = {name: self.get_buffer(_RUNNING + name) for name in self.fewshot.running}
        self.fewshot.set_params(dict(self.params.items()), running)


class _Epoch:
    """A number of steps as a data loader, which Lightning requires.

    Which tasks a step draws is counted by the learner, so there is nothing to restore when an
    epoch is resumed in its middle; the two state methods declare this to Lightning.
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
