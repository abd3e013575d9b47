"""Figures of merit against scikit-learn and against cases counted by hand; thresholds."""

import numpy as np
import pytest
from sklearn import metrics

from training.figures import (
    PatientAnswers,
    area_under_roc,
    calibration_error,
    detector_figures,
    segmenter_figures,
    series_figures,
    with_intervals,
)
from training.thresholds import detector_threshold, segmenter_threshold


@pytest.fixture
def slices():
    random = np.random.default_rng(1)
    truth = random.random(300) < 0.4
    probability = np.clip(0.3 * truth + random.normal(0.35, 0.2, 300), 0, 1).round(2).astype(np.float32)
    return truth, probability


def patient(truth, probability, **pixels):
    return PatientAnswers("p", np.array(truth, bool), np.array(probability, np.float32), **pixels)


def test_detector_figures_are_those_of_scikit_learn(slices):
    truth, probability = slices
    figures = detector_figures([patient(truth, probability)], 0.5)
    positive = probability >= 0.5
    assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(truth, positive))
    assert figures["precision"] == pytest.approx(metrics.precision_score(truth, positive))
    assert figures["recall"] == pytest.approx(metrics.recall_score(truth, positive))
    assert figures["f1"] == pytest.approx(metrics.f1_score(truth, positive))
    assert area_under_roc(truth, probability) == pytest.approx(metrics.roc_auc_score(truth, probability))


def test_the_recall_of_the_first_and_last_slices_of_a_lesion_is_counted_by_patient():
    one = patient([0, 1, 1, 1, 0], [0.1, 0.2, 0.9, 0.8, 0.1])  # ends: 0.2 and 0.8
    other = patient([1, 1, 0, 1], [0.9, 0.9, 0.1, 0.1])  # ends: all three
    figures = detector_figures([one, other], 0.5)
    assert figures["recall_ends"] == pytest.approx(3 / 5)
    assert figures["recall"] == pytest.approx(4 / 6)


def test_calibration_error_is_zero_when_frequencies_match_and_large_when_not():
    probability = np.full(100, 0.25)
    assert calibration_error(np.arange(100) < 25, probability) == pytest.approx(0)
    assert calibration_error(np.arange(100) < 95, probability) == pytest.approx(0.7)


def test_dice_is_pooled_over_pixels_and_averaged_over_patients_with_any():
    patients = [
        patient([1], [1], overlap=8, only_answer=2, only_truth=2, neither=88),
        patient([1], [1], overlap=0, only_answer=0, only_truth=4, neither=96),
        patient([0], [0], neither=100),
    ]
    figures = segmenter_figures(patients)
    assert figures["dice_pooled"] == pytest.approx(16 / 24)
    assert figures["iou_pooled"] == pytest.approx(8 / 16)
    assert figures["dice_patient_mean"] == pytest.approx(0.4)
    assert figures["pixel_accuracy"] == pytest.approx(292 / 300)


def test_a_series_counts_as_found_only_by_a_slice_that_shows_tumour():
    patients = [
        patient([0, 1, 1], [0.1, 0.9, 0.2]),
        patient([0, 1], [0.9, 0.1]),
        patient([0, 0], [0.9, 0.9]),
    ]
    figures = series_figures(patients, 0.5)
    assert figures["sensitivity"] == pytest.approx(1 / 2)
    assert figures["false_slices_per_series"] == pytest.approx(1.0)


def test_intervals_hold_their_figure_and_repeat():
    random = np.random.default_rng(0)
    patients = []
    for _ in range(12):
        truth = random.random(20) < 0.5
        patients.append(patient(truth, np.clip(truth * 0.4 + random.random(20) * 0.6, 0, 1)))
    first = with_intervals(patients, lambda drawn: detector_figures(drawn, 0.5), repeats=200)
    again = with_intervals(patients, lambda drawn: detector_figures(drawn, 0.5), repeats=200)
    assert first == again
    low, high = first["auc_ci95"]
    assert low < first["auc"] < high


def test_what_is_not_defined_is_none():
    patients = [patient([0, 1], [0.1, 0.2])]
    table = with_intervals(patients, lambda drawn: detector_figures(drawn, 0.5), repeats=10)
    assert table["precision"] is None
    assert table["precision_ci95"] is None
    assert table["recall"] == 0


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


def test_the_segmenter_threshold_is_the_one_with_the_best_dice():
    mask = np.zeros((10, 10), bool)
    mask[2:5, 2:5] = True
    probability = np.where(mask, 0.45, 0.3)
    threshold, dice = segmenter_threshold([(mask, probability)])
    assert 0.3 < threshold <= 0.45
    assert dice == pytest.approx(1.0)
