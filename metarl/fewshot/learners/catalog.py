"""The registry of few-shot learners, and the settings of each for a data set."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from metarl.fewshot.contract.old_settings import migrate_learner, reject_other_algorithm
from metarl.fewshot.learners.recipes import settings_for
from metarl.registry import Entry, Registry
from metarl.storage.settings import read_settings
from metarl.validation import unknown_name

if TYPE_CHECKING:  # these import torch, which listing the learners does not need
    from metarl.fewshot.contract.interface import FewShotLearner
    from metarl.fewshot.contract.settings import FewShotSettings

__all__ = ["LEARNERS", "StoredLearner", "read_learner", "recipe", "register_learner"]

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
            "metarl.fewshot.learners.maml:FOMAML",
            "MAML without second derivatives (Finn et al. 2017)",
        ),
        Entry(
            "reptile",
            "metarl.fewshot.learners.reptile:Reptile",
            "moves the start towards each task's trained weights (Nichol et al. 2018)",
        ),
        Entry(
            "anil",
            "metarl.fewshot.learners.anil:ANIL",
            "MAML that adapts the head only (Raghu et al. 2020)",
        ),
        Entry(
            "boil",
            "metarl.fewshot.learners.maml:BOIL",
            "MAML that adapts all but the head (Oh et al. 2021)",
        ),
        Entry(
            "meta-sgd",
            "metarl.fewshot.learners.maml:MetaSGD",
            "MAML with a learned rate for every parameter (Li et al. 2017)",
        ),
        Entry(
            "maml++",
            "metarl.fewshot.learners.maml:MAMLPlusPlus",
            "MAML with rates per layer and step, loss after every step (Antoniou et al. 2019)",
        ),
        Entry(
            "learned-momentum",
            "metarl.fewshot.learners.maml:LearnedMomentum",
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
            "implicit gradient at the minimum of a regularized loss (Rajeswaran et al. 2019)",
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
            "a learned similarity of query and class (Sung et al. 2018)",
        ),
        Entry(
            "siamese",
            "metarl.fewshot.learners.siamese:Siamese",
            "contrastive loss on pairs of embeddings (Koch 2015, Hadsell et al. 2006)",
        ),
        Entry(
            "transfer",
            "metarl.fewshot.learners.transfer:Transfer",
            "baseline: a classifier of all training classes, then a head on the support set",
        ),
    ),
    group="metarl.learners",
)


def register_learner(name: str, learner_type: type[FewShotLearner], *, description: str) -> None:
    """Register your own few-shot learner for `metarl.train` and the commands.

    Args:
        name: name of the learner.
        learner_type: a `GradientLearner`, a `MetricLearner` or another `FewShotLearner`.
        description: one line.

    Raises:
        ValueError: if the name is taken.
    """
    LEARNERS.register(Entry(name, learner_type, description))


def recipe(name: str, dataset: str, **changes: Any) -> FewShotSettings:
    """Settings of a learner for a data set, from its paper if that gives them.

    Args:
        name: the learner's name.
        dataset: the data set's name.
        changes: settings that replace those of the recipe.

    Raises:
        ValueError: if there is no such learner, it has no such setting, a setting is out of
            range, or belongs to another learner.

    >>> recipe("protonet", "omniglot", shots=5).train_ways
    60
    """
    config_type = LEARNERS.load(name).config_type
    names = [field.name for field in fields(config_type)]
    for setting, value in changes.items():
        if setting not in names:
            reject_other_algorithm(name, config_type(), {setting: value})
            raise ValueError(unknown_name(f"setting of {name}", setting, names))
    config: FewShotSettings = config_type(**{**settings_for(name, dataset), **changes})
    return config


class StoredLearner(NamedTuple):
    """Name and settings of a learner, read from a file."""

    name: str
    """The name of its algorithm in this version, which may differ from the stored one."""
    settings: FewShotSettings


def read_learner(name: str, stored: object, *, source: str) -> StoredLearner:
    """Read the name and settings of a stored learner, including files of earlier versions.

    Args:
        name: the learner's name, as stored.
        stored: its settings, as read from JSON.
        source: name of the source, at the start of error messages.

    Raises:
        ValueError: if there is no such learner, or the settings cannot be read.
    """
    settings = stored
    if isinstance(stored, dict):
        name, settings = migrate_learner(name, stored)
    config_type: type[FewShotSettings] = LEARNERS.load(name).config_type
    return StoredLearner(name, read_settings(config_type, settings, source=source))
