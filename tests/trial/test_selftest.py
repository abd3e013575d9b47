"""The installation qualification: every bundle in use is examined with what it reads, or fails.

Covered: the shipped bundles pass; another contrast and plane; a contrast without a phantom; what a
site's pipeline demands besides. The stand-in bundle takes a bright scalp for lesions and must fail.
Not covered: a bundle that was altered (tests/analysis/test_bundle.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.settings import Analysis, Match, Pipeline, Settings
from dicom_node.trial.selftest import Check, qualify
from tests.support.bundles import write_spot_bundle


@pytest.fixture
def examined(tmp_path: Path) -> Callable[..., list[Check]]:
    """Qualify one stand-in bundle; the arguments are what it reads, and what its pipeline matches."""

    def examine(contrast: str, plane: str, **match: object) -> list[Check]:
        write_spot_bundle(tmp_path / "models" / "spot", contrasts=(contrast,), planes=(plane,))
        pipeline = Pipeline(name="one", bundle="spot", match=Match(contrasts=(contrast,), **match))
        return qualify(
            Settings(
                folder=tmp_path / "var",
                analysis=Analysis(models=tmp_path / "models", device="cpu"),
                pipelines=(pipeline,),
            )
        )

    return examine


def test_the_shipped_installation_passes() -> None:
    done = CliRunner().invoke(app, ["selftest"])
    assert done.exit_code == 0, done.output
    assert "installation passed" in done.stdout
    assert "FLAIR axial, lesion" in done.stdout


def test_a_bundle_is_examined_in_its_own_contrast_and_plane(examined: Callable[..., list[Check]]) -> None:
    proven, ill, *_, well = examined("T1CE", "SAGITTAL")
    assert proven.passed
    assert ill.what == "T1CE sagittal, lesion"
    assert well.what == "T1CE sagittal, healthy"
    for check in (ill, well):
        assert not check.passed
        assert check.detail.startswith("lesions found: ")


def test_a_contrast_without_a_phantom_fails_and_says_what_to_do(
    examined: Callable[..., list[Check]],
) -> None:
    proven, missing = examined("T2", "AXIAL")
    assert proven.passed
    assert not missing.passed
    assert missing.what == "T2 phantom"
    assert "there is none; examine the bundle with images of your own: dicom-node analyse" in missing.detail


def test_what_a_site_demands_of_a_series_spares_no_bundle_the_examination(
    examined: Callable[..., list[Check]],
) -> None:
    checks = examined("FLAIR", "AXIAL", series_description="^head$", minimum_slices=100)
    assert [check.what for check in checks if not check.what.endswith(("answers", "place", "volume"))] == [
        "FLAIR axial, lesion",
        "FLAIR axial, healthy",
    ]
    assert not any("not taken" in check.detail for check in checks)
