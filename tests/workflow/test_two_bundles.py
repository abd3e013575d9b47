"""One node with two bundles: each series goes to the one that reads its contrast and plane.

The node runs as a process; both bundles see bright spots, so that only the choice tells them apart.
Not covered: what the shipped bundles find (tests/training/test_shipped_bundles.py).
"""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from dicom_node.phantom.mr_series import FLAIR, T1CE
from dicom_node.trial.archive import Archive
from dicom_node.workflow.ledger import Entry, State
from dicom_node.workflow.worked import Outcome
from tests.support.bundles import write_spot_bundle
from tests.support.running import (
    free_port,
    node_process,
    send,
    wait_until_ended,
    write_configuration,
)
from tests.support.spot import Series, affine_of, image_spot

SAGITTAL = affine_of((0, 1, 0), (0, 0, -1))
# two spots at different places and of different sizes: a mixed-up result would show
FLAIR_SPOT = image_spot(centre_mm=(18.0, -14.0, 6.0), radius_mm=11.0)
T1CE_SPOT = image_spot(centre_mm=(-16.0, 10.0, -4.0), radius_mm=14.0)
SAGITTAL_SPOT = image_spot(SAGITTAL)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two-models")
    write_spot_bundle(folder / "flair", label="FLAIR abnormality")
    write_spot_bundle(
        folder / "t1ce",
        contrasts=("T1CE",),
        planes=("AXIAL", "CORONAL", "SAGITTAL"),
        label="enhancing tumour",
    )
    return folder


def run_node(
    tmp_path: Path, models: Path, *series: list[Path]
) -> tuple[dict[str, Entry], dict[tuple[str, str], pydicom.Dataset]]:
    """Send series to a node; give its book by series, and the archive's objects by series and modality."""
    port = free_port()
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        destinations = {"archive": ("ARCHIVE", archive.port)}
        configuration = write_configuration(
            tmp_path / "node.toml", port=port, models=models, destinations=destinations
        )
        with node_process(configuration, port):
            for paths in series:
                send(paths, port)
            entries = wait_until_ended(tmp_path / "var", jobs=len(series))
        stored = [pydicom.dcmread(path) for path in archive.folder.glob("*.dcm")]
    objects = {(d.SeriesNumber // 100, d.Modality): d for d in stored}
    assert len(objects) == len(stored)
    return {entry.series_instance_uid: entry for entry in entries}, objects


def uid_of(paths: list[Path]) -> str:
    return str(pydicom.dcmread(paths[0]).SeriesInstanceUID)


def sources_of(segmentation: pydicom.Dataset) -> set[str]:
    return {str(series.SeriesInstanceUID) for series in segmentation.ReferencedSeriesSequence}


def volume_ml(segmentation: pydicom.Dataset) -> float:
    shared = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    area_mm2 = float(shared.PixelSpacing[0]) * float(shared.PixelSpacing[1])
    return float(segmentation.pixel_array.sum() * area_mm2 * float(shared.SpacingBetweenSlices) / 1000)


def test_a_study_with_both_contrasts_gives_two_results_and_neither_mixes(
    tmp_path: Path, models: Path, series_of: Series
) -> None:
    flair = series_of(FLAIR_SPOT, "flair", acquisition=FLAIR, series_number=4)
    t1ce = series_of(
        T1CE_SPOT,
        "t1ce",
        acquisition=T1CE,
        series_seed="2",
        series_number=7,
        series_description="AX T1 SE +C",
    )
    entries, objects = run_node(tmp_path, models, flair, t1ce)
    assert {entry.state for entry in entries.values()} == {State.DONE}
    assert {entry.outcome for entry in entries.values()} == {Outcome.FINDINGS}
    assert set(objects) == {(number, kind) for number in (4, 7) for kind in ("SEG", "SR", "OT")}
    assert len({str(d.StudyInstanceUID) for d in objects.values()}) == 1
    assert len({str(d.SeriesInstanceUID) for d in objects.values()}) == 6
    for number, paths, spot, bundle, title in (
        (4, flair, FLAIR_SPOT, "flair", "FLAIR abnormality"),
        (7, t1ce, T1CE_SPOT, "t1ce", "Enhancing tumour"),
    ):
        segmentation = objects[number, "SEG"]
        assert sources_of(segmentation) == {uid_of(paths)}
        assert volume_ml(segmentation) == pytest.approx(spot.volume_ml, rel=0.1)
        assert [s.SegmentLabel for s in segmentation.SegmentSequence] == [f"{title} 1"]
        for kind in ("SEG", "SR", "OT"):
            assert objects[number, kind].SeriesDescription.startswith(f"{title} ")
            assert objects[number, kind].ManufacturerModelName == bundle
        evidence = objects[number, "SR"].CurrentRequestedProcedureEvidenceSequence
        named = {str(s.SeriesInstanceUID) for study in evidence for s in study.ReferencedSeriesSequence}
        assert named == {uid_of(paths), str(segmentation.SeriesInstanceUID)}


def test_a_plane_is_taken_by_the_bundle_that_reads_it_and_else_skipped_with_the_reason(
    tmp_path: Path, models: Path, series_of: Series
) -> None:
    flair = series_of(SAGITTAL_SPOT, "flair", acquisition=FLAIR, series_number=4)
    t1ce = series_of(
        SAGITTAL_SPOT,
        "t1ce",
        acquisition=T1CE,
        series_seed="2",
        series_number=7,
        series_description="SAG T1 SE +C",
    )
    entries, objects = run_node(tmp_path, models, flair, t1ce)
    skipped, taken = entries[uid_of(flair)], entries[uid_of(t1ce)]
    assert skipped.state is State.SKIPPED
    assert "slices are sagittal, bundle 'flair' reads axial" in skipped.detail
    assert "t1ce: contrast is FLAIR, it takes T1CE" in skipped.detail
    assert taken.state is State.DONE
    assert taken.outcome is Outcome.FINDINGS
    assert set(objects) == {(7, kind) for kind in ("SEG", "SR", "OT")}
    assert volume_ml(objects[7, "SEG"]) == pytest.approx(SAGITTAL_SPOT.volume_ml, rel=0.1)


def test_a_contrast_that_no_bundle_reads_is_skipped_with_what_each_takes(
    tmp_path: Path, models: Path, series_of: Series
) -> None:
    native = series_of(
        T1CE_SPOT,
        acquisition=T1CE,
        attributes={"ContrastBolusAgent": None},
        series_description="AX T1 SE",
    )
    entries, objects = run_node(tmp_path, models, native)
    (entry,) = entries.values()
    assert entry.state is State.SKIPPED
    assert "flair: contrast is T1, it takes FLAIR" in entry.detail
    assert "t1ce: contrast is T1, it takes T1CE" in entry.detail
    assert not objects
