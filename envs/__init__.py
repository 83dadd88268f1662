"""Task families and the batched simulators under them."""

from .catalog import FAMILIES, family_ids, make_family, register_family
from .gymnasium_family import GymnasiumFamily
from .gymnasium_ids import as_sb3_vec_env, gymnasium_id, make_env, make_vector_env
from .tensor_family import TensorFamily, Transition

__all__ = [
    "FAMILIES",
    "GymnasiumFamily",
    "TensorFamily",
    "Transition",
    "as_sb3_vec_env",
    "family_ids",
    "gymnasium_id",
    "make_env",
    "make_family",
    "make_vector_env",
    "register_family",
]
