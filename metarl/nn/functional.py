"""Any `nn.Module` as a pure function of its parameters, if adaptation supports it.

Some modules cannot be differentiated twice, cannot be vectorized over tasks, or have a state that
adaptation would change. They are rejected before training, with one sentence. Functions called in a
module's `forward` (`functional.dropout`, fused attention) cannot be checked here; torch itself
rejects most of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["functional_module"]

_RECURRENT = (nn.RNNBase,)
_ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
            nn.FeatureAlphaDropout)  # fmt: skip
_UNSUPPORTED_TYPES = (
    (nn.RReLU, "cannot run for many tasks at once, not even in evaluation: use nn.LeakyReLU"),
    (nn.EmbeddingBag, "has no second derivative: use nn.Embedding and sum or average over its "
     "points"),
    (nn.Hardsigmoid, "has no second derivative: use nn.Sigmoid or nn.Hardtanh"),
    ((nn.FractionalMaxPool2d, nn.FractionalMaxPool3d), "pools in random regions, others in each "
     "pass: use nn.MaxPool2d or nn.AdaptiveMaxPool2d"),
    (nn.CrossMapLRN2d, "cannot run for many tasks at once: use nn.LocalResponseNorm"),
)  # fmt: skip


def functional_module(
    module: nn.Module,
) -> tuple[Callable[..., Any], dict[str, Tensor]]:
    """Convert a module to a function apply(params, *inputs) and its parameters.

    Buffers enter as constants. `apply` may be used inside `vmap` and differentiated twice, which
    is what `metarl.adapt` with batching "vmap" does with it.

    Args:
        module: any module without the parts listed under Raises. It is not changed.

    Returns:
        apply(params, *inputs, **keywords) and a detached copy of the parameters by name.

    Raises:
        ValueError: if the module has no parameters, updates running batch statistics, applies
            dropout, contains a fused recurrent layer or fused attention, reparametrizes its
            weights (spectral norm), is lazy and not initialized, or is one of nn.RReLU,
            nn.EmbeddingBag, nn.Hardsigmoid, fractional max-pooling, nn.CrossMapLRN2d, and
            nn.Embedding with sparse gradients or a maximum norm.

    Example:
        >>> apply, params = functional_module(nn.Linear(2, 1))
        >>> apply(params, torch.zeros(3, 2)).shape
        torch.Size([3, 1])
    """
    for name, part in module.named_modules():
        reason = _reason_to_reject(part)
        if reason:
            raise ValueError(f"module part {name or type(part).__name__!r} {reason}")
    params = {name: p.detach().clone() for name, p in module.named_parameters()}
    if not params:
        raise ValueError("module must have parameters to adapt, it has none")
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}

    def apply(values: dict[str, Tensor], *inputs: Any, **keywords: Any) -> Any:
        return torch.func.functional_call(module, {**buffers, **values}, inputs, keywords)

    return apply, params


def _reason_to_reject(part: nn.Module) -> str | None:
    norm = isinstance(part, nn.modules.batchnorm._NormBase)
    if norm and part.training and part.track_running_stats:
        return (
            "updates running statistics, which adaptation cannot do for many tasks at once: "
            "build it with track_running_stats=False, or call .eval() to freeze them"
        )
    if isinstance(part, _RECURRENT):
        return (
            "is a fused recurrent layer without second derivatives under vmap: "
            "use nn.LSTMCell, nn.GRUCell or nn.RNNCell in a loop over time"
        )
    if isinstance(part, _ATTENTION):
        return (
            "may run fused attention, which has no second derivative: write the attention with "
            "torch.matmul and softmax"
        )
    if isinstance(part, _DROPOUT) and part.training and part.p > 0:
        return "drops random units, which differ in each pass: set p=0 or call .eval()"
    if nn.utils.parametrize.is_parametrized(part) or _has_spectral_norm(part):
        return (
            "reparametrizes its weights (spectral or weight norm), which keeps a state: "
            "remove the parametrization"
        )
    return _weight_reason(part) or _type_reason(part)


def _weight_reason(part: nn.Module) -> str | None:
    """The problem of a layer whose weights are not initialized or do not support adaptation."""
    if isinstance(part, nn.modules.lazy.LazyModuleMixin) and part.has_uninitialized_params():
        return "is lazy and has no parameters yet: call the module on one batch of inputs first"
    if isinstance(part, nn.Embedding) and part.sparse:
        return "has sparse gradients, which no adaptation step can use: build it with sparse=False"
    if isinstance(part, nn.Embedding) and part.max_norm is not None:
        return (
            "rescales its weights in place, which would affect all tasks: "
            "build it with max_norm=None"
        )
    return None


def _type_reason(part: nn.Module) -> str | None:
    """The problem of a layer that no settings can make compatible."""
    return next((reason for kind, reason in _UNSUPPORTED_TYPES if isinstance(part, kind)), None)


def _has_spectral_norm(part: nn.Module) -> bool:
    return any(
        type(hook).__name__ in ("SpectralNorm", "WeightNorm")
        for hook in part._forward_pre_hooks.values()
    )
