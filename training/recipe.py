"""A training as a file: ``training/recipes/NAME.toml``, read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dicom_node.errors import ConfigurationError
from dicom_node.phantom.brain import PhantomContrast
from dicom_node.series.normalisation import PercentileRule
from dicom_node.series.volume import Plane
from dicom_node.toml_file import Table, read_toml

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class NetworkRecipe(Table):
    """Which constructor of :mod:`training.networks`, and its arguments besides the size.

    Attributes
    ----------
    start : a ``.keras`` file of an earlier run, relative to the working folder; the layers from the
        input on begin with its weights, as far as their shapes agree. Or ``imagenet``, for a network
        with EfficientNet-Lite0.
    """

    name: Literal[
        "thesis_detector",
        "thesis_unet",
        "resnet50_unet",
        "efficientnet_unet",
        "efficientnet_detector",
    ]
    arguments: dict[str, float | int | list[int]] = Field(default_factory=dict)
    start: str | None = None


class PhantomRecipe(Table):
    """Synthetic heads among the training slices.

    Attributes
    ----------
    heads : how many are made; every other has no lesion
    first_seed : of the first; the seeds below 1000 are kept for tests
    share : of the slices of an epoch
    contrast : of the heads
    planes : in which they are cut, head by head in turn
    """

    contrast: PhantomContrast = "FLAIR"
    planes: tuple[Plane, ...] = (Plane.AXIAL,)
    heads: Annotated[int, Field(ge=0)] = 0
    first_seed: Annotated[int, Field(ge=1000)] = 1000
    share: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class SourceRecipe(Table):
    """One data set among those that a network is shown.

    Attributes
    ----------
    folder : under the data folder, with an ``index.csv``
    tumour, empty : how often a slice with and one without tumour is drawn in an epoch, on average
    validation : patients of the split ``train`` to validate on, where there is no split ``val``
    """

    folder: str
    validation: tuple[str, ...] = ()
    tumour: Annotated[float, Field(gt=0)] = 1.0
    empty: Annotated[float, Field(ge=0)] = 1.0


class DataRecipe(Table):
    """What a network is shown.

    Attributes
    ----------
    sources : the data sets
    size : side of the square in pixels
    context : how many neighbours on either side a slice is shown with, as channels
    """

    sources: Annotated[list[SourceRecipe], Field(min_length=1)]
    size: Annotated[int, Field(ge=32, le=1024)]
    context: Annotated[int, Field(ge=0, le=1)] = 0
    normalisation: PercentileRule = PercentileRule()
    phantom: PhantomRecipe = PhantomRecipe()


class AugmentRecipe(Table):
    """Ranges from which a slice is changed anew each time it is drawn; the defaults change nothing.

    Attributes
    ----------
    flip : chance of a left-right flip
    rotate_degrees, scale, shift : largest amounts to either side; the last two as fractions
    gamma : largest natural logarithm of the exponent
    contrast : largest relative change of the gain
    bias_field : amplitude of a smooth multiplicative field
    noise : largest standard deviation of added Gaussian noise
    blur_pixels : largest sigma of a Gaussian blur, given to half of the slices
    alone : chance that a slice has itself for neighbours, as a single picture has
    """

    flip: Fraction = 0.0
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Fraction = 0.0
    shift: Fraction = 0.0
    gamma: Fraction = 0.0
    contrast: Fraction = 0.0
    bias_field: Fraction = 0.0
    noise: Fraction = 0.0
    blur_pixels: Annotated[float, Field(ge=0, le=5)] = 0.0
    alone: Fraction = 0.0


class FitRecipe(Table):
    """How long and how fast.

    Attributes
    ----------
    loss : ``dice`` and ``dice_and_cross_entropy`` for a segmenter, ``cross_entropy`` for a detector
    learning_rate : of Adam at the start; it falls along a half cosine to a hundredth at ``epochs``
    patience : epochs without a better validation score before the training stops
    localisation : weight of a second answer that a detector gives during training only: which part
        of each cell of its last feature map is tumour. 0 trains without it. It costs nothing at
        inference and spares the network from finding out what a tumour is from one bit a slice.
    """

    loss: Literal["dice", "dice_and_cross_entropy", "cross_entropy"]
    epochs: Positive
    batch: Positive = 16
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    patience: Positive = 12
    localisation: Annotated[float, Field(ge=0)] = 0.0
    seed: Annotated[int, Field(ge=0)] = 0


class Recipe(Table):
    """One training of one network."""

    task: Literal["detector", "segmenter"]
    network: NetworkRecipe
    data: DataRecipe
    fit: FitRecipe
    augment: AugmentRecipe = AugmentRecipe()

    @model_validator(mode="after")
    def _only_detectors_localise(self) -> Recipe:
        if self.fit.localisation > 0 and self.task != "detector":
            raise ValueError("fit.localisation is for a detector")
        return self


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    ConfigurationError
        When it is missing, is no TOML, or has unknown keys or bad values; each named.
    """
    return read_toml(path, Recipe, ConfigurationError, f"there is no recipe {path}")
