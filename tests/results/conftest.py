"""Shared by the tests of the results station: cases and results that are only read are made once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import copy

import pytest

from dicom_node.results.result_set import ResultSet
from tests.results.result_cases import Case, make_case, run


@pytest.fixture(scope="session")
def case() -> Case:
    """An axial series with two lesions; not to be altered."""
    return make_case()


@pytest.fixture(scope="session")
def result(case: Case, tmp_path_factory: pytest.TempPathFactory) -> ResultSet:
    """Its result; not to be altered."""
    return run(case, tmp_path_factory.mktemp("result"))


@pytest.fixture
def own_result(result: ResultSet, tmp_path: Path) -> ResultSet:
    """A copy of it, to be tampered with."""
    copies = [replace(made, path=Path(copy(made.path, tmp_path))) for made in result.objects]
    return replace(result, objects=tuple(copies))
