"""Results of real series: a converter's single frames, and Enhanced MR of two vendors.

Covered: that what the series station reads from real files is what this station needs, and that
dcmqi finds a drawn region in the same place and of the same volume.
Not covered: what a model says of these images.
"""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.results.result_set import Kind
from dicom_node.series.find import find_series
from dicom_node.series.geometry import order_stack
from dicom_node.series.read import read_volume
from dicom_node.series.stacks import split_stacks
from dicom_node.series.volume import Contrast
from tests.results.result_cases import Case, dciodvfy, findings_of, path_of, read_with_dcmqi, run
from tests.support.frames import read_frames


@pytest.mark.data
@pytest.mark.parametrize("name", ["hanke_t1_axial", "philips_enhanced_fmap", "siemens_vida_enhanced_phantom"])
def test_a_region_drawn_on_real_images_is_read_back_in_its_place(name, data, tmp_path):
    paths = next(iter(find_series(data / "dicom" / name).values()))
    stack = order_stack(split_stacks(read_frames(paths))[0])
    volume = read_volume(stack, Contrast.UNKNOWN)
    slices, rows, columns = volume.shape
    probability = np.zeros(volume.shape, np.float32)
    probability[slices // 3 : slices // 2, rows // 4 : rows // 3, columns // 5 : columns // 2] = 0.9
    probability[slices // 3, rows // 3 : rows // 2, columns // 5 : columns // 4] = 0.7
    findings = findings_of(volume, probability)
    result = run(Case(volume, findings), tmp_path / "result")
    (lesion,) = findings.lesions
    ((_, centroid_mm, volume_ml),) = read_with_dcmqi(path_of(result, Kind.SEG), tmp_path / "dcmqi").values()
    assert centroid_mm == pytest.approx(lesion.centroid_mm, abs=0.01)
    assert volume_ml == pytest.approx(lesion.volume_ml, rel=1e-4)
    for made in result.objects:
        errors, _ = dciodvfy(made.path)
        # one source states an age of two characters, which is copied as it is
        assert [error for error in errors if "PatientAge" not in error] == []
