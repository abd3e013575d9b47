"""Result objects on disk: all of a result, proven, or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_node.durable import flush_folder, hand_over
from dicom_node.results.picture import Picture, png
from dicom_node.results.result_set import Kind, ResultObject, ResultSet

PICTURE_NAME = "picture.png"
MEMORY_NAME = "deleted"
# What a later version of the same series must know of a result that was deleted; no patient data
_REMEMBERED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDate",
    "SeriesTime",
)

Proof = Callable[[Mapping[Kind, Path]], None]


def publish(made: Mapping[Kind, Dataset], picture: Picture, folder: Path, prove: Proof) -> ResultSet:
    """Write the objects under names that nobody takes for finished, prove them, give them their names.

    What was published before under the same UIDs stays as it is.

    Parameters
    ----------
    made : in the order of sending
    prove : reads the files back and raises when one is not right; then none stays
    """
    kept = read_result_set(folder)
    if kept and [o.sop_instance_uid for o in kept.objects] == [m.SOPInstanceUID for m in made.values()]:
        return (
            kept  # made before, by a run that was cut off or forgotten: one instance, one sequence of bytes
        )
    folder.mkdir(parents=True, exist_ok=True)
    # the report is last: it stands for the whole
    names = {"picture": PICTURE_NAME} | {kind.value: f"{kind.value}.dcm" for kind in made}
    parts = {name: folder / f"{file_name}.part" for name, file_name in names.items()}
    try:
        parts["picture"].write_bytes(png(picture))
        for kind, dataset in made.items():
            write_durably(dataset, parts[kind.value])
        prove({kind: parts[kind.value] for kind in made})
    except BaseException:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise
    for part in parts.values():
        part.replace(part.with_suffix(""))
    flush_folder(folder)
    objects = tuple(
        result_object(kind, dataset, folder / names[kind.value]) for kind, dataset in made.items()
    )
    return ResultSet(str(made[Kind.SR].StudyInstanceUID), objects)


def read_result_set(folder: Path) -> ResultSet | None:
    """Describe the result that was published into a folder; None when there is none."""
    written = [(kind, folder / f"{kind.value}.dcm") for kind in Kind]
    found = {kind: (path, dcmread(path, stop_before_pixels=True)) for kind, path in written if path.exists()}
    if Kind.SR not in found:
        return None
    objects = tuple(result_object(kind, dataset, path) for kind, (path, dataset) in found.items())
    return ResultSet(str(found[Kind.SR][1].StudyInstanceUID), objects)


def read_predecessor(folder: Path) -> ResultSet | None:
    """Describe the result that was published into a folder, also when it was deleted since."""
    return read_result_set(folder) or read_result_set(folder / MEMORY_NAME)


def remember(folder: Path) -> None:
    """Keep of each object what a later version must know, without patient data, in a folder below."""
    memory = folder / MEMORY_NAME
    part = folder / f"{MEMORY_NAME}.part"
    if memory.exists() or read_result_set(folder) is None:
        return
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    hand_over(part)
    for path in (folder / f"{kind.value}.dcm" for kind in Kind):
        if path.exists():
            kept = dcmread(path, specific_tags=list(_REMEMBERED))
            write_durably(kept, part / path.name)
            hand_over(part / path.name)
    flush_folder(part)
    part.rename(memory)
    flush_folder(folder)


def result_object(kind: Kind, dataset: Dataset, path: Path) -> ResultObject:
    """Describe a written object."""
    return ResultObject(
        kind=kind,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        path=path,
    )


def write_durably(dataset: Dataset, path: Path) -> None:
    """Write a file that survives a loss of power once this returns."""
    with path.open("wb") as file:
        dataset.save_as(file, enforce_file_format=True)
        file.flush()
        os.fsync(file.fileno())
