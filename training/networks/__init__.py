"""The networks, by name.

All take NHWC float32 squares in 0..1 and answer probabilities. One channel is the slice itself; three
are the slice between its neighbours. They are plain Keras 3 and train on any of its backends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from training.networks.efficientnet import efficientnet_detector, efficientnet_unet
from training.networks.resnet50 import resnet50_unet
from training.networks.thesis import thesis_detector, thesis_unet
from training.recipe import DataRecipe, NetworkRecipe

CONSTRUCTORS: dict[str, Callable[..., keras.Model]] = {
    "thesis_detector": thesis_detector,
    "thesis_unet": thesis_unet,
    "resnet50_unet": resnet50_unet,
    "efficientnet_unet": efficientnet_unet,
    "efficientnet_detector": efficientnet_detector,
}


def build(recipe: NetworkRecipe, data: DataRecipe) -> keras.Model:
    """Make the network that a recipe names."""
    arguments: dict[str, Any] = dict(recipe.arguments)
    return CONSTRUCTORS[recipe.name](size=data.size, channels=2 * data.context + 1, **arguments)
