"""A learner's whole meta-gradient as one compiled program.

For a small net, most of the time is overhead between thousands of tiny operations: the inner steps
and their derivatives. Here the inner loop, the query loss and both derivatives are traced once into
one graph of plain operations, which `torch.compile` fuses. The results equal the learner's up to
rounding. The first iteration takes longer (sinusoid MAML: about 20 s), and a CPU needs a C++
compiler. Convolutional nets gain little: their time is spent in the convolutions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._inductor.exc import InvalidCxxCompiler
from torch.fx.experimental.proxy_tensor import make_fx

from metarl.fewshot.contract.interface import FewShotLearner, Parts, TrainingContext, parts_of
from metarl.fewshot.data.batches import FewShotBatch, LabeledSet
from metarl.parameters import Params

__all__ = ["CompiledMetaGradient", "require_compilable"]

_Kind = tuple[torch.Size, torch.dtype, torch.device]
_Program = Callable[[Params, Parts, Parts], tuple[Tensor, Params]]


def require_compilable(name: str, learner: FewShotLearner) -> None:
    """Reject a learner whose meta-gradient depends on more than parameters and batch.

    Raises:
        ValueError: with the reason.
    """
    if not getattr(learner, "can_compile", False):
        raise ValueError(
            f"compile must be False for learner {name}: only maml and its variants and cavia can "
            "be compiled"
        )
    for setting in ("first_order_iterations", "multi_step_iterations"):
        if getattr(learner.config, setting, 0):
            raise ValueError(
                f"compile must be False with {setting}, which changes the meta-gradient during "
                f"training; set {setting} to 0"
            )


class CompiledMetaGradient:
    """`meta_gradient` of a learner, compiled for each shape, type and device of batches."""

    def __init__(self, learner: FewShotLearner) -> None:
        """Wrap a learner that `require_compilable` accepts; nothing is compiled yet."""
        self._learner = learner
        self._programs: dict[tuple[_Kind, ...], _Program] = {}

    def __call__(
        self, params: Params, batch: FewShotBatch, context: TrainingContext
    ) -> tuple[Tensor, Params]:
        """Losses of all tasks [tasks] and the gradient; `context` does not affect them.

        Raises:
            RuntimeError: if no C++ compiler is found.
        """
        values = {name: p.detach() for name, p in params.items()}
        support, query = parts_of(batch.support), parts_of(batch.query)
        kinds = tuple((part.shape, part.dtype, part.device) for part in (*support, *query))
        if kinds not in self._programs:
            self._programs[kinds] = self._compiled(context, values, support, query)
        with torch.no_grad():
            return self._programs[kinds](values, support, query)

    def _compiled(self, context: TrainingContext, params: Params, *sets: Parts) -> _Program:
        """The program for inputs like these, after its first call."""
        on_cpu = all(p.device.type == "cpu" for p in params.values())
        # Kernels called from C++, not one by one from Python: 1.4 to 1.7 times as fast.
        options: dict[str, Any] = {"cpp_wrapper": True} if on_cpu else {}

        def whole(params: Params, support: Parts, query: Parts) -> tuple[Tensor, Params]:
            batch = FewShotBatch(LabeledSet(*support), LabeledSet(*query))
            return self._learner.meta_gradient(params, batch, context)

        try:
            with warnings.catch_warnings(), torch.no_grad():
                # torch's compiler imports modules that torch itself deprecates.
                warnings.filterwarnings("ignore", r".*torch\.jit", DeprecationWarning)
                program: _Program = torch.compile(
                    make_fx(whole)(params, *sets), dynamic=False, options=options
                )
                program(params, *sets)
        except InvalidCxxCompiler as error:
            raise RuntimeError(
                "compile needs a C++ compiler and found none; install one, such as g++, or train "
                "without compile"
            ) from error
        return program
