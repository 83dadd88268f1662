"""The oracle of HalfCheetahVel: a policy that is told the target velocity.

It was trained with this toolkit and is shipped as the checkpoint that training wrote, settings
included; results/README.md has the command.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from metarl.checkpoints import load_checkpoint, select_tensors
from metarl.policies import GaussianPolicy

__all__ = ["velocity_actions"]

_FILE = Path(__file__).parent / "assets" / "half_cheetah_vel_oracle.safetensors"
_TRAINED_ON = "HalfCheetahVel:promp+task"
_TOP_SPEED = 3.0  # of that variant, metres per second


def velocity_actions(joints: Tensor, targets: Tensor) -> Tensor:
    """Torques that keep a target velocity, without noise.

    Args:
        joints: qpos without the root's x, then qvel. Shape [N, E, 17].
        targets: metres per second, trained for 0 to 3. Shape [N, 1, 1].

    Returns:
        Shape [N, E, 6].
    """
    policy, params = _policy(joints.device)
    told = 2 * targets / _TOP_SPEED - 1  # as `KnownTask` writes it
    inputs = torch.cat([joints, told.expand(*joints.shape[:-1], 1)], -1)
    with torch.no_grad():
        return policy.distribution(params, inputs).mode().clamp(-1, 1)


@cache
def _policy(device: torch.device) -> tuple[GaussianPolicy, dict[str, Tensor]]:
    tensors, header = load_checkpoint(_FILE, agent="maml-trpo", environment=_TRAINED_ON)
    config = header["config"]
    policy = GaussianPolicy(
        18,
        6,
        tuple(config["hidden_sizes"]),
        config["activation"],
        action_scale=config["action_scale"],
    )
    like = {name: p.to(device) for name, p in policy.init(torch.Generator()).items()}
    return policy, select_tensors(_FILE, tensors, "parameters", like)
