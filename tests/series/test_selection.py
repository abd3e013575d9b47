"""Which series are chosen, skipped or refused, and that the reason is told.

Covers each rule of docs/series-selection.md on single-frame series and on real vendor files.
Not covered: pixel data (test_pixels).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.phantom.mr_series import FLAIR, T1CE, Acquisition, mr_series
from dicom_node.series.contrast import contrast_of
from dicom_node.series.find import find_series
from dicom_node.series.headers import Frame, frames_of
from dicom_node.series.selection import Outcome, Selection, select
from dicom_node.series.volume import Contrast, Plane
from dicom_node.settings import Match, Pipeline
from tests.support.frames import read_frames
from tests.support.spot import affine_of, image_spot

SHAPE = (12, 20, 16)
PIPELINE = Pipeline(name="flair", bundle="spot", match=Match(contrasts=("FLAIR",)), maximum_slices=40)
PLANES = {"spot": [Plane.AXIAL]}


def series(acquisition: Acquisition = FLAIR, affine: object = None, **attributes: object) -> list[Dataset]:
    spot = image_spot(affine_of(shape=SHAPE) if affine is None else affine, shape=SHAPE)
    return mr_series(spot.voxels, spot.affine, acquisition=acquisition, attributes=attributes)


def frames(datasets: list[Dataset]) -> list[Frame]:
    return [frame for dataset in datasets for frame in frames_of(Path("x.dcm"), dataset)]


def decide(datasets: list[Dataset], pipeline: Pipeline = PIPELINE, called: str | None = None) -> Selection:
    return select(frames(datasets), [pipeline], PLANES, called)


def test_a_flair_series_is_chosen_and_every_rule_is_in_the_trace() -> None:
    found = decide(series())
    assert found.outcome is Outcome.CHOSEN
    assert found.contrast is Contrast.FLAIR
    assert [v.rule for v in found.trace] == [
        "modality is MR",
        "SOP class is MR, enhanced MR or legacy converted enhanced MR",
        "image is original and primary",
        "description names no derived image",
        "no angiography and no dynamic series",
        "body part may be the head",
        "no burned-in annotation",
        "image is grey",
        "volumes",
        "contrast",
        "pipeline",
        "one sound volume",
    ]
    assert all(verdict.passed for verdict in found.trace)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Modality": "CT"}, "modality is CT"),
        ({"Modality": "SEG"}, "modality is SEG"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "a multiplanar reformat"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}, "a diffusion image"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "a phase image"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "a mosaic"),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, "not ORIGINAL/PRIMARY"),
        ({"ImageType": None}, "ImageType is missing"),
        ({"SeriesDescription": "3-plane loc"}, "a localizer"),
        ({"SeriesDescription": "ax_perfusion_DSC"}, "a perfusion"),
        ({"SeriesDescription": "T1 map"}, "a parameter map"),
        ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation is YES"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "not a grey image"),
    ],
)
def test_a_series_that_is_not_for_us_is_skipped_with_the_reason(attributes: dict, reason: str) -> None:
    found = decide(series(**attributes))
    assert found.outcome is Outcome.SKIPPED
    assert reason in found.reason


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        (
            PIPELINE.model_copy(update={"match": Match(contrasts=("T1CE",))}),
            "contrast is FLAIR, it takes T1CE",
        ),
        (
            PIPELINE.model_copy(update={"match": Match(contrasts=("FLAIR",), minimum_slices=13)}),
            "12 slices, fewer than 13",
        ),
        (
            PIPELINE.model_copy(update={"match": Match(contrasts=("FLAIR",), called_ae_titles=("OTHER",))}),
            "sent to NODE, it takes OTHER",
        ),
        (
            PIPELINE.model_copy(update={"match": Match(contrasts=("FLAIR",), series_description="head")}),
            "SeriesDescription does not match",
        ),
    ],
)
def test_a_series_that_fits_no_pipeline_is_skipped_with_the_reason(pipeline: Pipeline, reason: str) -> None:
    found = decide(series(), pipeline, called="NODE")
    assert found.outcome is Outcome.SKIPPED
    assert reason in found.reason


@pytest.mark.parametrize(
    ("row", "column", "plane"),
    [((0, 1, 0), (0, 0, -1), "sagittal"), ((1, 0, 0), (0, 0, -1), "coronal")],
)
def test_a_plane_that_the_bundle_does_not_read_is_skipped(row: tuple, column: tuple, plane: str) -> None:
    found = decide(series(affine=affine_of(row, column, shape=SHAPE)))
    assert found.outcome is Outcome.SKIPPED
    assert f"slices are {plane}, bundle 'spot' reads axial" in found.reason


def test_a_series_with_too_many_slices_is_refused() -> None:
    found = decide(series(), PIPELINE.model_copy(update={"maximum_slices": 11}))
    assert found.outcome is Outcome.REFUSED
    assert "12 slices; pipeline 'flair' takes at most 11" in found.reason


@pytest.mark.parametrize(("keyword", "what"), [("PatientID", "patients"), ("StudyInstanceUID", "studies")])
def test_a_series_that_mixes_patients_or_studies_is_refused(keyword: str, what: str) -> None:
    datasets = series()
    setattr(datasets[5], keyword, "1.2.3")
    found = decide(datasets)
    assert found.outcome is Outcome.REFUSED
    assert found.reason == f"the series mixes 2 {what}"


def test_two_echoes_in_one_series_are_two_volumes_and_the_one_that_fits_is_chosen() -> None:
    other = series(Acquisition(scanning_sequence=("SE",), repetition_ms=3000, echo_ms=80, inversion_ms=None))
    for k, dataset in enumerate(other):
        dataset.SOPInstanceUID = f"1.2.3.{k}"
    found = decide([*other, *series()])
    assert found.outcome is Outcome.CHOSEN
    assert found.contrast is Contrast.FLAIR
    assert found.stack is not None
    assert len(found.stack.frames) == 12
    assert "The series holds 2 volumes" in found.stack.remarks[0]


def test_two_volumes_that_both_fit_are_refused() -> None:
    later = series(TemporalPositionIdentifier=2)
    for k, dataset in enumerate(later):
        dataset.SOPInstanceUID = f"1.2.3.{k}"
    found = decide([*series(TemporalPositionIdentifier=1), *later])
    assert found.outcome is Outcome.REFUSED
    assert "holds 2 volumes that fit" in found.reason


def test_images_at_one_position_that_nothing_tells_apart_are_refused() -> None:
    again = series()
    for k, dataset in enumerate(again):
        dataset.SOPInstanceUID = f"1.2.3.{k}"
    found = decide([*series(), *again])
    assert found.outcome is Outcome.REFUSED
    assert "12 images lie at the position of another" in found.reason


def test_interleaved_packages_of_one_volume_stay_one_volume() -> None:
    datasets = series()
    for k, dataset in enumerate(datasets):
        dataset.AcquisitionNumber = k % 2 + 1
    assert decide(datasets).outcome is Outcome.CHOSEN


@pytest.mark.parametrize(
    ("acquisition", "attributes", "contrast"),
    [
        (FLAIR, {}, Contrast.FLAIR),
        (
            Acquisition(scanning_sequence=("SE", "IR"), inversion_ms=150, repetition_ms=4000),
            {},
            Contrast.UNKNOWN,
        ),
        (
            Acquisition(scanning_sequence=("SE",), inversion_ms=None, echo_ms=90, repetition_ms=4000),
            {},
            Contrast.T2,
        ),
        (T1CE, {}, Contrast.T1CE),
        (T1CE, {"ContrastBolusAgent": "NONE"}, Contrast.T1),
        (T1CE, {"ContrastBolusAgent": None, "SeriesDescription": "T1 post Gd"}, Contrast.T1CE),
        (T1CE, {"ContrastBolusAgent": None, "SeriesDescription": "T1 pre contrast"}, Contrast.T1),
        (
            Acquisition(scanning_sequence=("GR", "IR"), inversion_ms=900, echo_ms=3, repetition_ms=1900),
            {},
            Contrast.T1,
        ),
        (
            Acquisition(scanning_sequence=("GR",), inversion_ms=None, echo_ms=4, repetition_ms=9),
            {},
            Contrast.T1,
        ),
        (
            Acquisition(scanning_sequence=("RM",), inversion_ms=None),
            {"RepetitionTime": None, "SeriesDescription": "t2_tirm_tra_dark-fluid"},
            Contrast.FLAIR,
        ),
        (
            Acquisition(scanning_sequence=("RM",), inversion_ms=None),
            {"RepetitionTime": None, "SeriesDescription": "something"},
            Contrast.UNKNOWN,
        ),
    ],
)
def test_contrast_is_told_by_physics_first_and_description_second(
    acquisition: Acquisition, attributes: dict, contrast: Contrast
) -> None:
    described = {"SeriesDescription": "series", "ProtocolName": None, **attributes}
    (frame, *_) = frames(series(acquisition, **described))
    assert contrast_of(frame)[0] is contrast


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("ge_epi", "one of a dynamic series"),
        ("hanke_t1_axial", "ImageType is DERIVED/SECONDARY, not ORIGINAL/PRIMARY"),
        ("philips_enhanced_fmap", "contrast is T1, it takes FLAIR"),
        ("siemens_vida_enhanced_phantom", ""),
    ],
)
def test_real_series_that_are_not_for_us_are_skipped_with_the_reason(
    data: Path, folder: str, reason: str
) -> None:
    found = find_series(data / "dicom" / folder)
    assert found
    for paths in found.values():
        selection = select(read_frames(paths), [PIPELINE], PLANES)
        assert selection.outcome is Outcome.SKIPPED
        assert reason in selection.reason
