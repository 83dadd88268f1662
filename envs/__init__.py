"""Task families and the batched simulators that they run on."""

from typing import TYPE_CHECKING

from metarl.lazy import lazy_attributes
from metarl.tasks.registry import FAMILIES, family_ids, gymnasium_id, make_family, register_family

from . import catalog as catalog  # registers the families, also with Gymnasium

if TYPE_CHECKING:
    from metarl.bridges.makers import as_sb3_vec_env, make_env, make_vector_env

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

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "GymnasiumFamily": "metarl.envs.simulators.gymnasium_family",
        "TensorFamily": "metarl.envs.simulators.tensor",
        "Transition": "metarl.envs.simulators.tensor",
        "as_sb3_vec_env": "metarl.bridges.makers",
        "make_env": "metarl.bridges.makers",
        "make_vector_env": "metarl.bridges.makers",
    },
)
