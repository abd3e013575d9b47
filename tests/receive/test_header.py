"""Covers: the walk over a data set: what it keeps, and that it refuses what is cut short, in
every encoding and at every length; what the first bytes tell; deflate bombs; nesting.
Does not cover: whether the pixel data can be decoded (tests of the series station do).
"""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_node.errors import InstanceRefused
from dicom_node.receive.contexts import TRANSFER_SYNTAXES
from dicom_node.receive.header import header_at_start, is_uid, read_header
from dicom_node.receive.status import Status
from tests.receive.images import SERIES, STUDY, encode, mr_image

LIMIT = 1 << 20
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
SMALL = {syntax: encode(mr_image(size=4), syntax) for syntax in (*NATIVE, RLELossless)}


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda uid: uid.keyword)
def test_the_header_is_read_in_every_transfer_syntax(syntax):
    header = read_header(encode(mr_image(2), syntax), syntax, LIMIT)

    assert (header.study_instance_uid, header.series_instance_uid) == (STUDY, SERIES)
    assert header.sop_instance_uid == f"{SERIES}.2"
    assert header.position_mm == (0, 0, 6)
    assert header.orientation == (1, 0, 0, 0, 1, 0)


@pytest.mark.parametrize("syntax", SMALL, ids=lambda uid: uid.keyword)
def test_a_data_set_cut_at_any_byte_is_refused(syntax):
    encoded = SMALL[syntax]
    for length in range(len(encoded)):
        with pytest.raises(InstanceRefused) as refused:
            read_header(encoded[:length], syntax, LIMIT)
        assert refused.value.status in (Status.CANNOT_UNDERSTAND, Status.UIDS_DISAGREE)


def test_a_deflated_data_set_cut_short_is_refused():
    encoded = encode(mr_image(), DeflatedExplicitVRLittleEndian)
    for length in range(0, len(encoded) - 2, 7):
        with pytest.raises(InstanceRefused):
            read_header(encoded[:length], DeflatedExplicitVRLittleEndian, LIMIT)


def test_a_deflated_data_set_may_not_grow_beyond_the_limit():
    encoded = encode(mr_image(size=128), DeflatedExplicitVRLittleEndian)

    with pytest.raises(InstanceRefused) as refused:
        read_header(encoded, DeflatedExplicitVRLittleEndian, 10_000)

    assert refused.value.status == Status.OUT_OF_RESOURCES


@pytest.mark.parametrize("syntax", SMALL, ids=lambda uid: uid.keyword)
def test_the_first_bytes_tell_header_and_length_once_they_reach_the_pixels_or_else_nothing(syntax):
    encoded = SMALL[syntax]
    pixels = 2 * 4 * 4
    for length in range(len(encoded) + 1):
        told = header_at_start(encoded[:length], syntax)
        if syntax in NATIVE and length >= len(encoded) - pixels:
            assert told == (read_header(encoded, syntax, LIMIT), len(encoded))
        else:
            assert told is None


def test_what_comes_after_the_pixels_is_not_taken_for_pixels():
    encoded = SMALL[ExplicitVRLittleEndian]
    padding = struct.pack("<HH2sxxL", 0xFFFC, 0xFFFC, b"OB", 4) + bytes(4)

    told = header_at_start(encoded + padding, ExplicitVRLittleEndian)

    assert told is not None
    assert told[1] == len(encoded)
    assert read_header(encoded + padding, ExplicitVRLittleEndian, LIMIT) == told[0]


@given(noise=st.binary(max_size=400), syntax=st.sampled_from(TRANSFER_SYNTAXES))
def test_noise_tells_nothing(noise, syntax):
    assert header_at_start(noise, syntax) is None


@given(noise=st.binary(max_size=400), syntax=st.sampled_from(TRANSFER_SYNTAXES))
def test_noise_is_refused_and_nothing_else_is_raised(noise, syntax):
    with pytest.raises(InstanceRefused):
        read_header(noise, syntax, LIMIT)


@given(data=st.data(), syntax=st.sampled_from(list(SMALL)))
def test_a_flipped_byte_gives_a_header_or_a_refusal_and_nothing_else(data, syntax):
    encoded = bytearray(SMALL[syntax])
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(InstanceRefused):
        read_header(bytes(encoded), syntax, LIMIT)


def test_pixel_data_smaller_than_the_image_is_refused():
    image = mr_image()
    image.PixelData = image.PixelData[:-2]

    with pytest.raises(InstanceRefused, match="cut short"):
        read_header(encode(image, ExplicitVRLittleEndian), ExplicitVRLittleEndian, LIMIT)


def test_a_data_set_without_pixel_data_is_refused():
    image = mr_image()
    encoded = encode(image, ImplicitVRLittleEndian)
    without = encoded[: encoded.index(struct.pack("<HH", 0x7FE0, 0x0010))]

    with pytest.raises(InstanceRefused, match="no pixel data"):
        read_header(without, ImplicitVRLittleEndian, LIMIT)


def test_sequences_nested_without_end_are_refused():
    open_item = struct.pack("<HHLHHL", 0x0008, 0x1140, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)

    with pytest.raises(InstanceRefused, match="nested"):
        read_header(open_item * 5000, ImplicitVRLittleEndian, LIMIT)


def test_sequences_of_undefined_length_are_passed_over():
    image = mr_image()
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "9.9"
    inner.SeriesInstanceUID = "9.9.9"
    image.SourceImageSequence = [inner, Dataset()]
    image["SourceImageSequence"].is_undefined_length = True
    inner.is_undefined_length_sequence_item = True
    for syntax in NATIVE:
        assert read_header(encode(image, syntax), syntax, LIMIT).series_instance_uid == SERIES


@pytest.mark.parametrize(
    "value", ["", ".", "..", "1..2", "1.2.", "../../evil", "1/2", "1.2\n", "1" * 65, "1.2é"]
)
def test_what_is_no_uid_never_becomes_a_name(value):
    assert not is_uid(value)


def test_a_uid_of_64_digits_and_dots_is_one():
    assert is_uid("1." + "2" * 62)
