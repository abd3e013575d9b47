"""The frames of sound files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dicom_node.series.headers import Frame, frames_of, read_header


def read_frames(paths: Iterable[Path]) -> list[Frame]:
    return [frame for path in paths for frame in frames_of(path, read_header(path))]
