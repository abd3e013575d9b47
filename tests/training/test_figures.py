"""Figures of merit against scikit-learn and against cases counted by hand; bootstrap; thresholds."""

from functools import partial

import numpy as np
import pytest
from sklearn import metrics

from training.bootstrap import drawn_weights, with_intervals
from training.figures import (
    VolumeAnswers,
    detector_figures,
    segmenter_figures,
    series_figures,
    slices_of,
    weighted_median,
)
from training.thresholds import detector_threshold, segmenter_threshold

judge_slices = partial(detector_figures, threshold=0.5)


@pytest.fixture
def slices():
    random = np.random.default_rng(1)
    truth = random.random(300) < 0.4
    probability = np.clip(0.3 * truth + random.normal(0.35, 0.2, 300), 0, 1).round(2).astype(np.float32)
    return truth, probability


def volume(truth, probability=None, pixels=None, unit="p", **place):
    """Pixels are (overlap, only answer, only truth, neither) of each slice."""
    truth = np.array(truth, bool)
    probability = truth if probability is None else probability
    pixels = np.zeros((len(truth), 4)) if pixels is None else pixels
    return VolumeAnswers(
        unit, truth, np.array(probability, np.float32), np.array(pixels, np.int64), unit=unit, **place
    )


def cohort(count=12, seed=0):
    random = np.random.default_rng(seed)
    volumes = []
    for number in range(count):
        truth = random.random(20) < 0.5
        probability = np.clip(truth * 0.3 + random.random(20) * 0.7, 0, 1).round(1)
        pixels = random.integers(0, 50, (20, 4)) * [[1, 1, 1, 10]]
        volumes.append(volume(truth, probability, pixels, unit=f"p{number}"))
    return volumes


def once(judge, *volumes, **arguments):
    """Figures of the volumes themselves."""
    figures = judge(volumes, np.ones((1, len(volumes))), **arguments)
    return {name: float(values[0]) for name, values in figures.items()}


def test_detector_figures_are_those_of_scikit_learn(slices):
    truth, probability = slices
    figures = once(judge_slices, volume(truth, probability))
    positive = probability >= 0.5
    assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(truth, positive))
    assert figures["precision"] == pytest.approx(metrics.precision_score(truth, positive))
    assert figures["recall"] == pytest.approx(metrics.recall_score(truth, positive))
    assert figures["specificity"] == pytest.approx(metrics.recall_score(~truth, ~positive))
    assert figures["f1"] == pytest.approx(metrics.f1_score(truth, positive))
    assert figures["auc"] == pytest.approx(metrics.roc_auc_score(truth, probability))


def test_auc_compares_slices_of_the_same_data_set_only():
    own = volume([1, 0, 1, 0], [0.4, 0.1, 0.2, 0.3], data="both kinds")
    other = volume([1, 1], [0.0, 0.05], data="tumour only")
    assert once(judge_slices, own, other)["auc"] == pytest.approx(3 / 4)


def test_the_recall_of_the_first_and_last_slices_of_a_lesion_is_counted_by_volume():
    one = volume([0, 1, 1, 1, 0], [0.1, 0.2, 0.9, 0.8, 0.1])  # ends: 0.2 and 0.8
    other = volume([1, 1, 0, 1], [0.9, 0.9, 0.1, 0.1])  # ends: all three
    alone = volume([1], [0.9], is_series=False)  # no series, no ends
    figures = once(judge_slices, one, other, alone)
    assert figures["recall_ends"] == pytest.approx(3 / 5)
    assert figures["recall"] == pytest.approx(5 / 7)


def test_calibration_error_is_zero_when_frequencies_match_and_large_when_not():
    probability = np.full(100, 0.25)
    assert once(judge_slices, volume(np.arange(100) < 25, probability))["ece"] == pytest.approx(0)
    assert once(judge_slices, volume(np.arange(100) < 95, probability))["ece"] == pytest.approx(0.7)


def test_dice_is_pooled_over_pixels_and_averaged_over_patients_and_slices_with_any():
    volumes = [
        volume([1, 1], pixels=[(6, 0, 2, 42), (2, 2, 0, 46)]),
        volume([1], pixels=[(0, 0, 4, 96)]),
        volume([0], pixels=[(0, 0, 0, 100)]),
        volume([0], pixels=[(0, 1, 0, 99)]),
    ]
    figures = once(segmenter_figures, *volumes)
    assert figures["dice_pooled"] == pytest.approx(16 / 25)
    assert figures["iou_pooled"] == pytest.approx(8 / 17)
    assert figures["dice_patient_mean"] == pytest.approx((0.8 + 0 + 0) / 3)
    assert figures["dice_patient_median"] == 0
    assert figures["dice_slice_mean"] == pytest.approx((12 / 14 + 4 / 6 + 0) / 3)
    assert figures["dice_slice_median"] == pytest.approx(4 / 6)
    assert figures["pixel_accuracy"] == pytest.approx(391 / 400)


def test_a_series_counts_as_found_only_by_a_slice_that_shows_tumour():
    volumes = [
        volume([0, 1, 1], [0.1, 0.9, 0.2]),
        volume([0, 1], [0.9, 0.1]),
        volume([0, 0], [0.9, 0.9]),
        volume([1], [0.9], is_series=False),
    ]
    figures = once(series_figures, *volumes, threshold=0.5)
    assert figures["sensitivity"] == pytest.approx(1 / 2)
    assert figures["false_slices_per_series"] == pytest.approx(1.0)


def test_single_slices_say_nothing_of_patients_or_series():
    volumes = [volume([1], [0.9], [(5, 1, 1, 93)], unit=f"block {n}", is_series=False) for n in range(3)]
    table = with_intervals(volumes, segmenter_figures)
    assert table["dice_patient_mean"] is table["dice_patient_median_ci95"] is None
    assert table["dice_slice_mean"] == pytest.approx(10 / 12)
    assert set(with_intervals(volumes, partial(series_figures, threshold=0.5)).values()) == {None}


def test_slices_that_all_have_tumour_have_no_auc_and_no_specificity():
    table = with_intervals([volume([1, 1], [0.9, 0.2])], judge_slices)
    assert table["auc"] is table["auc_ci95"] is table["specificity"] is None
    assert table["recall"] == pytest.approx(0.5)


def test_what_is_not_defined_is_none():
    table = with_intervals([volume([0, 1], [0.1, 0.2])], judge_slices, repeats=10)
    assert table["precision"] is None
    assert table["precision_ci95"] is None
    assert table["recall"] == 0


def test_every_draw_gives_the_figures_of_the_volumes_drawn():
    volumes = cohort()
    weights = drawn_weights(volumes, repeats=20)
    for judge in (judge_slices, segmenter_figures, partial(series_figures, threshold=0.5)):
        figures = judge(volumes, weights)
        for draw, counts in enumerate(weights):
            drawn = [v for v, count in zip(volumes, counts, strict=True) for _ in range(int(count))]
            for name, value in once(judge, *drawn).items():
                assert figures[name][draw] == pytest.approx(value), name


def test_a_patient_is_drawn_with_all_its_exams_and_each_data_set_keeps_its_size():
    volumes = [
        *(volume([1], unit=f"p{n // 2}", data="two exams each") for n in range(8)),
        *(volume([1], unit=f"p{n}", data="one exam each") for n in range(5)),
    ]
    weights = drawn_weights(volumes, repeats=50)
    assert (weights[0] == 1).all()
    assert (weights[:, 0:8:2] == weights[:, 1:8:2]).all()
    assert (weights[:, :8].sum(axis=1) == 8).all()
    assert (weights[:, 8:].sum(axis=1) == 5).all()
    assert len(np.unique(weights, axis=0)) > 40


def test_intervals_hold_their_figure_and_repeat():
    first, again = (with_intervals(cohort(), judge_slices, repeats=200) for _ in range(2))
    assert first == again
    low, high = first["auc_ci95"]
    assert low < first["auc"] < high


def test_an_interval_over_patients_is_wider_than_one_over_slices_that_resemble_each_other():
    patients = [volume([1] * 10, [0.9 if n % 2 else 0.1] * 10, unit=f"p{n}") for n in range(10)]
    single = [
        volume([1], [v.probability[0]], unit=f"{n} {k}") for n, v in enumerate(patients) for k in range(10)
    ]
    width = [np.diff(with_intervals(volumes, judge_slices)["recall_ci95"]) for volumes in (patients, single)]
    assert width[0] > 2 * width[1]


@pytest.mark.parametrize("seed", range(5))
def test_the_weighted_median_is_that_of_the_values_repeated(seed):
    random = np.random.default_rng(seed)
    values, weights = random.random(7), random.integers(0, 3, (10, 7)).astype(float)
    for counts, median in zip(weights, weighted_median(values, weights), strict=True):
        assert median == pytest.approx(np.median(np.repeat(values, counts.astype(int))))


def test_slices_know_their_volume():
    truth, probability, number = slices_of([volume([1, 0], [0.5, 0.25]), volume([1], [0.75])])
    assert truth.tolist() == [True, False, True]
    assert probability.tolist() == [0.5, 0.25, 0.75]
    assert number.tolist() == [0, 0, 1]


def test_the_detector_threshold_keeps_the_wanted_sensitivity(slices):
    truth, probability = slices
    threshold = detector_threshold(truth, probability, 0.95)
    assert (probability[truth] >= threshold).mean() >= 0.95
    best = max(
        metrics.f1_score(truth, probability >= t)
        for t in np.unique(probability)
        if (probability[truth] >= t).mean() >= 0.95
    )
    assert metrics.f1_score(truth, probability >= threshold) == pytest.approx(best)


def test_the_segmenter_threshold_is_the_highest_that_costs_hardly_any_dice():
    mask = np.zeros((100, 100), bool)
    mask[:50] = True
    probability = np.where(mask, 0.9, 0.1)
    probability[0, 0] = 0.72  # one of 5000 pixels is worth less than the rule gives
    probability[1, :60] = 0.82  # 60 are worth more
    assert segmenter_threshold([(mask, probability)])[0] == 0.8


def test_the_segmenter_threshold_lies_between_lesion_and_rest():
    mask = np.zeros((10, 10), bool)
    mask[2:5, 2:5] = True
    probability = np.where(mask, 0.45, 0.3)
    threshold, dice = segmenter_threshold([(mask, probability)])
    assert 0.3 < threshold <= 0.45
    assert dice == pytest.approx(1.0)
