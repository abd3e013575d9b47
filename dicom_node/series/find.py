"""Which series a folder holds."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pydicom
from pydicom.uid import UID


def find_series(folder: Path) -> dict[str, list[Path]]:
    """List the DICOM files below a folder by SeriesInstanceUID, in order of their names."""
    series: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            header = pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True)
            uid = UID(str(header.get("SeriesInstanceUID", "")))
        except Exception:  # noqa: BLE001, S112 - a damaged header lets any kind out
            continue
        if uid.is_valid:  # it becomes the name of a folder
            series[uid].append(path)
    return dict(series)
