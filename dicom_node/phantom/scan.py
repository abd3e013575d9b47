"""The phantom as a scanner would send it: a series with a lesion at a known place."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.phantom.brain import PhantomContrast
from dicom_node.phantom.cut import Cut, cut_head
from dicom_node.phantom.mr_series import FLAIR, T1CE, mr_series
from dicom_node.series.volume import Plane

DEMO_SEED = 0  # seeds below 1000 are never trained on

_ACQUISITIONS = {"FLAIR": FLAIR, "T1CE": T1CE}
_DESCRIPTIONS = {"FLAIR": "FLAIR", "T1CE": "T1 SE +C"}
_PLANES = {Plane.AXIAL: "AX", Plane.CORONAL: "COR", Plane.SAGITTAL: "SAG"}


@dataclass(frozen=True)
class Scan:
    """A scanned phantom.

    Attributes
    ----------
    datasets : one MR image per slice
    cut : what was scanned
    """

    datasets: list[Dataset]
    cut: Cut


def scan_phantom(
    seed: int = DEMO_SEED,
    *,
    contrast: PhantomContrast = "FLAIR",
    plane: Plane = Plane.AXIAL,
    lesion: bool = True,
) -> Scan:
    """Scan a phantom whose middle lies at the origin of the patient coordinates.

    Series of the same head are of one study; the head with its lesion and without are two.
    """
    cut = cut_head(seed, plane, contrast=contrast, lesion=lesion).of_the_head()
    axial_flair = contrast == "FLAIR" and plane is Plane.AXIAL
    datasets = mr_series(
        cut.voxels,
        cut.affine,
        acquisition=_ACQUISITIONS[contrast],
        seed=f"phantom {seed}{'' if lesion else ' healthy'}",
        series_seed="1" if axial_flair else f"{contrast} {plane}",
        series_number=1 + 3 * list(_ACQUISITIONS).index(contrast) + list(Plane).index(plane),
        series_description=f"{_PLANES[plane]} {_DESCRIPTIONS[contrast]} phantom",
    )
    return Scan(datasets, cut)
