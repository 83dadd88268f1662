"""highway-env, with a hidden speed: metarl check HighwaySpeed:fast --import family_highway"""

import numpy as np
from gymnasium import spaces

from metarl.envs import GymnasiumFamily, register_family


class HighwaySpeed(GymnasiumFamily):
    name, variants, source = "HighwaySpeed", ("fast",), "highway-env"
    env_id, horizon = "highway_env:highway-fast-v0", 30
    task_space = spaces.Box(20.0, 28.0, (1,), np.float64)
    task_description = "speed in m/s above which speed is rewarded"
    observation_description = "five vehicles: presence, positions, velocities"

    def apply_task(self, env, task):
        env.unwrapped.configure({"reward_speed_range": [task[0], task[0] + 2]})


register_family("HighwaySpeed", HighwaySpeed, description="driving", variants=("fast",))
