"""Which few-shot learners there are, and what they are trained with on which data."""

from __future__ import annotations

from typing import Any

from metarl.fewshot.learners.recipes import settings_for
from metarl.fewshot.learners.settings import FewShotSettings
from metarl.registry import Entry, Registry

__all__ = ["LEARNERS", "recipe"]

LEARNERS = Registry(
    "learner",
    (
        Entry(
            "maml",
            "metarl.fewshot.learners.maml:MAML",
            "gradient steps from a learned start (Finn et al. 2017)",
        ),
        Entry(
            "fomaml",
            "metarl.fewshot.learners.maml:MAML",
            "MAML without second derivatives (Finn et al. 2017)",
        ),
        Entry(
            "reptile",
            "metarl.fewshot.learners.reptile:Reptile",
            "the start moves towards where each task's training ends (Nichol et al. 2018)",
        ),
        Entry(
            "anil",
            "metarl.fewshot.learners.anil:ANIL",
            "MAML that adapts the head only (Raghu et al. 2020)",
        ),
        Entry(
            "boil",
            "metarl.fewshot.learners.maml:MAML",
            "MAML that adapts all but the head (Oh et al. 2021)",
        ),
        Entry(
            "meta-sgd",
            "metarl.fewshot.learners.maml:MAML",
            "MAML with a learned rate for every parameter (Li et al. 2017)",
        ),
        Entry(
            "maml++",
            "metarl.fewshot.learners.maml:MAML",
            "rates per layer and step, losses of all steps (Antoniou et al. 2019)",
        ),
        Entry(
            "learned-momentum",
            "metarl.fewshot.learners.maml:MAML",
            "MAML with learned rate and momentum of each layer",
        ),
        Entry(
            "cavia",
            "metarl.fewshot.learners.cavia:CAVIA",
            "adapts a small context that modulates the net (Zintgraf et al. 2019)",
        ),
        Entry(
            "imaml",
            "metarl.fewshot.learners.imaml:IMAML",
            "implicit gradients at the end of a regularised descent (Rajeswaran et al. 2019)",
        ),
        Entry(
            "r2d2",
            "metarl.fewshot.learners.r2d2:R2D2",
            "a ridge-regression head solved in closed form (Bertinetto et al. 2019)",
        ),
        Entry(
            "protonet",
            "metarl.fewshot.learners.protonet:ProtoNet",
            "the class whose mean embedding is nearest (Snell et al. 2017)",
        ),
        Entry(
            "matching",
            "metarl.fewshot.learners.matching:MatchingNet",
            "attention over the support, full-context embeddings (Vinyals et al. 2016)",
        ),
        Entry(
            "relation",
            "metarl.fewshot.learners.relation:RelationNet",
            "a learned score of query and class (Sung et al. 2018)",
        ),
        Entry(
            "siamese",
            "metarl.fewshot.learners.siamese:Siamese",
            "pairs pulled together and pushed apart by a margin (Koch 2015, Hadsell et al. 2006)",
        ),
        Entry(
            "transfer",
            "metarl.fewshot.learners.transfer:Transfer",
            "baseline: a classifier of all training classes, then a head on the support set",
        ),
    ),
    group="metarl.learners",
)


def recipe(name: str, dataset: str, **changes: Any) -> FewShotSettings:
    """Settings of a learner for a data set, as its paper has them where it gives any.

    Args:
        name: of the learner.
        dataset: its name.
        changes: settings that take the place of the recipe's.

    Raises:
        ValueError: if there is no such learner, or a setting is out of range.
        TypeError: if the learner has no such setting.

    >>> recipe("protonet", "omniglot", shots=5).train_ways
    60
    """
    config_type = LEARNERS.load(name).config_type
    settings = {**settings_for(name, dataset), **changes}
    config: FewShotSettings = config_type(**settings)
    return config
