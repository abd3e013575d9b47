"""Images to compare and calibrate with: read from what people have, in 0..1, or refused."""

import cv2
import numpy as np
import pytest

from converters.errors import ConversionError
from converters.images import MOST, squares_to_compare


def test_without_images_there_are_a_phantom_a_ramp_and_noise():
    squares = squares_to_compare(None, 48)
    assert squares.shape == (6, 48, 48)
    assert squares.dtype == np.float32
    assert squares.min() >= 0
    assert squares.max() <= 1


@pytest.mark.parametrize(("kind", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_folder_of_images_is_read_in_0_to_1_and_made_square(kind, white, tmp_path):
    image = np.zeros((40, 60), kind)
    image[10:30] = white
    (tmp_path / "below").mkdir()
    cv2.imwrite(str(tmp_path / "below" / "a.png"), image)
    squares = squares_to_compare(tmp_path, 60)
    assert squares.shape == (1, 60, 60)
    assert squares.max() == 1
    assert squares[0, 25:35].min() == 1
    assert squares[0, :10].max() == 0


@pytest.mark.parametrize("shape", [(3, 40, 40), (3, 40, 40, 1)])
def test_an_array_is_read_with_or_without_its_channel(shape, tmp_path):
    np.save(tmp_path / "a.npy", np.full(shape, 0.5))
    np.testing.assert_allclose(squares_to_compare(tmp_path / "a.npy", 40), 0.5)


def test_of_many_images_some_are_taken_from_all_of_them(tmp_path):
    ramp = np.linspace(0, 1, 500)[:, None, None] * np.ones((1, 32, 32))
    np.save(tmp_path / "a.npy", ramp)
    squares = squares_to_compare(tmp_path / "a.npy", 32)
    assert len(squares) == MOST
    assert (squares[0, 0, 0], squares[-1, 0, 0]) == (0, 1)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((40, 40)), r"shape \(40, 40\)"),
        (np.zeros((2, 40, 40, 3)), r"shape \(2, 40, 40, 3\)"),
        (np.full((1, 40, 40), 200.0), "in 200 to 200; give it in 0 to 1"),
        (np.array(["a"]), "no array of numbers"),
    ],
)
def test_an_array_of_something_else_is_refused(array, says, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ConversionError, match=says):
        squares_to_compare(tmp_path / "a.npy", 40)


def test_what_holds_no_images_is_named(tmp_path):
    with pytest.raises(ConversionError, match="there is no such folder or file"):
        squares_to_compare(tmp_path / "absent", 32)
    with pytest.raises(ConversionError, match="holds no image"):
        squares_to_compare(tmp_path, 32)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ConversionError, match="cannot be read as a grey image"):
        squares_to_compare(tmp_path, 32)
    with pytest.raises(ConversionError, match=r"neither a folder nor an .npy"):
        squares_to_compare(tmp_path / "a.png", 32)
