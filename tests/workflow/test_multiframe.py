"""Multi-frame sources: one instance in, SEG and report that refer to its frames out.

Covers Enhanced MR made by hand, with frames out of order and rescaled differently, and Legacy
Converted Enhanced MR made by highdicom. Not covered: files of real scanners with a contrast that a
bundle reads; those that there are are skipped (tests/series/test_selection.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_node.workflow.stations import Stations
from tests.support.multiframe import enhanced_mr, legacy_converted_mr
from tests.support.spot import image_spot
from tests.workflow.test_bad_input import analyse_one, centroid_of

SPOT = image_spot()
SHUFFLED = [int(k) for k in np.random.default_rng(3).permutation(len(SPOT.voxels))]


@pytest.mark.parametrize(
    "image",
    [enhanced_mr(SPOT), enhanced_mr(SPOT, SHUFFLED), legacy_converted_mr(SPOT)],
    ids=["enhanced", "enhanced, frames shuffled", "legacy converted"],
)
def test_the_seg_of_a_multiframe_image_lies_where_the_spot_is(
    image: Dataset, stations: Stations, tmp_path: Path
) -> None:
    (tmp_path / "series").mkdir()
    image.save_as(tmp_path / "series" / "image.dcm", enforce_file_format=True)
    one = analyse_one(stations, tmp_path)
    assert not one.failed, one.detail
    assert one.detail == "1 lesion, 5.6 ml"

    seg = pydicom.dcmread(one.folder / "seg.dcm")
    np.testing.assert_allclose(centroid_of(seg), SPOT.centroid_mm, atol=0.75)
    source_frames = image.PerFrameFunctionalGroupsSequence
    for groups in seg.PerFrameFunctionalGroupsSequence:
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID == image.SOPInstanceUID
        referenced = source_frames[int(source.ReferencedFrameNumber) - 1]
        assert (
            referenced.PlanePositionSequence[0].ImagePositionPatient
            == groups.PlanePositionSequence[0].ImagePositionPatient
        )
