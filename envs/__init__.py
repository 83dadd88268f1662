"""Task families and the batched simulators under them."""

from metarl.bridges.makers import as_sb3_vec_env, make_env, make_vector_env
from metarl.tasks.registry import FAMILIES, family_ids, gymnasium_id, make_family, register_family

from . import catalog as catalog  # enters the families, also at Gymnasium
from .simulators.gymnasium_family import GymnasiumFamily
from .simulators.tensor import TensorFamily, Transition

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
