"""``evaluate`` on a few real test patients gives the figures that it gave when a bundle was made.

A change of what is done to an image before or after the networks shows here. When a bundle is
replaced or added, or such a change is meant, measure anew (DICOM_NODE_DATA names the images):

    python -m tests.training.test_frozen_figures

and commit ``frozen_figures.json``. Not covered: whether the figures are good; cards have all of them.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

from dicom_node.analysis.manifest import read_manifest
from dicom_node.series.normalisation import normalise
from dicom_node.series.volume import Contrast
from training import evaluation
from training.evaluation import run_evaluation

MODELS = Path(__file__).parents[2] / "models"
BUNDLES = sorted(path.parent.name for path in MODELS.glob("*/manifest.toml"))
FROZEN = Path(__file__).with_name("frozen_figures.json")
REFRESH = "run: python -m tests.training.test_frozen_figures"

EVERY = 5  # patients, of which one is taken
EVERY_OF_ALTERNATIVES = 16
SETS = {Contrast.FLAIR: ("lgg_flair",), Contrast.T1CE: ("cheng_t1ce", "btp_t1post")}
FIGURES = {
    "detector": ("auc", "ece", "recall", "precision"),
    "segmenter": ("dice_pooled", "dice_patient_mean", "dice_slice_mean", "recall", "precision"),
}
# other processors round otherwise, which may move a few pixels of some ten thousand
TOLERANCE = 5e-4


def measured(data, bundle, out):
    """Evaluate a bundle on every nth test patient of the data sets of its contrast."""
    manifest = read_manifest(MODELS / bundle)
    (contrast,) = manifest.contrasts
    folders = [data / name for name in SETS[contrast]]
    every = EVERY_OF_ALTERNATIVES if manifest.alternative else EVERY
    metrics = run_evaluation(MODELS / bundle, folders, "test", out, every=every)
    figures = {
        f"{part} {name}": round(metrics[part][name], 6) for part, names in FIGURES.items() for name in names
    }
    return {"weights_sha256": metrics["bundle"]["weights_sha256"], "slices": metrics["slices"], **figures}


def frozen(bundle):
    expected = json.loads(FROZEN.read_text())
    assert bundle in expected, f"{bundle} is not in {FROZEN.name}; {REFRESH}"
    return expected[bundle]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_bundle_has_the_figures_that_it_had(data, bundle, tmp_path):
    expected, found = frozen(bundle), measured(data, bundle, tmp_path)
    assert found["weights_sha256"] == expected["weights_sha256"], f"{bundle} was replaced; {REFRESH}"
    assert found == pytest.approx(expected, abs=TOLERANCE), f"if this is meant, {REFRESH}"


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_slightly_different_normalisation_is_noticed(data, tmp_path, monkeypatch):
    def changed(voxels, rule):
        return normalise(voxels, rule.model_copy(update={"upper": rule.upper - 0.5}))

    monkeypatch.setattr(evaluation, "normalise", changed)
    bundle = "flair-glioma-thesis"  # the quickest
    expected, found = frozen(bundle), measured(data, bundle, tmp_path)
    figures = [name for name in found if " " in name]
    assert any(abs(found[name] - expected[name]) > TOLERANCE for name in figures)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        images = Path(os.environ["DICOM_NODE_DATA"])
        expected = {bundle: measured(images, bundle, Path(folder)) for bundle in BUNDLES}
    FROZEN.write_text(json.dumps(expected, indent=2) + "\n")
    sys.stdout.write(FROZEN.read_text())
