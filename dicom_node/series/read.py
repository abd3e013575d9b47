"""The face of the series station: files in, a volume out."""

from __future__ import annotations

from dicom_node.series.geometry import Stack
from dicom_node.series.pixels import read_voxels
from dicom_node.series.volume import Contrast, MRVolume


def read_volume(stack: Stack, contrast: Contrast) -> MRVolume:
    """Read the voxels of an ordered stack.

    Raises
    ------
    SeriesRefused
        When pixel data cannot be decoded.
    """
    frames = stack.frames
    headers = {str(frame.header.SOPInstanceUID): frame.header for frame in frames}
    return MRVolume(
        voxels=read_voxels(stack),
        affine=stack.affine,
        frames=tuple(frame.reference for frame in frames),
        headers=tuple(headers.values()),
        contrast=contrast,
        remarks=stack.remarks,
    )
