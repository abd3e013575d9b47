"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import structlog

from dicom_node.phantom.mr_series import mr_series, write_series
from dicom_node.settings import Analysis, Match, Pipeline, Settings
from dicom_node.workflow.stations import Stations
from tests.support.bundles import write_spot_bundle
from tests.support.running import free_port
from tests.support.spot import Series, Spot

DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data"

hypothesis.settings.load_profile("ci")  # the same examples each time, and none too slow on a busy machine


@pytest.fixture(autouse=True)
def _unconfigured_log() -> None:
    """Log as at the start of Python, whatever a command in an earlier test has configured."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def data() -> Path:
    """Real images, named by DICOM_NODE_DATA."""
    folder = Path(os.environ.get("DICOM_NODE_DATA", DEFAULT_DATA))
    if not folder.is_dir():
        pytest.skip(f"real images: {folder} is not there (set DICOM_NODE_DATA)")
    return folder


@pytest.fixture(scope="session")
def spot_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the bundle ``spot``."""
    models = tmp_path_factory.mktemp("models")
    write_spot_bundle(models / "spot")
    return models


@pytest.fixture
def settings(spot_models: Path, tmp_path: Path) -> Settings:
    """One pipeline for FLAIR through the bundle ``spot``; no destination."""
    pipeline = Pipeline(name="flair", bundle="spot", match=Match(contrasts=("FLAIR",)))
    return Settings(
        folder=tmp_path / "var", analysis=Analysis(models=spot_models, device="cpu"), pipelines=(pipeline,)
    )


@pytest.fixture
def stations(settings: Settings) -> Stations:
    return Stations(settings)


@pytest.fixture
def port() -> int:
    """A port on which nothing listens."""
    return free_port()


@pytest.fixture
def series_of(tmp_path: Path) -> Series:
    """Write a spot as an MR series; further arguments are those of ``mr_series``."""

    def write(spot: Spot, name: str = "series", **arguments: object) -> list[Path]:
        return write_series(mr_series(spot.voxels, spot.affine, **arguments), tmp_path / name)

    return write
