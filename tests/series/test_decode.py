"""Pixel data that brings a decoder to its end, or asks for more memory than there is.

Covers: that a series with it is refused in words, and that this process lives. Not covered: sound pixel data
in each encoding (test_pixels).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.errors import SeriesRefused
from dicom_node.phantom.mr_series import Storage
from dicom_node.series.geometry import order_stack
from dicom_node.series.pixels import read_voxels
from tests.support.frames import read_frames
from tests.support.spot import affine_of, image_spot

SHAPE = (3, 20, 16)
SPOT = image_spot(affine_of(shape=SHAPE), shape=SHAPE, centre_mm=(3, 2, 2), radius_mm=6)


def change(paths: list[Path], **attributes: object) -> None:
    for path in paths:
        image = pydicom.dcmread(path)
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
        image.save_as(path)


def test_a_decoder_that_aborts_does_not_take_the_node_with_it(series_of: Callable) -> None:
    paths = series_of(SPOT, storage=Storage(transfer_syntax=JPEGLSLossless))
    change(paths, Rows=65535)  # GDCM ends the process where a stream has fewer rows
    with pytest.raises(SeriesRefused, match=r"0001\.dcm cannot be decoded"):
        read_voxels(order_stack(read_frames(paths)))


def test_a_stream_of_another_kind_is_refused_by_name(series_of: Callable) -> None:
    paths = series_of(SPOT, storage=Storage(transfer_syntax=JPEG2000Lossless))
    image = pydicom.dcmread(paths[1])
    image.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(40)])
    image.save_as(paths[1])
    with pytest.raises(SeriesRefused, match=r"0002\.dcm cannot be decoded"):
        read_voxels(order_stack(read_frames(paths)))


def test_a_matrix_that_no_head_has_is_refused_before_anything_is_decoded(series_of: Callable) -> None:
    paths = series_of(SPOT, storage=Storage(transfer_syntax=RLELossless))
    change(paths, Rows=65535, Columns=65535)
    with pytest.raises(SeriesRefused, match="3 x 65535 x 65535 voxels are more than a head has"):
        read_voxels(order_stack(read_frames(paths)))


@pytest.mark.parametrize("attribute", ["Rows", "Columns"])
@pytest.mark.parametrize("value", [None, 0])
def test_images_without_a_size_are_refused(attribute: str, value: int | None, series_of: Callable) -> None:
    paths = series_of(SPOT)
    change(paths, **{attribute: value})
    with pytest.raises(SeriesRefused, match="no Rows or no Columns"):
        order_stack(read_frames(paths))


def test_more_images_in_a_file_than_its_class_has_are_refused(series_of: Callable) -> None:
    paths = series_of(SPOT)
    image = pydicom.dcmread(paths[0])
    image.NumberOfFrames, image.PixelData = 2, image.PixelData * 2
    image.save_as(paths[0])
    with pytest.raises(SeriesRefused, match=r"0001\.dcm holds 2 images, its header says 1"):
        read_voxels(order_stack(read_frames(paths)))


def test_an_image_without_an_identity_is_refused(series_of: Callable) -> None:
    paths = series_of(SPOT)
    change(paths[:1], SOPInstanceUID="")
    with pytest.raises(SeriesRefused, match=r"0001\.dcm has no SOPInstanceUID"):
        read_frames(paths)
