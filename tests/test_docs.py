"""Documents that state facts of the code are as the code is, and their links lead somewhere.

Not covered: prose.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_tables_of_the_conformance_statement_are_those_of_the_code() -> None:
    specification = importlib.util.spec_from_file_location("made", ROOT / "docs" / "make_conformance.py")
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    page = made.PAGE.read_text()
    assert page == made.render(page), "run: python docs/make_conformance.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
