"""POPGym, with a hidden pole: metarl check POPCartPole:easy --import family_popgym"""

import numpy as np
from gymnasium import spaces

from metarl.envs import GymnasiumFamily, register_family


class POPCartPole(GymnasiumFamily):
    name, variants, source = "POPCartPole", ("easy",), "POPGym"
    env_id, horizon = "popgym:popgym-PositionOnlyCartPoleEasy-v0", 200
    task_space = spaces.Box(0.25, 1.0, (1,), np.float64)
    task_description = "half of the pole's length in m"
    observation_description = "position and angle"

    def apply_task(self, env, task):
        env.unwrapped.length = float(task[0])
        env.unwrapped.polemass_length = env.unwrapped.masspole * float(task[0])


register_family("POPCartPole", POPCartPole, description="CartPole", variants=("easy",))
