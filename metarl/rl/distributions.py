"""Action distributions: likelihood, divergence, Fisher information, samples.

All functions keep the leading axes of their parameters, so one object holds the distributions of
all tasks, environments and times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = [
    "Categorical",
    "DiagonalGaussian",
    "Distribution",
    "JointDistribution",
    "MultiCategorical",
    "sample_or_mode",
]


class Distribution(Protocol):
    """Interface of action distributions; `[...]` are the leading axes of the parameters."""

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The tensors that a network computed and that define the distribution."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density of actions, nats, summed over action dimensions. Shape [...]."""

    def kl_from(self, old: Distribution) -> Tensor:
        """KL(old ‖ self) in nats. Shape [...]."""

    def fisher_metric(self, tangents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Fisher information of one state in its outputs, times tangents of the outputs.

        An output that all states share, such as a state-independent log_std, is treated as if each
        state had a separate copy; the mean over states is the same.
        """

    def sample(self, generator: torch.Generator) -> Tensor:
        """Actions. Shape [..., A], or [...] and int64 for discrete ones."""

    def mode(self) -> Tensor:
        """The most likely actions."""

    def entropy(self) -> Tensor:
        """Entropy in nats. Shape [...]."""

    def detach(self) -> Distribution:
        """The same distribution, detached from the autograd graph."""


@dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normal distributions over action dimensions."""

    mean: Tensor  # [..., A]
    log_std: Tensor  # [..., A], or broadcastable to it

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return self.mean, self.log_std

    def log_prob(self, actions: Tensor) -> Tensor:
        standardized = (actions - self.mean) * torch.exp(-self.log_std)
        per_dimension = standardized.square() * 0.5 + self.log_std
        return -per_dimension.sum(-1) - 0.5 * math.log(2 * math.pi) * actions.shape[-1]

    def kl_from(self, old: Distribution) -> Tensor:
        assert isinstance(old, DiagonalGaussian)
        log_ratio = old.log_std - self.log_std
        distance = ((old.mean - self.mean) * torch.exp(-self.log_std)).square()
        return (0.5 * (torch.exp(2 * log_ratio) + distance - 1) - log_ratio).sum(-1)

    def fisher_metric(self, tangents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        mean_tangent, log_std_tangent = tangents
        return torch.exp(-2 * self.log_std) * mean_tangent, 2 * log_std_tangent

    def sample(self, generator: torch.Generator) -> Tensor:
        noise = torch.randn(
            self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype
        )
        return torch.addcmul(self.mean, noise, torch.exp(self.log_std))

    def mode(self) -> Tensor:
        return self.mean

    def entropy(self) -> Tensor:
        per_dimension = self.log_std + 0.5 * math.log(2 * math.pi * math.e)
        return per_dimension.expand(self.mean.shape).sum(-1)

    def detach(self) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean.detach(), self.log_std.detach())


@dataclass(frozen=True)
class Categorical:
    """One of finitely many actions, from unnormalized log-probabilities."""

    logits: Tensor  # [..., number of actions]
    start: int = 0
    """The first action; actions are consecutive integers."""

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.logits,)

    def log_prob(self, actions: Tensor) -> Tensor:
        log_probs = torch.log_softmax(self.logits, -1)
        indices = actions - self.start if self.start else actions
        return log_probs.gather(-1, indices.unsqueeze(-1)).squeeze(-1)

    def kl_from(self, old: Distribution) -> Tensor:
        assert isinstance(old, Categorical)
        old_log_probs = torch.log_softmax(old.logits, -1)
        log_probs = torch.log_softmax(self.logits, -1)
        return (old_log_probs.exp() * (old_log_probs - log_probs)).sum(-1)

    def fisher_metric(self, tangents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        probs = torch.softmax(self.logits, -1)
        weighted = probs * tangents[0]
        return (weighted - probs * weighted.sum(-1, keepdim=True),)

    def sample(self, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(
            self.logits.shape, generator=generator, device=self.logits.device,
            dtype=self.logits.dtype,
        )  # fmt: skip
        # An exact 0 (probability 2⁻²⁴) would select its action regardless of its probability.
        uniform = uniform.clamp(min=torch.finfo(uniform.dtype).eps / 4)
        exponential = -torch.log1p(-uniform)  # argmin of E_k / p_k is distributed as p
        return self._shifted((torch.log(exponential) - self.logits).argmin(-1))

    def mode(self) -> Tensor:
        return self._shifted(self.logits.argmax(-1))

    def entropy(self) -> Tensor:
        log_probs = torch.log_softmax(self.logits, -1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def detach(self) -> Categorical:
        return Categorical(self.logits.detach(), self.start)

    def _shifted(self, indices: Tensor) -> Tensor:
        return indices + self.start if self.start else indices


@dataclass(frozen=True)
class MultiCategorical:
    """Several independent choices, each from its own unnormalized log-probabilities."""

    logits: Tensor  # [..., sum of sizes], the choices one after another
    sizes: tuple[int, ...]  # number of options of each choice
    starts: tuple[int, ...] = ()
    """The first option of each choice; empty: all are 0."""

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.logits,)

    def log_prob(self, actions: Tensor) -> Tensor:
        parts = zip(self._choices(), actions.unbind(-1), strict=True)
        return torch.stack([choice.log_prob(action) for choice, action in parts]).sum(0)

    def kl_from(self, old: Distribution) -> Tensor:
        assert isinstance(old, MultiCategorical)
        pairs = zip(self._choices(), old._choices(), strict=True)
        return torch.stack([new.kl_from(before) for new, before in pairs]).sum(0)

    def fisher_metric(self, tangents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        pairs = zip(self._choices(), tangents[0].split(self.sizes, -1), strict=True)
        return (torch.cat([choice.fisher_metric((part,))[0] for choice, part in pairs], -1),)

    def sample(self, generator: torch.Generator) -> Tensor:
        return torch.stack([choice.sample(generator) for choice in self._choices()], -1)

    def mode(self) -> Tensor:
        return torch.stack([choice.mode() for choice in self._choices()], -1)

    def entropy(self) -> Tensor:
        return torch.stack([choice.entropy() for choice in self._choices()]).sum(0)

    def detach(self) -> MultiCategorical:
        return MultiCategorical(self.logits.detach(), self.sizes, self.starts)

    def _choices(self) -> list[Categorical]:
        starts = self.starts or (0,) * len(self.sizes)
        parts = self.logits.split(self.sizes, -1)
        return [Categorical(part, start) for part, start in zip(parts, starts, strict=True)]


@dataclass(frozen=True)
class JointDistribution:
    """The product of independent distributions over consecutive columns of actions."""

    parts: tuple[DiagonalGaussian | MultiCategorical, ...]
    widths: tuple[int, ...]  # number of columns of each part; their sum is A

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return tuple(output for part in self.parts for output in part.outputs)

    def log_prob(self, actions: Tensor) -> Tensor:
        pairs = zip(self.parts, actions.split(self.widths, -1), strict=True)
        return torch.stack(
            [
                part.log_prob(columns.to(torch.int64) if _is_choice(part) else columns)
                for part, columns in pairs
            ]
        ).sum(0)

    def kl_from(self, old: Distribution) -> Tensor:
        assert isinstance(old, JointDistribution)
        pairs = zip(self.parts, old.parts, strict=True)
        return torch.stack([new.kl_from(before) for new, before in pairs]).sum(0)

    def fisher_metric(self, tangents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        products: list[Tensor] = []
        for part in self.parts:
            count = len(part.outputs)
            products += part.fisher_metric(tangents[len(products) : len(products) + count])
        return tuple(products)

    def sample(self, generator: torch.Generator) -> Tensor:
        return self._joined([part.sample(generator) for part in self.parts])

    def mode(self) -> Tensor:
        return self._joined([part.mode() for part in self.parts])

    def entropy(self) -> Tensor:
        return torch.stack([part.entropy() for part in self.parts]).sum(0)

    def detach(self) -> JointDistribution:
        return JointDistribution(tuple(part.detach() for part in self.parts), self.widths)

    def _joined(self, columns: list[Tensor]) -> Tensor:
        dtype = self.parts[0].outputs[0].dtype
        return torch.cat([part.to(dtype) for part in columns], -1)


def _is_choice(part: Distribution) -> bool:
    return isinstance(part, MultiCategorical)


def sample_or_mode(
    distribution: Distribution, deterministic: Tensor, generator: torch.Generator
) -> Tensor:
    """Actions: the mode where `deterministic` [...] is true, samples elsewhere."""
    if not bool(deterministic.any()):  # training; waits for the GPU only once
        return distribution.sample(generator)
    if bool(deterministic.all()):
        return distribution.mode()
    actions = distribution.sample(generator)
    wanted = deterministic.view(*deterministic.shape, *(1,) * (actions.dim() - deterministic.dim()))
    return torch.where(wanted, distribution.mode(), actions)
