"""What a process does more slowly the first time it makes a result, done before a series comes."""

from __future__ import annotations

import threading

import highdicom as hd
from pydicom.uid import UID, ExplicitVRLittleEndian, SegmentationStorage

_NOWHERE = UID("2.25.0")


def warm_up() -> threading.Thread:
    """Let highdicom read its tables of the standard, beside whatever else the process does.

    That takes 0.35 to 0.5 s of CPU, which the first result would wait for.
    """
    thread = threading.Thread(target=_make_any_object, name="warm-up", daemon=True)
    thread.start()
    return thread


def _make_any_object() -> None:
    hd.SOPClass(
        study_instance_uid=_NOWHERE,
        series_instance_uid=_NOWHERE,
        series_number=1,
        sop_instance_uid=_NOWHERE,
        sop_class_uid=SegmentationStorage,
        instance_number=1,
        modality="SEG",
        manufacturer="",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
