"""The setting `policy_net`: which network an agent uses for the observations of a family."""

from __future__ import annotations

from collections.abc import Sequence

from metarl.nn.mlp import Activation
from metarl.rl.module_network import ModuleNetwork, find_factory
from metarl.rl.networks import Network, PerceptronNetwork, PixelNetwork, Scaling
from metarl.tasks.family import TaskFamily
from metarl.tasks.observations import ImageColumns
from metarl.validation import unknown_name

__all__ = ["chosen_policy_net", "make_network", "require_policy_net"]

_CHOICES = ("auto", "mlp", "cnn")


def require_policy_net(name: str) -> None:
    """Reject a value that is neither a known network nor "module:factory".

    Raises:
        ValueError: with the choices.
    """
    module, colon, attribute = name.partition(":")
    if name not in _CHOICES and not (module and colon and attribute):
        raise ValueError(unknown_name("policy_net", name, (*_CHOICES, "module:factory")))


def chosen_policy_net(name: str, family: TaskFamily) -> str:
    """Resolve "auto": cnn if observations contain pixel images, else mlp.

    Raises:
        ValueError: if cnn is chosen for observations without images.
    """
    if name == "auto":
        return "cnn" if any(image.is_pixels for image in family.observation_images) else "mlp"
    if name == "cnn" and not family.observation_images:
        raise ValueError(
            f"policy_net must be mlp or module:factory with {family.id}, whose observations "
            "contain no images, got cnn"
        )
    return name


def make_network(
    name: str,
    *,
    observation_size: int,
    images: Sequence[ImageColumns],
    num_outputs: int,
    hidden_sizes: tuple[int, ...],
    activation: Activation,
    scaling: Scaling | None = None,
) -> Network:
    """The network of a resolved setting.

    Args:
        name: mlp, cnn, or module:factory.
        observation_size: O.
        images: the columns of observations that are images.
        num_outputs: numbers that the network returns for each observation.
        hidden_sizes: hidden layers of mlp, and of cnn after its convolutions.
        activation: of these layers.
        scaling: applied to observations first, such as `ObservationScaling`.

    Raises:
        ValueError: if the factory does not exist, fails, or makes a module that does not fit.
    """
    if name == "mlp":
        return PerceptronNetwork(
            (observation_size, *hidden_sizes, num_outputs), activation, scaling
        )
    if name == "cnn":
        return PixelNetwork(
            tuple(images), observation_size, num_outputs, hidden_sizes, activation, scaling
        )
    return ModuleNetwork(find_factory(name), observation_size, images, num_outputs, scaling=scaling)
