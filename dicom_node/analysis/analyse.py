"""The face of the analysis station: one volume through one bundle."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.analysis.bundle import Bundle
from dicom_node.analysis.findings import Algorithm, Findings
from dicom_node.analysis.lesions import find_lesions
from dicom_node.series.normalisation import normalise
from dicom_node.series.orientation import Turn, turn_to_display
from dicom_node.series.volume import MRVolume


def detect(volume: MRVolume, bundle: Bundle) -> NDArray[np.float32]:
    """Judge every slice, and outline nothing: the first half of `analyse`.

    Returns
    -------
    float32, (slices,), the detector's probabilities
    """
    turn, seen, row_mm, column_mm = _as_seen(volume, bundle)
    return turn.order(bundle.detector.probabilities(seen, row_mm, column_mm))


def analyse(
    volume: MRVolume,
    bundle: Bundle,
    *,
    segment: Literal["positive", "all"] = "positive",
    minimum_lesion_ml: float = 0.0,
) -> Findings:
    """Detect on every slice, segment where it matters, and measure what is found.

    Parameters
    ----------
    volume : of a contrast and plane that the bundle was trained for
    bundle : loaded and proven
    segment : ``positive`` for the slices that the detector calls positive and their neighbours, into
        which a lesion may reach, but where none lies alone
    minimum_lesion_ml : smaller regions are not lesions

    Returns
    -------
    Findings on the volume's own grid.
    """
    turn, seen, row_mm, column_mm = _as_seen(volume, bundle)
    slice_probability = turn.order(bundle.detector.probabilities(seen, row_mm, column_mm))
    slice_positive = slice_probability >= bundle.detector.threshold
    segmented = _with_neighbours(slice_positive) if segment == "positive" else np.ones_like(slice_positive)

    outlined = bundle.segmenter.probabilities(seen, row_mm, column_mm, turn.order(segmented))
    probability = turn.undo(outlined)
    on_slices = slice_positive if segment == "positive" else None
    labels, lesions = find_lesions(
        volume, probability, bundle.segmenter.threshold, minimum_lesion_ml, on_slices
    )
    return Findings(
        slice_probability=slice_probability,
        slice_positive=slice_positive,
        segmented=segmented,
        probability=probability,
        labels=labels,
        lesions=lesions,
        algorithm=describe(bundle, segment=segment, minimum_lesion_ml=minimum_lesion_ml),
    )


def describe(bundle: Bundle, *, segment: str, minimum_lesion_ml: float) -> Algorithm:
    """Name the models and everything that decided the outcome."""
    rule = bundle.manifest.input
    return Algorithm(
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        weights_sha256=bundle.weights_sha256,
        parameters=(
            ("detector threshold", f"{bundle.detector.threshold:.4g}"),
            ("segmenter threshold", f"{bundle.segmenter.threshold:.4g}"),
            ("normalisation", f"{rule.rule} {rule.lower:g}-{rule.upper:g}, foreground {rule.foreground:g}"),
            ("segmented slices", segment),
            ("minimum lesion ml", f"{minimum_lesion_ml:g}"),
            ("manifest", f"sha256 {bundle.manifest.decides_sha256}"),
        ),
        finding=bundle.manifest.finding,
    )


def _as_seen(volume: MRVolume, bundle: Bundle) -> tuple[Turn, NDArray[np.float32], float, float]:
    """Normalise and turn a volume; the distances between its rows and columns then."""
    turn = turn_to_display(volume.affine)
    _, row_mm, column_mm = volume.spacing_mm
    if turn.transpose:
        row_mm, column_mm = column_mm, row_mm
    return turn, turn.apply(normalise(volume.voxels, bundle.manifest.input)), row_mm, column_mm


def _with_neighbours(positive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    grown: NDArray[np.bool_] = ndimage.binary_dilation(positive, np.ones(3, bool))
    return grown
