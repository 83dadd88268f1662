"""MiniGrid, with levels as tasks: metarl check MiniGridCrossing:small --import family_minigrid"""

import gymnasium
from gymnasium import spaces

from metarl.envs import GymnasiumFamily, register_family


class Level(gymnasium.Wrapper):
    def reset(self, *, seed=None, options=None):
        return self.env.reset(seed=self.level, options=options)


class MiniGridCrossing(GymnasiumFamily):
    name, variants, source = "MiniGridCrossing", ("small",), "MiniGrid"
    env_id, horizon = "minigrid:MiniGrid-SimpleCrossingS9N1-v0", 60
    observation_keys = ("image", "direction")
    task_space = spaces.Discrete(2**31)
    task_description, observation_description = "level", "view of 7 × 7 cells, direction"

    def make_env(self, task):
        return Level(super().make_env(task))

    def apply_task(self, env, task):
        env.level = int(task[0])


register_family("MiniGridCrossing", MiniGridCrossing, description="mazes", variants=("small",))
