"""The spot as a multi-frame object: Enhanced MR by hand, Legacy Converted by highdicom."""

from __future__ import annotations

from copy import deepcopy

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from dicom_node.phantom.mr_series import mr_series
from tests.support.spot import Spot

_TOP_LEVEL = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "SeriesInstanceUID", "SeriesNumber",
    "SeriesDescription", "Modality", "FrameOfReferenceUID", "Manufacturer", "Rows", "Columns",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation",
)  # fmt: skip


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def enhanced_mr(spot: Spot, order: list[int] | None = None) -> Dataset:
    """An axial FLAIR as Enhanced MR Image Storage (PS3.3 A.36.2), its frames in the given order.

    Every other frame has a rescale slope of 2, as frames of real scanners differ in theirs.
    """
    sources = mr_series(spot.voxels, spot.affine)
    order = list(range(len(sources))) if order is None else order
    image = Dataset()
    for keyword in _TOP_LEVEL:
        if keyword in sources[0]:
            image[keyword] = sources[0][keyword]
    image.SOPClassUID = EnhancedMRImageStorage
    image.SOPInstanceUID = generate_uid(entropy_srcs=["enhanced"])
    image.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    image.InstanceNumber = 1
    image.ContentDate, image.ContentTime = "20260101", "120000"
    image.NumberOfFrames = len(order)
    image.SharedFunctionalGroupsSequence = [
        _item(
            MRTimingAndRelatedParametersSequence=[_item(RepetitionTime=9000.0)],
            MREchoSequence=[_item(EffectiveEchoTime=120.0)],
            MRModifierSequence=[_item(InversionRecovery="YES", InversionTimes=[2500.0])],
            PlaneOrientationSequence=[_item(ImageOrientationPatient=sources[0].ImageOrientationPatient)],
            PixelMeasuresSequence=[
                _item(PixelSpacing=sources[0].PixelSpacing, SliceThickness=sources[0].SliceThickness)
            ],
        )
    ]
    slopes = [1 + k % 2 for k in order]
    image.PerFrameFunctionalGroupsSequence = [
        _item(
            FrameContentSequence=[
                _item(StackID="1", InStackPositionNumber=k + 1, DimensionIndexValues=[k + 1])
            ],
            PlanePositionSequence=[_item(ImagePositionPatient=sources[k].ImagePositionPatient)],
            MRImageFrameTypeSequence=[_item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
            PixelValueTransformationSequence=[
                _item(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")
            ],
        )
        for k, slope in zip(order, slopes, strict=True)
    ]
    frames = [spot.voxels[k] / slope for k, slope in zip(order, slopes, strict=True)]
    image.PixelData = np.stack(frames).round().astype("<u2").tobytes()
    image["PixelData"].VR = "OW"
    image.file_meta = sources[0].file_meta
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def in_instances(image: Dataset, frames_each: int) -> list[Dataset]:
    """The same object as several instances: a concatenation (PS3.3 C.7.6.16.2.2.4), or of single frames."""
    pixels = image.pixel_array
    instances = []
    for first in range(0, image.NumberOfFrames, frames_each):
        own = slice(first, first + frames_each)
        part = deepcopy(image)
        part.NumberOfFrames = len(pixels[own])
        part.PerFrameFunctionalGroupsSequence = image.PerFrameFunctionalGroupsSequence[own]
        part.PixelData = pixels[own].tobytes()
        part.SOPInstanceUID = generate_uid(entropy_srcs=[image.SOPInstanceUID, str(first)])
        part.file_meta.MediaStorageSOPInstanceUID = part.SOPInstanceUID
        part.InstanceNumber = len(instances) + 1
        if frames_each > 1:
            part.ConcatenationUID = generate_uid(entropy_srcs=[image.SOPInstanceUID, "whole"])
            part.ConcatenationFrameOffsetNumber = first
            part.InConcatenationNumber = len(instances) + 1
        instances.append(part)
    return instances


def legacy_converted_mr(spot: Spot) -> Dataset:
    """The same as Legacy Converted Enhanced MR (PS3.3 A.71), converted by highdicom."""
    sources = mr_series(spot.voxels, spot.affine)
    return hd.legacy.LegacyConvertedEnhancedMRImage(
        sources,
        series_instance_uid=generate_uid(entropy_srcs=["legacy series"]),
        series_number=2,
        sop_instance_uid=generate_uid(entropy_srcs=["legacy"]),
        instance_number=1,
    )
