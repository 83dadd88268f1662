"""Task families and the batched simulators under them."""

from .catalog import FAMILIES, make_family

__all__ = ["FAMILIES", "make_family"]
