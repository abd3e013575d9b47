"""Files that are damaged at random, on the way that uploads take: archive, kind, header, selection, pixels.

Covers: damaged archives, pictures and DICOM files in each encoding, headers that lie about what the pixels
are, elements in no order with lengths that lie and sequences in sequences; each is taken or refused in
the node's own words, in bounded time and memory, and a decoder that breaks is not this process. Not
covered: what is refused and why, case by case (tests/web/test_uploads.py, tests/series); the HTTP around
it (tests/fuzz/test_description.py).
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from dicom_node.errors import NodeError, SeriesRefused
from dicom_node.series.find import find_series
from dicom_node.series.headers import Frame, frames_of, read_header
from dicom_node.series.read import read_volume
from dicom_node.series.selection import select
from dicom_node.series.volume import Plane
from dicom_node.settings import Match, Pipeline, Web
from dicom_node.web.patients import read_patient
from dicom_node.web.stored import read_shown
from dicom_node.web.trial_input import as_one_slice, read_picture
from dicom_node.web.uploads import Kind, remove, take
from dicom_node.workflow.stations import Selected
from tests.fuzz.budget import tries, within_bounds
from tests.fuzz.damage import (
    NATIVE_SERIES,
    SYNTAXES,
    archive,
    damaged,
    data_set,
    dicom_file,
    lying,
    pictures,
    real_files,
    small_series,
)

pytestmark = [
    pytest.mark.slow,
    # pydicom tells what it finds damaged
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
LIMITS = Web(maximum_upload_mb=8, maximum_files=50)
TAKES_ALL = Pipeline(name="all", bundle="all", match=Match(contrasts=("FLAIR", "T1", "T2"), minimum_slices=1))


def a_damaged_archive(rng: Random) -> list[bytes]:
    """Damaged itself, which its checksums nearly always tell, or around damaged files."""
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    members = [("a/b.png", pictures()[0]), ("c.dcm", small_series()[0][0]), ("d.zip", b"PK\3\4")]
    if rng.random() < 0.3:
        return [archive([(name, damaged(data, rng, most=2)) for name, data in members], method)]
    return [damaged(archive(members, method), rng, most=2)]


def a_damaged_picture(rng: Random) -> list[bytes]:
    return [damaged(rng.choice(pictures()), rng, most=3)]


def one_damaged_image(rng: Random) -> list[bytes]:
    if rng.random() < 0.3:
        return [dicom_file(data_set(rng), rng.choice(SYNTAXES))]
    return [damaged(rng.choice(real_files()), rng)]


def a_damaged_series(rng: Random) -> list[bytes]:
    """One that the node analyses; the compressed ones are dear, as each needs a process."""
    whole = list(small_series()[0 if rng.random() < 0.7 else NATIVE_SERIES[1]])
    if rng.random() < 0.1:
        whole = list(rng.choice(small_series()))
    damage: Callable[[bytes, Random], bytes] = rng.choice((damaged, lying, lying))
    seed = rng.random()
    for index in rng.sample(range(len(whole)), rng.choice((1, len(whole)))):
        whole[index] = damage(whole[index], Random(seed))
    return whole


def go_the_way(files: list[bytes], folder: Path, ended: Counter[str]) -> None:
    """Take files and look at them as the page does."""
    taken = take([("a file", io.BytesIO(data)) for data in files], folder, LIMITS)
    for file in taken:
        if file.kind in (Kind.PNG, Kind.JPEG):
            read_picture(file.path)
            ended["picture"] += 1
    for paths in find_series(folder).values():
        read_patient(paths[0])
        look_at(paths, ended)
        try:
            read_shown(paths, None)
            ended["shown"] += 1
        except SeriesRefused:
            ended["not shown"] += 1


def look_at(paths: list[Path], ended: Counter[str]) -> None:
    frames: list[Frame] = []
    try:
        for path in paths:
            frames += frames_of(path, read_header(path))
        decided = as_one_slice(Selected(select(frames, [TAKES_ALL], {"all": tuple(Plane)}), tuple(frames)))
        if decided.selection.stack is None:
            ended["not selected"] += 1
            return
        read_volume(decided.selection.stack, decided.selection.contrast)
        ended["read"] += 1
    except SeriesRefused:
        ended["refused"] += 1


@pytest.mark.parametrize(
    ("make", "count", "reached"),
    [
        (a_damaged_archive, 200, {"picture": 10, "shown": 10}),
        (a_damaged_picture, 300, {"picture": 50}),
        (one_damaged_image, 120, {"not selected": 20}),
        (a_damaged_series, 100, {"read": 10, "refused": 10, "not selected": 5}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_whatever_is_sent_is_taken_or_refused_in_words(
    make: Callable[[Random], list[bytes]], count: int, reached: dict[str, int], tmp_path: Path
) -> None:
    ended: Counter[str] = Counter()
    for number, rng in tries(count):
        files = make(rng)
        folder = tmp_path / str(number)
        folder.mkdir()
        with within_bounds(number):
            try:
                go_the_way(files, folder, ended)
            except NodeError:
                ended["not taken"] += 1
        remove(folder)
    assert all(ended[way] >= least for way, least in reached.items()), ended
