"""Folders of a node, without the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Callable[..., Shelf]:
    shelves: list[Shelf] = []

    def make(commitment: str = "off", **rules: float) -> Shelf:
        shelves.append(Shelf(tmp_path / f"var{len(shelves)}", rules, commitment))
        return shelves[-1]

    yield make
    for each in shelves:
        each.ledger.close()
