"""A few-shot learner of your own: compare embeddings with class means by their angle.

metarl fewshot cosines --import my_learner --dataset glyphs --iterations 500 --out runs/cosines
metarl evaluate runs/cosines --import my_learner
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import normalize

from metarl import register_learner
from metarl.fewshot.contract.metric import MetricLearner, SharedTasks, class_means, membership
from metarl.fewshot.contract.settings import FewShotSettings
from metarl.validation import Positive


@dataclass(frozen=True)
class CosineSettings(FewShotSettings):
    """The shared settings of all learners, and one more."""

    scale: Positive = 10.0
    """Factor on the cosines, which lie in [−1, 1]: the sharpness of the softmax."""


class Cosines(MetricLearner):
    """Logits are scaled cosines between a query's embedding and the mean of each class."""

    config_type = CosineSettings
    adaptation_description = "class means, compared by their angle"

    def predict(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, classes] of inputs [tasks, points, ...]."""
        support, query = self.embed(adapted, inputs, mask)
        members = membership(adapted.support, self.problem.num_outputs, support.dtype)
        means = class_means(support, members)
        scale: float = self.config.scale
        return scale * normalize(query, dim=-1) @ normalize(means, dim=-1).mT


register_learner("cosines", Cosines, description="class means, compared by their angle")
