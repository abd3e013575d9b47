"""Settings without a file: which installed bundles become pipelines."""

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.workflow.defaults import default_settings
from tests.support.bundles import write_spot_bundle


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("DICOM_NODE_ANALYSIS__MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def as_alternative(bundle):
    path = bundle / "manifest.toml"
    path.write_text(path.read_text().replace("[input]", "alternative = true\n[input]", 1))


def test_each_bundle_but_the_alternatives_is_a_pipeline(models):
    write_spot_bundle(models / "flair")
    write_spot_bundle(models / "t1ce", contrasts=("T1CE",))
    as_alternative(write_spot_bundle(models / "another"))
    pipelines = default_settings().pipelines
    assert [(pipeline.name, pipeline.match.contrasts) for pipeline in pipelines] == [
        ("flair", ("FLAIR",)),
        ("t1ce", ("T1CE",)),
    ]


def test_alternatives_alone_are_no_installation(models):
    as_alternative(write_spot_bundle(models / "another"))
    with pytest.raises(ConfigurationError, match="holds no model bundle"):
        default_settings()
