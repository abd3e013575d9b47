"""SEG of several writers (the node, highdicom, dcmqi) for series made by :mod:`tests.training.labelled`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.sr.codedict import codes

from dicom_node.results.result_set import Kind
from tests.results.result_cases import TOOLS, findings_of, path_of, run
from tests.results.result_cases import Case as Result
from tests.training.labelled import Scanned, cases_in, volume_of
from training.prepare.dicom import prepare_dicom
from training.prepare.report import Prepared

WHOLE = (1.0, 0.0, 0.0)


def prepared(folder: Path, out: Path, **arguments: object) -> Prepared:
    return prepare_dicom(folder, out, **{"fractions": WHOLE, "seed": 0, **arguments})


def node_segmentation(scan: Scanned, paths: list[Path], folder: Path) -> Path:
    """The SEG that the node makes of the lesion, beside the images."""
    volume = volume_of(paths)
    lesion = scan.lesion if volume.affine[:3, 2] @ scan.affine[:3, 2] > 0 else scan.lesion[::-1]
    result = run(Result(volume, findings_of(volume, lesion.astype(np.float32))), folder / "made")
    path = shutil.copy(path_of(result, Kind.SEG), folder / "seg.dcm")
    shutil.rmtree(folder / "made")
    return Path(path)


def own_segmentation(
    paths: list[Path],
    masks: np.ndarray,
    path: Path,
    *,
    affine: np.ndarray | None = None,
    kind: str = "BINARY",
    labels: tuple[str, ...] = ("Tumour",),
) -> Path:
    """A SEG by highdicom: of the images' grid, or of its own where an affine is given."""
    sources = [dcmread(p) for p in paths]
    geometry = {}
    if affine is not None:
        row, column = (v / np.linalg.norm(v) for v in (affine[:3, 0], affine[:3, 1]))
        column_mm, row_mm, slice_mm = np.linalg.norm(affine[:3, :3], axis=0)
        geometry = {
            "plane_orientation": hd.PlaneOrientationSequence("PATIENT", [*row, *column]),
            "pixel_measures": hd.PixelMeasuresSequence([row_mm, column_mm], slice_mm, slice_mm),
            "plane_positions": [
                hd.PlanePositionSequence("PATIENT", (affine @ [0, 0, index, 1])[:3])
                for index in range(len(masks))
            ],
        }
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=masks,
        segmentation_type=kind,
        segment_descriptions=[
            hd.seg.SegmentDescription(
                number, label, codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, "MANUAL"
            )
            for number, label in enumerate(labels, 1)
        ],
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        **geometry,
    )
    segmentation.save_as(path)
    return path


def dcmqi_segmentation(masks: np.ndarray, affine: np.ndarray, images: Path, path: Path) -> None:
    """A SEG by an independent writer, fed with an NRRD."""
    segment = {
        "labelID": 1,
        "SegmentDescription": "Tumour",
        "SegmentLabel": "Tumour",
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": code("49755003", "Abnormal structure"),
        "SegmentedPropertyTypeCodeSequence": code("108369006", "Neoplasm"),
    }
    described = {
        "ContentCreatorName": "Reader",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "9",
        "InstanceNumber": "1",
        "segmentAttributes": [[segment]],
    }
    nrrd, metadata = path.with_suffix(".nrrd"), path.with_suffix(".json")
    write_nrrd(nrrd, masks, affine)
    metadata.write_text(json.dumps(described))
    command = [TOOLS / "itkimage2segimage", "--inputImageList", nrrd, "--inputDICOMDirectory", images]
    command += ["--inputMetadata", metadata, "--outputDICOM", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert path.is_file(), done.stdout + done.stderr


def code(value: str, meaning: str) -> dict[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}


def write_nrrd(path: Path, masks: np.ndarray, affine: np.ndarray) -> None:
    directions = " ".join(f"({','.join(f'{v:.9g}' for v in affine[:3, axis])})" for axis in range(3))
    head = (
        "NRRD0004",
        "type: unsigned char",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, masks.shape[::-1]))}",
        f"space directions: {directions}",
        "kinds: domain domain domain",
        "encoding: raw",
        f"space origin: ({','.join(f'{v:.9g}' for v in affine[:3, 3])})",
    )
    path.write_bytes("\n".join(head).encode() + b"\n\n" + masks.tobytes())


def altered(path: Path, change: object) -> None:
    """Change each frame's functional groups in a file."""
    dataset = dcmread(path)
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        change(groups)
    dataset.save_as(path)


def assert_seen(out: Path, scan: Scanned) -> None:
    (case,) = cases_in(out)
    np.testing.assert_array_equal(case.mask, scan.seen_lesion)
    np.testing.assert_array_equal(case.voxels, scan.seen)
