"""Labelled volumes of several data sets, and what may be drawn of them at random.

A data set with patients gives a volume per exam, and patients are drawn. In one without a column
``patient`` every slice is a volume of its own; neighbours in the index may show the same patient, so
blocks of :data:`BLOCK` neighbouring slices are drawn together. A column ``class`` names the disease.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.cases import Case, data_folder, read_cases

BLOCK = 10  # slices; of the order of what one patient has in cheng_t1ce


@dataclass(frozen=True)
class Volume:
    """A case and its place in the data.

    Attributes
    ----------
    case : voxels and mask
    name : patient and exam, or the image's name
    data : the data set
    unit : what a bootstrap draws, unique within the data set: a patient or a block of slices
    disease : the index's ``class``, "" where it has none
    is_series : whether it is a series of slices of a known patient
    """

    case: Case
    name: str
    data: str
    unit: str
    disease: str
    is_series: bool


def folders_of(data: Sequence[Path] | None) -> list[Path]:
    """Return the given folders, by default ``lgg_flair`` in the folder of all data sets."""
    return list(data or [data_folder() / "lgg_flair"])


def _index(folder: Path, split: str) -> Iterator[tuple[str, str, str, bool]]:
    """Yield patient or image, exam, disease and whether it is a patient, in the order of ``read_cases``."""
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    known = {(row.get("patient", row["image"]), row.get("exam", "")): row for row in rows}
    for key in sorted(known):
        yield *key, known[key].get("class", ""), "patient" in known[key]


def read_volumes(folders: Sequence[Path], split: str, every: int = 1) -> Iterator[Volume]:
    """Yield the volumes of a split of each folder; of its patients or blocks the 1st, the (1 + every)th, ...

    Raises
    ------
    ConfigurationError
        As :func:`training.cases.read_cases`.
    """
    for folder in folders:
        name = folder.resolve().name
        units: dict[str, int] = {}
        # the cases come first: they say what is wrong with an index
        pairs = zip(read_cases(folder, split), _index(folder, split), strict=True)
        for position, (case, (patient, exam, disease, is_series)) in enumerate(pairs):
            unit = patient if is_series else f"block {position // BLOCK}"
            if units.setdefault(unit, len(units)) % every == 0:
                title = f"{patient} {exam}".strip() if is_series else Path(patient).stem
                yield Volume(case, title, name, unit, disease, is_series)
