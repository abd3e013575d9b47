"""A series as it is shown: every slice turned to the standard display, with what was found on it.

Right is where it must be: the patient's right is on the left of an axial or coronal picture, anterior is
up on an axial and left on a sagittal one, the head is up on both others. The turn is the one that the
models' input is given (:mod:`dicom_node.series.orientation`), but for the order of slices: they
stay numbered as in the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.findings import Findings
from dicom_node.results.picture import direction_letters
from dicom_node.series.orientation import Turn, turn_to_display

_DARKEST, _BRIGHTEST = 0.5, 99.8  # percentiles of a volume between which its first window lies

_ENOUGH = 1 << 21  # voxels for these percentiles: of a large volume one in so many is looked at


@dataclass(frozen=True, slots=True)
class Edges:
    """Which way the edges of the picture lie in the patient: ``R``, or ``RA`` when oblique."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True, slots=True)
class Window:
    """Which values are shown: black at ``centre - width / 2``, white at ``centre + width / 2``."""

    centre: float
    width: float


@dataclass(frozen=True, slots=True)
class Judged:
    """What the detector said of a slice, and whether the segmenter saw it."""

    probability: float
    positive: bool
    segmented: bool


@dataclass(frozen=True)
class Shown:
    """What there is to see of one series or picture.

    Attributes
    ----------
    voxels : float32, (slices, rows, columns), in the standard display
    pixel_mm : distance between (rows, columns); None where sizes are not known
    edges : None where the orientation is not known
    names : of the slices
    window : to begin with
    probability : uint8, the shape of ``voxels``, 0 to 255 for 0 to 1; None when it was not kept
    labels : uint16, the shape of ``voxels``, 0 or the number of a lesion; None without an outline
    judged : one per slice, or none
    lesions : as in ``result.json``
    threshold : of the detector; None when there is no detection
    remark : what the reader should know, in a sentence
    """

    voxels: NDArray[np.float32]
    pixel_mm: tuple[float, float] | None
    edges: Edges | None
    names: tuple[str, ...]
    window: Window
    probability: NDArray[np.uint8] | None = None
    labels: NDArray[np.uint16] | None = None
    judged: tuple[Judged, ...] = ()
    lesions: tuple[dict[str, Any], ...] = ()
    threshold: float | None = None
    remark: str = ""

    @property
    def slices(self) -> int:
        """How many there are."""
        return len(self.voxels)

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        maps = [m.nbytes for m in (self.probability, self.labels) if m is not None]
        return self.voxels.nbytes + sum(maps)

    @property
    def key_slice(self) -> int:
        """Where to begin: at the largest lesion, else the detector's first choice, else the middle."""
        if self.lesions:
            return int(self.lesions[0]["largest_slice"]) - 1
        if self.judged:
            return int(np.argmax([each.probability for each in self.judged]))
        return self.slices // 2


def display_of(affine: NDArray[np.float64]) -> tuple[Turn, Edges]:
    """Find how slices of this affine are turned, and which way their edges then lie."""
    turn = turn_to_display(affine)
    right, down = affine[:3, 0], affine[:3, 1]
    if turn.transpose:
        right, down = down, right
    right = -right if turn.flip_columns else right
    down = -down if turn.flip_rows else down
    return turn, Edges(*map(direction_letters, (-right, right, -down, down)))


def in_plane(turn: Turn | None, slices: NDArray[Any]) -> NDArray[Any]:
    """Turn (slices, rows, columns) to the standard display; the slices keep their order."""
    if turn is None:
        return slices
    turned = turn.apply(slices)
    return np.ascontiguousarray(turned[::-1]) if turn.reverses else turned


def first_window(voxels: NDArray[np.float32]) -> Window:
    """Choose a window by the volume: stored ones are made for other software, and often missing."""
    step = voxels.size // _ENOUGH | 1  # odd, so that it is no part of a row
    low, high = np.percentile(voxels.reshape(-1)[::step], [_DARKEST, _BRIGHTEST])
    width = max(float(high - low), 1e-6)
    return Window(float(low) + width / 2, width)


def pixel_size(affine: NDArray[np.float64], turn: Turn) -> tuple[float, float]:
    """Distance between (rows, columns) of the turned slices, in mm."""
    column, row = np.linalg.norm(affine[:3, :2], axis=0)
    return (float(column), float(row)) if turn.transpose else (float(row), float(column))


def judged_of(findings: Findings) -> tuple[Judged, ...]:
    """What the detector said, slice by slice."""
    rows = zip(findings.slice_probability, findings.slice_positive, findings.segmented, strict=True)
    return tuple(Judged(float(p), bool(positive), bool(segmented)) for p, positive, segmented in rows)


def numbered(names: Sequence[str], count: int) -> tuple[str, ...]:
    """Name each slice by its number and, where there is one, the source's own."""
    return tuple(f"Slice {k} of {count}{f' ({name})' if name else ''}" for k, name in enumerate(names, 1))
