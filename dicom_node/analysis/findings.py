"""The value that travels from the analysis station: what the models found in one volume."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.finding_kind import FindingKind


@dataclass(frozen=True, slots=True)
class Algorithm:
    """Which models spoke, exactly.

    Attributes
    ----------
    name, version : of the bundle
    weights_sha256 : hex digest over the digests of all weight files
    parameters : what decided the outcome, as ordered (name, value) pairs of text
    finding : what their regions are called
    """

    name: str
    version: str
    weights_sha256: str
    parameters: tuple[tuple[str, str], ...] = ()
    finding: FindingKind = field(default_factory=FindingKind)


@dataclass(frozen=True, slots=True)
class Axis:
    """A straight measurement on one slice.

    Attributes
    ----------
    start, end : (row, column) in voxel coordinates, pixel centres at whole numbers
    length_mm : float
    """

    start: tuple[float, float]
    end: tuple[float, float]
    length_mm: float


@dataclass(frozen=True, slots=True)
class Lesion:
    """One connected region that the segmenter called tumour.

    Attributes
    ----------
    number : from 1, largest first; the value in ``Findings.labels``
    volume_ml : float
    centroid_mm : (x, y, z) in patient coordinates (LPS)
    slices : (first, last), both included
    largest_slice : the slice on which its area is largest; both axes lie on it
    long_axis, perpendicular_axis : Axis
    mean_probability, maximum_probability : of the segmenter over the lesion's voxels, 0 to 1
    """

    number: int
    volume_ml: float
    centroid_mm: tuple[float, float, float]
    slices: tuple[int, int]
    largest_slice: int
    long_axis: Axis
    perpendicular_axis: Axis
    mean_probability: float
    maximum_probability: float


@dataclass(frozen=True)
class Findings:
    """What the two models say of one volume, on its own grid.

    Attributes
    ----------
    slice_probability : float32, (slices,)
        The detector's probability that a slice shows tumour.
    slice_positive : bool, (slices,)
        At or above the detector's threshold.
    segmented : bool, (slices,)
        Which slices went through the segmenter.
    probability : float32, (slices, rows, columns)
        The segmenter's probability; 0 on slices that it did not see.
    labels : uint16, (slices, rows, columns)
        0, or the number of the lesion.
    lesions : tuple of Lesion, largest first
    algorithm : Algorithm
    """

    slice_probability: NDArray[np.float32]
    slice_positive: NDArray[np.bool_]
    segmented: NDArray[np.bool_]
    probability: NDArray[np.float32]
    labels: NDArray[np.uint16]
    lesions: tuple[Lesion, ...]
    algorithm: Algorithm

    @property
    def top_slice(self) -> int:
        """The slice with the highest detector probability."""
        return int(self.slice_probability.argmax())

    @property
    def key_slice(self) -> int:
        """The slice to show: where the largest lesion is largest, else the detector's top slice."""
        return self.lesions[0].largest_slice if self.lesions else self.top_slice
