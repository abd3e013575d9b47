"""The report that names its predecessor as one destination has it.

A report and its forms name their predecessor in their own form. A destination that took the
predecessor in another one, since it had a SEG or a class was refused, gets a form of its own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from pydicom import Dataset, dcmread

from dicom_node.results.identity import any_character_set
from dicom_node.results.older_report import write_beside
from dicom_node.results.provenance import hashed_uid
from dicom_node.results.result_set import Kind


class Reference(NamedTuple):
    """An instance by its class and its UID."""

    sop_class_uid: str
    sop_instance_uid: str


class Told(NamedTuple):
    """What a report says of itself.

    Attributes
    ----------
    own : the report
    predecessor : that it names, if any
    """

    own: Reference
    predecessor: Reference | None


def original_of(path: Path) -> Path | None:
    """The report of the result that a file is a form of, which may be itself; None for other files."""
    return path.with_name(f"{Kind.SR}.dcm") if path.stem.split("-")[0] == Kind.SR else None


@any_character_set()
def read_told(path: Path) -> Told:
    """Read which report a file is, and which it replaces."""
    header = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID", "PredecessorDocumentsSequence"])
    named = [
        Reference(str(each.ReferencedSOPClassUID), str(each.ReferencedSOPInstanceUID))
        for each in _named(header)
    ]
    own = Reference(str(header.SOPClassUID), str(header.SOPInstanceUID))
    return Told(own, named[0] if named else None)


@any_character_set()
def name_predecessor(path: Path, predecessor: Reference) -> Path:
    """Give the form of a report that names this instance as its predecessor.

    Parameters
    ----------
    path : of a report that names a predecessor, in whatever form
    """
    if read_told(path).predecessor == predecessor:
        return path
    named = hashlib.sha256(predecessor.sop_instance_uid.encode()).hexdigest()[:8]
    wanted = path.with_name(f"{path.stem}-after-{named}.dcm")
    if not wanted.exists():  # it got its name when it was whole
        dataset = dcmread(path)
        for each in _named(dataset):
            each.ReferencedSOPClassUID, each.ReferencedSOPInstanceUID = predecessor
        dataset.SOPInstanceUID = hashed_uid(dataset.SOPInstanceUID, "after", predecessor.sop_instance_uid)
        write_beside(dataset, wanted)
    return wanted


def _named(dataset: Dataset) -> list[Dataset]:
    return [
        reference
        for study in dataset.get("PredecessorDocumentsSequence") or ()
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    ]
