"""What a network is fed of a volume, and what becomes of its answers.

Not covered: the engine on a GPU.
"""

import numpy as np
import pytest
from scipy.special import expit, logit

from dicom_node.analysis.channels import in_channels
from dicom_node.analysis.detector import Detector
from dicom_node.analysis.manifest import Calibration, Network
from dicom_node.analysis.segmenter import Segmenter
from dicom_node.analysis.slice_model import calibrated

RAW = Calibration()
SQUARES = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((4, 32, 32), np.float32)


class MiddleOf:
    """An engine whose answer is what the network sees in the middle of a channel."""

    def __init__(self, channel: int, calibration: Calibration = RAW) -> None:
        self.network = Network(
            file="none",
            sha256="0" * 64,
            input_name="image",
            output_name="probability",
            channels="neighbours",
            size=32,
            opset=17,
            calibration=calibration,
            threshold=0.5,
            threshold_rule="none",
        )
        self._channel = channel

    def run(self, squares, wanted=None):
        return in_channels(squares, "neighbours", "NHWC", wanted)[..., self._channel]


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ("slice", [[0], [1], [2], [3]]),
        ("repeated", [[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3]]),
        ("neighbours", [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]),
    ],
)
def test_channels_are_the_slice_or_its_neighbours(channels, expected):
    last = in_channels(SQUARES, channels, "NHWC")
    first = in_channels(SQUARES, channels, "NCHW")
    assert last.shape == (4, 32, 32, len(expected[0]))
    np.testing.assert_array_equal(last[:, 5, 6], expected)
    np.testing.assert_array_equal(first, np.moveaxis(last, 3, 1))


def test_wanted_slices_keep_the_neighbours_that_were_not_wanted():
    fed = in_channels(SQUARES, "neighbours", "NHWC", np.array([2]))
    np.testing.assert_array_equal(fed[:, 0, 0], [[1, 2, 3]])


@pytest.mark.parametrize(("channel", "expected"), [(0, [0, 1]), (1, [1, 2]), (2, [2, 3])])
def test_a_segmenter_answers_wanted_slices_by_their_true_neighbours(channel, expected):
    wanted = np.array([False, True, True, False])
    answer = Segmenter(MiddleOf(channel)).probabilities(SQUARES, 1.0, 1.0, wanted)
    np.testing.assert_array_equal(answer[:, 3, 3], [0, *expected, 0])


def test_a_segmenter_of_which_nothing_is_wanted_answers_nothing():
    answer = Segmenter(MiddleOf(1)).probabilities(SQUARES, 1.0, 1.0, np.zeros(4, bool))
    np.testing.assert_array_equal(answer, np.zeros_like(SQUARES))


def test_a_calibration_is_platts_scaling_and_keeps_the_order():
    raw = np.linspace(0, 1, 101, dtype=np.float32)
    answer = calibrated(raw, Calibration(slope=0.5, offset=-1.0))
    np.testing.assert_allclose(answer[1:-1], expit(0.5 * logit(raw[1:-1]) - 1.0), atol=1e-6)
    assert (np.diff(answer) > 0).all()
    assert np.isfinite(answer).all()


def test_without_a_calibration_probabilities_stay_as_they_are():
    raw = np.array([0.0, 0.3, 1.0], np.float32)
    assert calibrated(raw, Calibration()) is raw


def test_both_models_answer_calibrated_probabilities():
    calibration = Calibration(slope=2.0, offset=0.5)
    volume = SQUARES / 4 + 0.05
    expected = calibrated(volume[:, 0, 0], calibration)
    engine = MiddleOf(1, calibration)
    segmented = Segmenter(engine).probabilities(volume, 1.0, 1.0)
    np.testing.assert_allclose(segmented[:, 9, 9], expected, rtol=1e-6)
    detected = Detector(engine).probabilities(volume, 1.0, 1.0)
    np.testing.assert_allclose(detected[:, 9, 9], expected, rtol=1e-6)
