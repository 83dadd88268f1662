"""Task families and the batched simulators under them."""

from .catalog import FAMILIES, family_ids, make_family, register_family
from .tensor_family import TensorFamily, Transition

__all__ = [
    "FAMILIES",
    "TensorFamily",
    "Transition",
    "family_ids",
    "make_family",
    "register_family",
]
