"""A real, tiny training: it learns, keeps its best network, and goes on after an interruption.

Covers recipes, the loop with either backend of Keras, the networks' shapes, the choice of a threshold
at the end and the average of runs. Not covered: a GPU; how good the shipped networks are, which
``python -m training evaluate`` measures.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from dicom_node.errors import ConfigurationError
from training.losses import PooledDice, dice_and_cross_entropy_loss, dice_loss
from training.networks.efficientnet import efficientnet_detector, efficientnet_unet
from training.networks.resnet50 import resnet50_unet
from training.networks.thesis import thesis_detector, thesis_unet
from training.networks.transfer import take_over
from training.recipe import read_recipe
from training.run import run_average, run_training

UNET = """
task = "segmenter"
[network]
name = "thesis_unet"
arguments = {base = 4}
[data]
sources = [{ folder = "small" }]
size = 32
[fit]
loss = "dice_and_cross_entropy"
epochs = 6
batch = 2
learning_rate = 1e-2
seed = 3
[augment]
flip = 0.5
"""

DETECTOR = """
task = "detector"
[network]
name = "thesis_detector"
arguments = {filters = [4, 4, 4, 4], dense = [8, 8, 8], dropout = 0.1}
[data]
sources = [{ folder = "small" }]
size = 32
phantom = {heads = 1, share = 0.1}
[fit]
loss = "cross_entropy"
epochs = 2
batch = 8
localisation = 2.0
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def logged(run: Path, column: str) -> list[float]:
    with (run / "log.csv").open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def unet_run(small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unet")
    run_training(written(folder, UNET), folder / "run", small_data)
    return folder / "run"


@pytest.mark.slow
def test_a_training_lowers_its_loss_and_leaves_what_it_promises(unet_run):
    losses = logged(unet_run, "loss")
    assert len(losses) == 6
    assert losses[-1] < 0.9 * losses[0]
    names = {path.name for path in unet_run.iterdir()}
    assert names == {"recipe.json", "log.csv", "last.keras", "best.keras", "curves.png", "threshold.json"}
    found = json.loads((unet_run / "threshold.json").read_text())
    assert 0 < found["threshold"] < 1
    assert "validation" in found["threshold_rule"]


@pytest.mark.slow
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(unet_run, small_data, tmp_path):
    run, recipe = tmp_path / "run", written(tmp_path, UNET)
    run_training(recipe, run, small_data, until=2)
    assert len(logged(run, "loss")) == 2
    run_training(recipe, run, small_data)
    np.testing.assert_allclose(logged(run, "loss"), logged(unet_run, "loss"), rtol=1e-2)


@pytest.mark.slow
def test_a_finished_training_is_not_trained_again(unet_run, small_data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(unet_run, run)
    before = (run / "last.keras").read_bytes()
    run_training(written(tmp_path, UNET), run, small_data)
    assert (run / "last.keras").read_bytes() == before


@pytest.mark.slow
def test_a_run_of_another_recipe_is_not_overwritten(unet_run, small_data, tmp_path):
    other = written(tmp_path, UNET.replace("seed = 3", "seed = 4"))
    with pytest.raises(ConfigurationError, match="run of another recipe"):
        run_training(other, unet_run, small_data)


@pytest.mark.slow
def test_a_detector_trains_with_phantoms_and_a_second_answer_that_it_loses(small_data, tmp_path):
    run_training(written(tmp_path, DETECTOR), tmp_path / "run", small_data)
    found = json.loads((tmp_path / "run" / "threshold.json").read_text())
    assert "F1" in found["threshold_rule"]
    best = keras.saving.load_model(tmp_path / "run" / "best.keras", compile=False)
    assert best.output_shape == (None, 1)


@pytest.mark.slow
def test_jax_trains_too_and_tensorflow_goes_on_with_its_network(small_data, tmp_path):
    """As on a GPU; the conversion needs TensorFlow."""
    run, recipe = tmp_path / "run", written(tmp_path, DETECTOR)
    command = [sys.executable, "-m", "training", "train", recipe, "--data", small_data, "--run", run]
    jax = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    subprocess.run([*command, "--until", "1"], env=jax, check=True)
    assert len(logged(run, "loss")) == 1
    run_training(recipe, run, small_data)
    first, second = logged(run, "loss")
    assert second < first


@pytest.fixture
def two_runs(unet_run, small_data, tmp_path) -> list[Path]:
    """A U-Net's run, and one that goes on from it."""
    start = f"{{base = 4}}\nstart = {str(unet_run / 'best.keras')!r}"
    once = UNET.replace("epochs = 6", "epochs = 1").replace("{base = 4}", start)
    run_training(written(tmp_path, once), tmp_path / "second", small_data)
    return [unet_run, tmp_path / "second"]


@pytest.mark.slow
def test_the_average_of_two_runs_lies_between_them_and_has_its_own_threshold(two_runs, small_data, tmp_path):
    run_average(two_runs, tmp_path / "mean", small_data)
    kernels = [
        keras.saving.load_model(run / "best.keras", compile=False).get_weights()[0]
        for run in (*two_runs, tmp_path / "mean")
    ]
    assert not np.allclose(kernels[0], kernels[1])
    np.testing.assert_allclose(kernels[2], (kernels[0] + kernels[1]) / 2, atol=1e-6)
    assert 0 < json.loads((tmp_path / "mean" / "threshold.json").read_text())["threshold"] < 1


@pytest.mark.parametrize(
    ("change", "network", "reason"),
    [
        (lambda recipe: recipe.replace("size = 32", "size = 64"), 4, "differ in task, size"),
        (lambda recipe: recipe, 2, "has another network"),
        (lambda recipe: recipe, None, r"has no best\.keras"),
        (lambda recipe: None, 4, "is no run"),
    ],
)
def test_what_has_no_average_is_named(small_data, tmp_path, change, network, reason):
    for name, text, base in (("a", UNET, 4), ("b", change(UNET), network)):
        (tmp_path / name).mkdir()
        if text is not None:
            stored = read_recipe(written(tmp_path, text)).model_dump_json()
            (tmp_path / name / "recipe.json").write_text(stored)
        if base is not None:
            thesis_unet(32, base=base).save(tmp_path / name / "best.keras")
    with pytest.raises(ConfigurationError, match=reason):
        run_average([tmp_path / "a", tmp_path / "b"], tmp_path / "mean", small_data)
    assert not (tmp_path / "mean").exists()


@pytest.mark.slow
def test_a_detector_starts_from_a_segmenter_and_sees_neighbours(small_data, tmp_path):
    efficientnet_unet(size=32, channels=3).save(tmp_path / "segmenter.keras")
    text = DETECTOR.replace("thesis_detector", "efficientnet_detector").replace("epochs = 2", "epochs = 1")
    text = re.sub(r"arguments = .*", f"start = {str(tmp_path / 'segmenter.keras')!r}", text)
    run_training(written(tmp_path, text.replace("[fit]", "context = 1\n[fit]")), tmp_path / "run", small_data)
    best = keras.saving.load_model(tmp_path / "run" / "best.keras", compile=False)
    assert (best.input_shape, best.output_shape) == ((None, 32, 32, 3), (None, 1))
    assert json.loads((tmp_path / "run" / "threshold.json").read_text())["channels"] == "neighbours"


@pytest.mark.parametrize(
    ("start", "reason"), [("absent.keras", "there is no"), ("detector.keras", "no layer of .* fits")]
)
def test_a_start_that_cannot_be_had_is_named(small_data, tmp_path, monkeypatch, start, reason):
    thesis_detector(32, filters=(2, 2, 2, 2), dense=(2,)).save(tmp_path / "detector.keras")
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, UNET.replace("{base = 4}", f"{{base = 4}}\nstart = {start!r}"))
    with pytest.raises(ConfigurationError, match=reason):
        run_training(path, tmp_path / "run", small_data)


def test_a_unet_carries_over_to_another_size():
    unet, larger = thesis_unet(32, base=2), thesis_unet(64, base=2)
    assert take_over(unet, larger) == len([layer for layer in unet.layers if layer.weights])
    square = np.random.default_rng(0).random((1, 32, 32, 1), dtype=np.float32)
    again = thesis_unet(32, base=2)
    again.set_weights(larger.get_weights())
    np.testing.assert_allclose(again(square), unet(square), atol=1e-6)


def test_a_segmenter_is_not_asked_where_the_tumour_is_a_second_time(tmp_path):
    path = written(tmp_path, UNET.replace("seed = 3", "localisation = 1.0"))
    with pytest.raises(ConfigurationError, match=r"fit\.localisation is for a detector"):
        read_recipe(path)


def test_an_unknown_key_of_a_recipe_is_named(tmp_path):
    path = written(tmp_path, UNET.replace("flip", "flipp"))
    with pytest.raises(ConfigurationError, match=r"augment\.flipp: Extra inputs"):
        read_recipe(path)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no recipe .*absent\.toml"):
        read_recipe(tmp_path / "absent.toml")


@pytest.mark.parametrize("path", sorted(Path("training/recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_recipes_are_valid(path):
    assert read_recipe(path).fit.epochs > 0


def test_the_networks_have_the_sizes_that_their_docstrings_name():
    assert thesis_detector().count_params() == pytest.approx(2.2e6, rel=0.02)
    assert efficientnet_unet().count_params() == pytest.approx(3.6e6, rel=0.01)
    assert efficientnet_detector().count_params() == pytest.approx(3.5e6, rel=0.01)
    assert thesis_unet().count_params() == pytest.approx(1.95e6, rel=0.01)
    assert resnet50_unet().count_params() == pytest.approx(20.7e6, rel=0.01)
    assert resnet50_unet(64).output_shape == thesis_unet(64).output_shape == (None, 64, 64, 1)


def test_dice_loss_is_0_for_the_truth_and_near_1_for_its_opposite():
    truth = np.zeros((2, 16, 16, 1), np.float32)
    truth[0, 4:12, 4:12] = 1
    assert float(dice_loss(truth, keras.ops.convert_to_tensor(truth))) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(truth, keras.ops.convert_to_tensor(1 - truth))) > 0.99
    unsure = keras.ops.full(truth.shape, 0.5)
    both = float(dice_and_cross_entropy_loss(truth, unsure))
    assert both == pytest.approx(float(dice_loss(truth, unsure)) + np.log(2), rel=1e-5)


def test_pooled_dice_counts_over_all_batches():
    metric = PooledDice()
    truth = np.zeros((1, 4, 4, 1), np.float32)
    truth[0, 0] = 1
    metric.update_state(truth, truth)
    metric.update_state(truth, np.zeros_like(truth))
    assert float(metric.result()) == pytest.approx(2 * 4 / (8 + 4))
