"""The summary picture as a Secondary Capture (PS3.3 A.8.1), RGB."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.results.picture import Picture
from dicom_node.results.provenance import Provenance, stamp
from dicom_node.results.result_set import Kind
from dicom_node.results.source_grid import image_reference
from dicom_node.series.volume import FrameReference


def make_capture(picture: Picture, provenance: Provenance, shown: FrameReference | None = None) -> Dataset:
    """Wrap a picture.

    Parameters
    ----------
    shown : the slice in the picture, if there is one
    """
    label = provenance.algorithm.finding.label
    ds = Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.Modality = "OT"
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = None
    ds.BurnedInAnnotation = "NO"
    ds.DerivationDescription = f"Key slice beside its {label} probability map" if shown else "Text"
    if shown is not None:
        source = image_reference(shown.sop_class_uid, shown.sop_instance_uid)
        if shown.frame_number is not None:
            source.ReferencedFrameNumber = shown.frame_number
        ds.SourceImageSequence = [source]
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = picture.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    raw = picture.tobytes()
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds["PixelData"].VR = "OB"
    stamp(ds, provenance, Kind.SC)
    return ds
