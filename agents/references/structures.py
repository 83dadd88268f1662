"""The structure that a reference needs of a family, or one sentence if it declares another."""

from __future__ import annotations

from typing import TypeVar

from metarl.tasks.family import TaskFamily
from metarl.tasks.structure import BernoulliBandit, HiddenGoalGrid, InformativeArm, TabularMDP

__all__ = ["require_structure"]

StructureT = TypeVar("StructureT", BernoulliBandit, HiddenGoalGrid, InformativeArm, TabularMDP)

_NAMES = {
    BernoulliBandit: "a Bernoulli bandit",
    HiddenGoalGrid: "a grid with one hidden goal",
    InformativeArm: "a bandit with an informative arm",
    TabularMDP: "a tabular Markov decision process",
}


def require_structure(
    reference: str, family: TaskFamily, structure: type[StructureT]
) -> StructureT:
    """The structure that a family declares.

    Args:
        reference: name of the algorithm, as the message begins.
        family: the family that it is to play.
        structure: the type of structure that it needs.

    Raises:
        ValueError: if the family declares another structure or none.
    """
    declared = family.structure
    if isinstance(declared, structure):
        return declared
    needed = f"{reference} needs {_NAMES[structure]}"
    if declared is None:
        raise ValueError(f"{needed}, and {family.id} declares no structure")
    raise ValueError(f"{needed}, got {family.id}, which is {_NAMES[type(declared)]}")
