"""Every registered family and variant as a plain environment of Gymnasium."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from metarl.envs import family_ids, gymnasium_id, make_family

# Warnings about bounds that the families have by definition.
BY_DEFINITION = (
    "ignore:.*Box observation space m(in|ax)imum value is",
    "ignore:.*symmetric and normalized",
)


@pytest.mark.parametrize("family_id", family_ids())
@pytest.mark.filterwarnings(*BY_DEFINITION)
def test_every_family_passes_gymnasium_s_and_stable_baselines_s_checks(family_id):
    name, variant = family_id.split(":")
    try:
        make_family(family_id)
    except ImportError as missing:
        pytest.skip(str(missing))
    env = gymnasium.make(gymnasium_id(name), variant=variant)
    check_env(env.unwrapped, skip_render_check=True)
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    sb3.check_env(env.unwrapped, skip_render_check=True)
    task = env.unwrapped.get_wrapper_attr("task")
    observation, info = env.reset(seed=3, options={"task": task})
    assert np.array_equal(info["task"], task)
    assert observation in env.observation_space
    env.close()
