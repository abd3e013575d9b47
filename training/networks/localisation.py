"""A second answer of a detector during its training: where the tumour is."""

from __future__ import annotations

import keras
from keras import layers

# side in pixels of a cell of the layer "cells"
CELL_PIXELS = {"thesis_detector": 16, "efficientnet_detector": 8}


def with_localisation(detector: keras.Model) -> keras.Model:
    """Give a detector, for its training, a second answer: the tumour's part of each of its ``cells``.

    Both answers are named, ``probability`` and ``coverage``; :func:`without_localisation` undoes it.
    """
    cells = detector.get_layer("cells").output
    if isinstance(detector.get_layer("cells"), layers.Conv2D):
        coverage = layers.Activation("sigmoid", name="coverage")(cells)
    else:
        coverage = layers.Conv2D(1, 1, activation="sigmoid", name="coverage")(cells)
    answers = {"probability": detector.output, "coverage": coverage}
    return keras.Model(detector.input, answers, name=detector.name)


def without_localisation(model: keras.Model) -> keras.Model:
    """Cut the second answer off; the layers are shared, not copied."""
    return keras.Model(model.input, model.get_layer("probability").output, name=model.name)
