"""Matching networks: classification by attention over the support set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from metarl.fewshot.contract.metric import Embedded, MetricLearner, SharedTasks, membership
from metarl.fewshot.contract.problem import Problem
from metarl.fewshot.contract.settings import FewShotSettings, require_classes, require_shared_norm
from metarl.nn.lstm_cell import LSTMState, init_lstm, lstm_step
from metarl.parameters import Params
from metarl.validation import Positive, SmallCount

__all__ = ["MatchingNet", "MatchingNetConfig", "attention_logits", "encode_query", "encode_support"]

_LOG_SCALE = "log_scale"


@dataclass(frozen=True)
class MatchingNetConfig(FewShotSettings):
    """Settings of matching networks."""

    full_context: bool = True
    """Whether embeddings depend on the whole support set, through a bidirectional and an attention
    LSTM."""
    processing_steps: SmallCount = 3
    """Steps of the attention LSTM."""
    scale: Positive = 1.0
    """Factor on the cosines before the softmax. The paper has none (1), which limits how sharp the
    attention can be."""
    learn_scale: bool = False
    """Whether the factor is learned, starting at scale."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        require_shared_norm(self)


class MatchingNet(MetricLearner):
    """P(y | x) = Σ_i a(x, x_i) y_i, a the softmax of cosine similarities of embeddings.

    Without full context, the embeddings of a convolutional net are outputs of ReLU, so that their
    cosines lie in [0, 1]. With one of N support points per class and the paper's factor of 1, the
    loss then cannot fall below log(1 + (N − 1)/e), 0.905 for five ways, and its gradients are small
    (with the LSTMs cosines can be negative). `scale` multiplies the cosines.

    Source: Vinyals et al. 2016 (arXiv:1606.04080), eq. 1–2 and appendix A.1–A.2. Differs: the
    factor `scale`, unless it is 1 and not learned.
    """

    config_type: ClassVar[type[MatchingNetConfig]] = MatchingNetConfig

    def __init__(self, config: MatchingNetConfig, problem: Problem) -> None:
        """A learner for a classification problem."""
        require_classes("matching", problem)
        super().__init__(config, problem)
        self._full_context, self._num_steps = config.full_context, config.processing_steps

    @property
    def adaptation_description(self) -> str:
        """The kind of attention, and the factor on the cosines if there is one."""
        scale, is_learned = self.config.scale, self.config.learn_scale
        if is_learned:
            return f"attention over the support, cosines × a learned factor (from {scale:g})"
        return "attention over the support" + (f", cosines × {scale:g}" if scale != 1 else "")

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the embedding, of its LSTMs, and the learned factor."""
        params = super().init(generator)
        if self._full_context:
            size = self.backbone.num_features
            for name, recurrent in (("forward", size), ("backward", size), ("query", 2 * size)):
                cell = init_lstm(size, recurrent, size, generator)
                params |= {f"{name}/{key}": p for key, p in cell.items()}
        if self.config.learn_scale:
            like = next(iter(params.values()))
            params[_LOG_SCALE] = like.new_tensor(math.log(self.config.scale))
        return params

    def predict(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logarithms of the classes' probabilities, [tasks, points, classes]."""
        params, support = adapted
        found = self.embed(adapted, inputs, mask)
        if self._full_context:
            context = encode_support(params, found.support, support.mask)
            query = encode_query(params, found.query, context, self._num_steps, support.mask)
            found = Embedded(context, query)
        members = membership(support, int(support.targets.max()) + 1, found.query.dtype)
        scale = params[_LOG_SCALE].exp() if self.config.learn_scale else self.config.scale
        return attention_logits(found, members, support.mask, scale=scale)


def attention_logits(
    found: Embedded, members: Tensor, mask: Tensor | None, *, scale: Tensor | float = 1.0
) -> Tensor:
    """log Σ_i a(x, x_i) y_i, a = softmax over i of scale · cos(f(x), g(x_i)).

    Args:
        found: f of the query and g of the support, [tasks, points, F].
        members: y, [tasks, shots, classes].
        mask: which support points count, bool [tasks, shots], or None.
        scale: factor on the cosines, a scalar above 0.

    Returns:
        [tasks, queries, classes].
    """
    support, query = (functional.normalize(part, dim=-1) for part in found)
    weights = _masked(scale * (query @ support.mT), mask).softmax(-1)
    probabilities = weights @ members
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def encode_support(params: Params, features: Tensor, mask: Tensor | None) -> Tensor:
    """Full-context embeddings g(x_i) = h→_i + h←_i + g'(x_i) by a bidirectional LSTM.

    Args:
        params: "forward/…" and "backward/…".
        features: g', [tasks, shots, F].
        mask: which support points count; the others are skipped.

    Returns:
        [tasks, shots, F].
    """
    num_points = features.shape[1]
    forward = _read(_cell(params, "forward"), features, mask, range(num_points))
    backward = _read(_cell(params, "backward"), features, mask, range(num_points)[::-1])
    return forward + backward + features


def encode_query(
    params: Params, features: Tensor, context: Tensor, num_steps: int, mask: Tensor | None
) -> Tensor:
    """Embeddings f(x) by an LSTM that attends to the support set for a number of steps.

        ĥ, c = LSTM(f', [h, r], c),   h = ĥ + f',   r = Σ_i softmax(h · g(x_i)) g(x_i)

    Args:
        params: "query/…".
        features: f', [tasks, queries, F].
        context: g of the support, [tasks, shots, F].
        num_steps: 1 or more.
        mask: which support points count.

    Returns:
        [tasks, queries, F].
    """
    cell_params = _cell(params, "query")
    hidden, read, cell = (torch.zeros_like(features) for _ in range(3))
    for _ in range(num_steps):
        state = LSTMState(torch.cat([hidden, read], -1), cell)
        found, cell = lstm_step(cell_params, features, state)
        hidden = found + features
        read = _masked(hidden @ context.mT, mask).softmax(-1) @ context
    return hidden


def _read(params: Params, features: Tensor, mask: Tensor | None, order: range) -> Tensor:
    """Hidden states [tasks, shots, F] of a cell that reads the points in the given order."""
    zero = torch.zeros_like(features[:, 0])
    state, states = LSTMState(zero, zero), [zero] * features.shape[1]
    for k in order:
        moved = lstm_step(params, features[:, k], state)
        if mask is not None:
            counts = mask[:, k].unsqueeze(-1)
            moved = LSTMState(
                *(torch.where(counts, new, old) for new, old in zip(moved, state, strict=True))
            )
        state = moved
        states[k] = state.hidden
    return torch.stack(states, 1)


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores [tasks, queries, shots], −∞ for support points that do not count."""
    return scores if mask is None else scores.masked_fill(~mask.unsqueeze(1), -torch.inf)


def _cell(params: Params, name: str) -> Params:
    return {key: params[f"{name}/{key}"] for key in ("weight_input", "weight_hidden", "bias")}
