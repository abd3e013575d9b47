"""The values that travel in this station: what was announced, and what is on disk."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import cast

from dicom_node.receive.header import Vector


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a C-STORE request says about the instance that follows."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    called_ae_title: str
    calling_ae_title: str
    association_id: int


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that is on disk.

    Attributes
    ----------
    position_mm, orientation : Image Position and Orientation (Patient), or None
    path : the file with this very data set
    is_new : False if the spool held the same data set already
    is_conflict : another data set came with a SOP Instance UID that was taken; it is kept
        beside the first and is no part of the series
    """

    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    position_mm: Vector | None
    orientation: Vector | None
    called_ae_title: str
    calling_ae_title: str
    association_id: int
    path: Path
    is_new: bool
    is_conflict: bool = False

    def __reduce__(self) -> tuple[object, ...]:
        # A process that receives tells of each: the usual way takes three times as long
        *others, path, is_new, is_conflict = _VALUES(self)
        return _instance, (*others, str(path), is_new, is_conflict)


_VALUES = attrgetter(*StoredInstance.__slots__)


def _instance(*values: object) -> StoredInstance:
    *others, path, is_new, is_conflict = values
    return StoredInstance(*others, Path(cast("str", path)), is_new, is_conflict)  # type: ignore[arg-type,call-arg]
