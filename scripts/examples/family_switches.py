"""An environment with MultiBinary actions: metarl check Switches:four --import family_switches"""

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.envs import GymnasiumFamily, register_family


class SwitchPanel(gymnasium.Env):
    observation_space, action_space = spaces.MultiBinary(4), spaces.MultiBinary(4)
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.setting = np.zeros(4, np.int8)
        return self.setting, {}

    def step(self, action):
        self.setting = action
        return action, float((action == self.target).mean()), False, False, {}

    def render(self):
        image = np.kron(self.setting, np.full((32, 32), 255))
        return np.repeat(image[..., None], 3, axis=2).astype(np.uint8)


class Switches(GymnasiumFamily):
    name, variants, source = "Switches", ("four",), "an example"
    task_space, shared_tasks = spaces.MultiDiscrete([2, 2, 2, 2]), "all"
    task_description, observation_description = "right setting", "setting"
    horizon = 5

    def make_env(self, task):
        return SwitchPanel()

    def apply_task(self, env, task):
        env.target = task


register_family("Switches", Switches, description="four switches", variants=("four",))
