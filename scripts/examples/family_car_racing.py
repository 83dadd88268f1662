"""CarRacing from pixels: metarl check CarSteering:either --import family_car_racing"""

from gymnasium import spaces
from gymnasium.wrappers import TransformAction

from metarl.envs import GymnasiumFamily, register_family


class CarSteering(GymnasiumFamily):
    name, variants, source = "CarSteering", ("either",), "Gymnasium"
    env_id, horizon = "CarRacing-v3", 100
    task_space, shared_tasks = spaces.Discrete(2), "all"
    task_description = "whether the steering wheel is reversed"
    observation_description = "image of 96 × 96 pixels"

    def make_env(self, task):
        env = super().make_env(task)
        return TransformAction(env, None, env.action_space)

    def apply_task(self, env, task):
        env.func = lambda action: action * [1 - 2 * int(task[0]), 1, 1]


register_family("CarSteering", CarSteering, description="driving", variants=("either",))
