"""Relation networks: a learned score of how well a query fits a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from metarl.fewshot.contract.interface import joined
from metarl.fewshot.contract.metric import MetricLearner, SharedTasks, class_counts, membership
from metarl.fewshot.contract.problem import Problem, mean_over_points, task_losses
from metarl.fewshot.contract.settings import FewShotSettings, require_classes, require_shared_norm
from metarl.fewshot.data.batches import FewShotBatch
from metarl.nn.backbones import Backbone
from metarl.nn.conv_net import ConvNet
from metarl.nn.mlp import init_mlp, mlp
from metarl.parameters import Params
from metarl.validation import Count

__all__ = ["RelationNet", "RelationNetConfig"]

_MODULE, _SCORE = "relation/", "score/"
_BLOCKS = 2  # number in the relation module, and number in the embedding that down-sample


@dataclass(frozen=True)
class RelationNetConfig(FewShotSettings):
    """Settings of relation networks."""

    relation_size: Count = 8
    """Hidden units between the relation module's maps and the score."""
    loss: Literal["squared-error", "cross-entropy"] = "squared-error"
    """Training loss: the squared error of all scores (the paper), or the cross-entropy of the
    scores before their sigmoid, a softmax over classes (not the paper's; it learns faster with many
    ways, because the squared error of mostly zero targets starts small)."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        require_shared_norm(self)
        if self.backbone == "conv" and self.pooling != "max":
            raise ValueError(
                "pooling must be max for relation networks, which compare maps, "
                f"got {self.pooling!r}"
            )
        if self.batch_norm == "support":
            raise ValueError(
                "batch_norm must be batch or running for relation networks, whose second net "
                "always combines support and query, got 'support'"
            )


class RelationNet(MetricLearner):
    """The score of a query and a class is g(sum of f over the class's support, f(query)).

        L = mean over queries and classes of (score − 1[the query belongs to the class])²

    The scores lie in (0, 1). For images, f returns maps (only its first two blocks down-sample) and
    g is two more convolutional blocks and a perceptron. For vectors, g is a perceptron. The first
    convolution of g is computed once for each class and query and added for each pair, which equals
    the convolution of the joined maps.

    Source: Sung et al. 2018 (arXiv:1711.06025), eq. 1–2. Differs: convolutions are padded; with
    `loss` cross-entropy, the loss. The paper's figures are transductive (the authors' code
    normalizes by the statistics of the test batch): batch_norm batch.
    """

    config_type: ClassVar[type[RelationNetConfig]] = RelationNetConfig

    @property
    def adaptation_description(self) -> str:
        """The comparison, and the loss if it is not the paper's."""
        words = "learned comparison with class sums"
        if self.config.loss == "cross-entropy":
            words += ", trained by cross-entropy instead of squared error"
        return words

    def __init__(self, config: RelationNetConfig, problem: Problem) -> None:
        """A learner for a classification problem."""
        require_classes("relation", problem)
        super().__init__(config, problem)
        self._module: ConvNet | None = None
        num_inputs = 2 * self.backbone.num_features
        if isinstance(self.backbone, ConvNet):
            channels, height, width = self.backbone.map_shape
            self._module = ConvNet((2 * channels, height, width), 0, (channels,) * _BLOCKS)
            num_inputs = self._module.num_features
        self._sizes = (num_inputs, config.relation_size, 1)

    def make_backbone(self) -> Backbone:
        """The embedding, which down-samples in its first two blocks only."""
        backbone: Backbone = self.config.make_backbone(self.problem, 0, num_pooled=_BLOCKS)
        return backbone

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of both nets."""
        params = super().init(generator)
        if self._module is not None:
            inner = self._module.init(generator)
            params |= {_MODULE + name: p for name, p in inner.items()}
        score = init_mlp(self._sizes, generator)
        return params | {_SCORE + name: p for name, p in score.items()}

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Mean squared error or cross-entropy of the scores, [tasks]."""
        query = batch.query
        adapted = self.adapt(params, batch.support)
        logits = self._logits(adapted, query.inputs, query.mask)
        present = _present(adapted)
        if self.config.loss == "cross-entropy":
            logits = logits if present is None else logits.masked_fill(~present, _lowest(logits))
            return task_losses("classification", logits, query.targets, query.mask)
        wanted = functional.one_hot(query.targets, logits.shape[-1]).to(logits.dtype)
        errors = mean_over_points((logits.sigmoid() - wanted).square(), present)
        return mean_over_points(errors, query.mask)

    def predict(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores in (0, 1), [tasks, points, classes]; 0 for classes without support."""
        scores, present = self._logits(adapted, inputs, mask).sigmoid(), _present(adapted)
        return scores if present is None else scores * present

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Statistics of support and query together, and of all their pairs."""
        found = super().statistics(params, batch)
        if not found or self._module is None:
            return found
        module, query = self._module, batch.query
        with torch.no_grad():
            adapted = self.adapt(params, batch.support)
            pairs = self._convolved_pairs(module, adapted, query.inputs, query.mask)
            counts = _pair_mask(adapted, pairs, query.mask)
            own = _with_prefix(params, _MODULE)
            more = module.statistics_of_convolved(own, pairs.flatten(1, 2), counts)
        return found | {_MODULE + name: values.mean(0) for name, values in more.items()}

    def _logits(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """Scores before the sigmoid, [tasks, queries, classes]."""
        params, module = adapted.params, self._module
        if module is None:
            sums, last = self._sums_and_queries(adapted, inputs, mask)
            shape = (*last.shape[:2], *sums.shape[1:])
            both = sums.unsqueeze(1).expand(shape), last.unsqueeze(2).expand(shape)
            pairs = torch.cat(both, -1)
        else:
            maps = self._convolved_pairs(module, adapted, inputs, mask)
            own, counts = _with_prefix(params, _MODULE), _pair_mask(adapted, maps, mask)
            flat = module.features_of_convolved(own, maps.flatten(1, 2), counts)
            pairs = flat.unflatten(1, maps.shape[1:3])
        return mlp(_with_prefix(params, _SCORE), pairs, torch.relu).squeeze(-1)

    def _convolved_pairs(
        self, module: ConvNet, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None
    ) -> Tensor:
        """The relation module's first convolution of all pairs, [tasks, queries, classes, H, W, C].

        It is linear in the joined maps: the part of the class and the part of the query are summed.
        """
        sums, last = self._sums_and_queries(adapted, inputs, mask)
        own, channels = _with_prefix(adapted.params, _MODULE), sums.shape[2]
        of_classes = module.convolved(own, sums, slice(channels))
        of_queries = module.convolved(own, last, slice(channels, None))
        return of_classes.unsqueeze(1) + of_queries.unsqueeze(2)

    def _sums_and_queries(
        self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Summed maps or features of each class, [tasks, classes, ...], and those of each query."""
        support = adapted.support
        both, counts = joined(support, inputs, mask, self.config.batch_norm)
        net = self.backbone
        embed = net.maps if isinstance(net, ConvNet) else net.features
        found = embed(adapted.params, both, counts)
        first, last = found.tensor_split([support.inputs.shape[1]], dim=1)
        members = membership(support, int(support.targets.max()) + 1, found.dtype)
        sums = (members.mT @ first.flatten(2)).unflatten(2, first.shape[2:])
        return sums, last


def _lowest(values: Tensor) -> float:
    return torch.finfo(values.dtype).min


def _present(adapted: SharedTasks) -> Tensor | None:
    """Classes with support in each task, bool [tasks, 1, classes]; None: all."""
    support = adapted.support
    if support.mask is None:
        return None
    members = membership(support, int(support.targets.max()) + 1, torch.float32)
    return (class_counts(members) > 0).unsqueeze(1)


def _pair_mask(adapted: SharedTasks, pairs: Tensor, mask: Tensor | None) -> Tensor | None:
    """Mask of the pairs [tasks, queries, classes, ...] that count, [tasks, queries · classes]."""
    present = _present(adapted)
    if mask is None and present is None:
        return None
    counts = pairs.new_ones(pairs.shape[:3], dtype=torch.bool)
    if mask is not None:
        counts &= mask.unsqueeze(-1)
    if present is not None:
        counts &= present
    return counts.flatten(1)


def _with_prefix(params: Params, prefix: str) -> Params:
    """The parameters whose names start with a prefix, which is removed."""
    return {name.removeprefix(prefix): p for name, p in params.items() if name.startswith(prefix)}
