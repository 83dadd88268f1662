"""The tensors of an agent by group and name: what can be stored, kept and restored."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from metarl.parameters import State
from metarl.validation import short_repr

__all__ = ["checked_state", "require_same_layout"]


def checked_state(agent: str, params: object, state: object) -> State:
    """The state of an agent, if a checkpoint can hold it.

    Args:
        agent: its name.
        params: its meta-learned parameters.
        state: all tensors that the next iteration depends on, by group; `params` is the group
            "parameters".

    Raises:
        TypeError: naming the agent and what it must set or return.
    """
    if not isinstance(params, dict) or not params or not _are_tensors(params):
        raise TypeError(
            f"agent {agent!r} must set params to its meta-learned parameters in its constructor, "
            f"a dict of tensors by name, got {'none' if params == {} else short_repr(params)}"
        )
    is_whole = isinstance(state, Mapping) and "parameters" in state
    if not isinstance(state, Mapping) or not is_whole or not all(map(_is_group, state.items())):
        raise TypeError(
            f"_state of agent {agent!r} must return tensors by group and name, such as "
            "{**super()._state(), 'optimizer': {'step': tensor}}, "
            f"got {short_repr(state)}"
        )
    return state


def require_same_layout(agent: str, before: State, after: State) -> None:
    """Reject a state whose tensors have other names, shapes or types than before.

    Raises:
        TypeError: naming the agent and the first tensor that is new, missing, or of another shape
            or type.
    """
    layouts = [
        {f"{g}/{n}": _type_and_shape(t) for g, ts in state.items() for n, t in ts.items()}
        for state in (before, after)
    ]
    for name in layouts[0] | layouts[1]:
        old, new = (layout.get(name, "nothing") for layout in layouts)
        if old != new:
            raise TypeError(
                f"_iterate of agent {agent!r} must keep the names, shapes and types of its "
                f"tensors, but {name} was {old} and became {new}"
            )


def _is_group(item: tuple[object, object]) -> bool:
    name, tensors = item
    return isinstance(name, str) and isinstance(tensors, Mapping) and _are_tensors(tensors)


def _are_tensors(tensors: Mapping[object, object]) -> bool:
    named: Collection[object] = tensors.keys()
    values = tensors.values()
    return all(isinstance(n, str) for n in named) and all(isinstance(t, Tensor) for t in values)


def _type_and_shape(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
