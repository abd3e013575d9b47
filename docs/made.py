"""What the scripts beside this one make of the code: tables, put between the marks of a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

HERE = Path(__file__).parent


def fill(page: str, parts: Mapping[str, str]) -> str:
    """Replace what stands between the marks of each part."""
    for name, text in parts.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        page, found = re.subn(
            pattern, lambda marks, text=text: f"{marks[1]}{text}{marks[2]}", page, flags=re.DOTALL
        )
        if found != 1:
            raise ValueError(f"the page has {found} times the marks of {name!r}; wanted once")
    return page


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Lay out a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(pages: Mapping[Path, str]) -> None:
    """Bring pages up to date."""
    for path, text in pages.items():
        path.write_text(text)
