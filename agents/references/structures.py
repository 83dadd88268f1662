"""The check that a family declares the structure that a reference algorithm needs."""

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
    """Return the structure that a family declares.

    Args:
        reference: name of the algorithm, for the message.
        family: the family.
        structure: the required type of structure.

    Raises:
        ValueError: if the family declares another structure or none.
    """
    declared = family.structure
    if isinstance(declared, structure):
        return declared
    needed = f"{reference} needs {_NAMES[structure]}"
    if declared is None:
        raise ValueError(f"{needed}, but {family.id} declares no structure")
    raise ValueError(f"{needed}, got {family.id}, which is {_NAMES[type(declared)]}")
