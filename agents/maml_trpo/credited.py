"""The outer loss with the credit for sampling, the term that E-MAML adds to MAML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.bilevel.inner_loop import Loss
from metarl.bilevel.meta_gradients import OuterLoss, TaskPath
from metarl.estimators.credit import credit_surrogate, credit_weights
from metarl.rl.masked import step_packing
from metarl.rl.objectives import PolicyBatch
from metarl.rl.policies import Policy

__all__ = ["CreditedQuery", "credited_loss", "credited_query"]


class CreditedQuery(NamedTuple):
    """The data after adaptation, with the credit of every step before it."""

    batch: PolicyBatch
    credits: tuple[Tensor, ...]
    """One entry for each inner step, in the layout of its packed support batch."""


def credited_query(supports: Sequence[PolicyBatch], query: PolicyBatch) -> CreditedQuery:
    """Weigh the support episodes by the return after adaptation.

    The returns are discounted and, like the outer loss, divided by the scale of the query's
    advantages and by the mean length of the query's episodes.

    Args:
        supports: data of each inner step, [N, E, T], not packed.
        query: data after adaptation, [N, E, T], not packed; the result is packed.
    """
    weights = credit_weights([_returns(support) for support in supports], _returns(query))
    num_steps = query.mask.sum((1, 2)) / query.mask.shape[1]
    units = 1 / (num_steps * query.scale[:, 0, 0])
    credits = []
    for support, weight in zip(supports, weights, strict=True):
        per_step = (weight * units.unsqueeze(1)).unsqueeze(-1).expand(support.mask.shape)
        packing = step_packing(support.mask)
        credits.append(per_step if packing is None else packing.gather(per_step))
    return CreditedQuery(query.packed(), tuple(credits))


def credited_loss(policy: Policy, query_loss: Loss) -> OuterLoss:
    """The loss of the adapted policies minus the sampling credit, one value per task.

    Its gradient estimates the gradient of J_II, the objective with sampled inner steps. The value
    of the credit is 0 at the parameters that acted.

    Args:
        policy: the policy.
        query_loss: loss of the adapted parameters on the query batch.

    Source: as `metarl.estimators.credit.credit_surrogate`.
    """

    def loss(path: TaskPath) -> Tensor:
        query: CreditedQuery = path.query
        total = query_loss(path.adapted, query.batch)
        steps = zip(path.params[:-1], path.support, query.credits, strict=True)
        for params, batch, credit in steps:
            log_probs = policy.distribution(params, batch.observations).log_prob(batch.actions)
            changes = torch.where(batch.mask, log_probs - batch.log_probs, 0)
            total = total - credit_surrogate(changes, credit)
        return total

    return loss


def _returns(batch: PolicyBatch) -> Tensor:
    """Discounted returns in reward units. Shape [N, E]."""
    return torch.where(batch.mask, batch.rewards * batch.scale, 0).sum(-1)
