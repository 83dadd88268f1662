"""Oracle of HalfCheetahVel: a policy that observes the target velocity.

It was trained with this toolkit, and its checkpoint is in `assets`; results/README.md has the
command.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from gymnasium import spaces
from torch import Tensor

from metarl.rl.action_heads import ActionHead
from metarl.rl.networks import PerceptronNetwork
from metarl.rl.policies import NetworkPolicy
from metarl.storage.checkpoints import load_checkpoint, select_tensors

__all__ = ["MAX_ORACLE_SPEED", "velocity_actions"]

_CHECKPOINT = Path(__file__).parent / "assets" / "half_cheetah_vel_oracle.safetensors"
_TRAINED_ON = "HalfCheetahVel:promp+task"
MAX_ORACLE_SPEED = 3.0  # maximum target velocity of that variant, meters per second


def velocity_actions(joints: Tensor, targets: Tensor) -> Tensor:
    """Return torques that keep a target velocity, without noise.

    Args:
        joints: qpos without the root's x, then qvel. Shape [N, E, 17].
        targets: target velocities, meters per second, trained for 0 to 3. Shape [N, 1, 1].

    Returns:
        Torques in [−1, 1], shape [N, E, 6].
    """
    policy, params = _policy(joints.device)
    encoded = 2 * targets / MAX_ORACLE_SPEED - 1  # as in `ObservedTaskFamily`
    inputs = torch.cat([joints, encoded.expand(*joints.shape[:-1], 1)], -1)
    with torch.no_grad():
        return policy.distribution(params, inputs).mode().clamp(-1, 1)


@cache
def _policy(device: torch.device) -> tuple[NetworkPolicy, dict[str, Tensor]]:
    tensors, header = load_checkpoint(_CHECKPOINT, agent="maml-trpo", environment=_TRAINED_ON)
    config = header["config"]
    head = ActionHead(spaces.Box(-1.0, 1.0, (6,)), action_divisor=config["action_divisor"])
    sizes = (18, *config["hidden_sizes"], head.size)
    policy = NetworkPolicy(PerceptronNetwork(sizes, config["activation"]), head)
    like = {name: p.to(device) for name, p in policy.init(torch.Generator()).items()}
    return policy, select_tensors(_CHECKPOINT, tensors, "parameters", like)
