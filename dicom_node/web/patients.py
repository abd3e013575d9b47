"""Whose series it is: read from the first of its images, as the book holds no patient data.

Names are shown on pages; they stand in no address and in no log.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom

_TAGS = [
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyDescription",
    "SeriesDescription",
    "SeriesNumber",
    "AccessionNumber",
    "Modality",
]
_KEPT = 5000


@dataclass(frozen=True, slots=True)
class Patient:
    """Of a series, as texts; empty where its images do not say."""

    name: str = ""
    id: str = ""
    birth_date: str = ""
    sex: str = ""
    study_date: str = ""
    study: str = ""
    series: str = ""
    accession_number: str = ""
    modality: str = ""


class Patients:
    """Looks patients up, and remembers them."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Patient] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, series_instance_uid: str, list_images: Callable[[], Sequence[Path]]) -> Patient:
        """Whose a series is; nobody's when its images are no longer here.

        Parameters
        ----------
        list_images : gives the paths of its images
        """
        with self._lock:
            if (known := self._known.get(series_instance_uid)) is not None:
                return known
        paths = list_images()
        if not paths or (patient := read_patient(paths[0])) is None:
            return Patient()
        with self._lock:
            self._known[series_instance_uid] = patient
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return patient


def read_patient(path: Path) -> Patient | None:
    """Read whose image a file is; None when that cannot be read."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS), force=False)
        name = header.get("PatientName")
        return Patient(
            name=str(name).replace("^", ", ", 1).replace("^", " ").strip(" ,") if name else "",
            id=str(header.get("PatientID", "")),
            birth_date=_date(str(header.get("PatientBirthDate", ""))),
            sex=str(header.get("PatientSex", "")),
            study_date=_date(str(header.get("StudyDate", ""))),
            study=str(header.get("StudyDescription", "")),
            series=str(header.get("SeriesDescription", "")),
            accession_number=str(header.get("AccessionNumber", "")),
            modality=str(header.get("Modality", "")),
        )
    except Exception:  # noqa: BLE001 - a damaged header lets any kind out; then nobody is named
        return None


def _date(value: str) -> str:
    """Write a DA as people do."""
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 and value.isdecimal() else value
