"""The figures in a bundle's card: between two marks, and written by a command only."""

from __future__ import annotations

import re
from pathlib import Path

from dicom_node.errors import ConfigurationError

CARD = "CARD.md"


def put_into_card(bundle_folder: Path, name: str, report: str) -> None:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` in the card by a report.

    The report's title and pictures are left out and its headings go one level down.

    Raises
    ------
    ConfigurationError
        When there is a card without these marks.
    """
    path = bundle_folder / CARD
    if not path.exists():
        return
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found_begin, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ConfigurationError(f"{path} has no lines {begin!r} and {end!r} between which figures can stand")
    lines = [line for line in report.splitlines()[1:] if not line.startswith("![")]
    body = re.sub(r"^#", "##", "\n".join(lines), flags=re.MULTILINE).strip()
    path.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")
