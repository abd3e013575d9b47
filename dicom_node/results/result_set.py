"""The value that travels from the results station: finished DICOM objects, as bytes on disk."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """Kinds of result objects, in the order of sending; the value is also the file's stem.

    Segmentation, Parametric Map, Secondary Capture, Key Object Selection, report.
    """

    SEG = "seg"
    PM = "pm"
    SC = "sc"
    KOS = "kos"
    SR = "sr"


@dataclass(frozen=True, slots=True)
class ResultObject:
    """One object, written once; every delivery and every resend sends these bytes."""

    kind: Kind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    path: Path


@dataclass(frozen=True, slots=True)
class ResultSet:
    """The objects of one result in the order of sending: children first, the root SR last."""

    study_instance_uid: str
    objects: tuple[ResultObject, ...]
