"""Files to begin with, and the ways in which they are damaged: by a generator of random numbers, so that the
number that it begins with is all that one needs to have a file again.
"""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from random import Random

import cv2
import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_VR
from pydicom.filereader import data_element_generator, read_preamble
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.phantom.mr_series import Storage, mr_series, write_series
from tests.support.multiframe import enhanced_mr
from tests.support.spot import affine_of, image_spot

# Of pydicom's own collection: by several scanners, in several encodings, some damaged on purpose
REAL = (
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "MR_small_padded.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_truncated.dcm",
    "image_dfl.dcm",
    "nested_priv_SQ.dcm",
    "UN_sequence.dcm",
    "rtstruct.dcm",
)
_SYNTAXES = (ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1, RLELossless)
SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
)
_LONG = tuple(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
VRS = (*_LONG, *b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
# What the walks look at, and what opens, ends and fills sequences
TAGS = (
    0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080060, 0x0008103E, 0x00081140, 0x00180080,
    0x00180081, 0x00180082, 0x0020000D, 0x0020000E, 0x00200032, 0x00200037, 0x00280002, 0x00280004,
    0x00280008, 0x00280010, 0x00280011, 0x00280030, 0x00280100, 0x00280101, 0x00280102, 0x00280103,
    0x00280120, 0x00281052, 0x00281053, 0x52009229, 0x52009230, 0x7FE00010, 0xFFFEE000, 0xFFFEE00D,
    0xFFFEE0DD, 0x00091001,
)  # fmt: skip


@cache
def real_files() -> tuple[bytes, ...]:
    """Whole DICOM files."""
    return tuple(Path(str(get_testdata_file(name, download=False))).read_bytes() for name in REAL)


@cache
def small_series() -> tuple[tuple[bytes, ...], ...]:
    """Series of a few slices that the node analyses, each in another encoding, and one as a single file."""
    shape, spacing_mm = (4, 32, 24), (4.0, 6.0, 6.0)
    spot = image_spot(affine_of(shape=shape, spacing_mm=spacing_mm), shape=shape, radius_mm=20.0)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for syntax in _SYNTAXES:
            made = mr_series(spot.voxels, spot.affine, storage=Storage(transfer_syntax=syntax))
            paths = write_series(made, Path(folder) / syntax)
            found.append(tuple(path.read_bytes() for path in paths))
    whole = io.BytesIO()
    image = enhanced_mr(spot)
    image.save_as(whole, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return (*found, (whole.getvalue(),))


NATIVE_SERIES = (0, len(_SYNTAXES))  # of these, the ones that need no decoder: single-frame, multi-frame


@cache
def pictures() -> tuple[bytes, ...]:
    """PNG of one, two, three and four channels and of two depths, and JPEG, progressive too."""
    grey = np.linspace(0, 255, 48 * 40).reshape(48, 40).astype(np.uint8)
    colours = np.dstack([grey, 255 - grey, grey, np.full_like(grey, 200)])
    deep = grey.astype(np.uint16) * 257
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    made = [
        *(cv2.imencode(".png", image) for image in (grey, deep, colours[..., :3], colours)),
        cv2.imencode(".jpg", colours[..., :3]),
        cv2.imencode(".jpg", grey, progressive),
    ]
    return tuple(data.tobytes() for _, data in made)


_INTERESTING = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFE,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)


def damaged(whole: bytes, rng: Random, most: int = 6) -> bytes:
    """Bytes of a sound file, a few of them changed, inserted, repeated or taken away."""
    data = bytearray(whole)
    for _ in range(rng.randint(1, most)):
        # Headers are at the beginning, and what is looked up first at the end
        at = rng.randint(0, rng.choice((min(len(data), 1500), len(data))))
        match rng.choice(("bit", "number", "random", "away", "again", "end")):
            case "bit":
                data[at : at + 1] = bytes(byte ^ 1 << rng.randint(0, 7) for byte in data[at : at + 1])
            case "number":
                size = rng.choice((1, 2, 4))
                value = rng.choice(_INTERESTING) & ((1 << 8 * size) - 1)
                data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
            case "random":
                data[at : at + rng.randint(0, 8)] = rng.randbytes(rng.randint(0, 8))
            case "away":
                del data[at : at + rng.randint(1, 300)]
            case "again":
                data[at:at] = data[at : at + rng.randint(1, 300)] * rng.randint(1, 20)
            case "end" if rng.random() < 0.3:
                del data[at:]
    return bytes(data)


def data_set(rng: Random) -> bytes:
    """Elements one after another, in no order."""
    order = rng.choice("<<<>")
    form = rng.choice(("explicit", "implicit", "any"))
    return b"".join(_element(rng, order, form, 0) for _ in range(rng.randint(1, 12)))


def _element(rng: Random, order: str, form: str, depth: int) -> bytes:
    """One element, whose length may lie, and whose value may be more elements."""
    tag = rng.choice(TAGS) if rng.random() < 0.8 else rng.getrandbits(32)
    vr = rng.choice(VRS) if rng.random() < 0.95 else rng.randbytes(2)
    if depth < 4 and rng.random() < 0.3:
        inner = b"".join(_element(rng, order, form, depth + 1) for _ in range(rng.randint(0, 3)))
        value = _items(inner, order, of_known_length=rng.random() < 0.5)
        vr = rng.choice((b"SQ", b"SQ", b"UN", vr))
        length = 0xFFFFFFFF if rng.random() < 0.5 else len(value)
    else:
        value = rng.choice(
            (rng.randbytes(rng.randint(0, 16)), b"1.2.3 ", b"65535 ", b"1\\2\\3 ", b"nan ", b"1e999 ")
        )
        length = len(value)
    if rng.random() < 0.1:
        length = rng.choice((*_INTERESTING, rng.randint(0, 64)))
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if form == "implicit" or (form == "any" and rng.random() < 0.1):
        return head + struct.pack(order + "L", length) + value
    if vr in _LONG:
        return head + vr + bytes(2) + struct.pack(order + "L", length) + value
    return head + vr + struct.pack(order + "H", length & 0xFFFF) + value


def _items(inner: bytes, order: str, *, of_known_length: bool) -> bytes:
    def delimiter(element: int, length: int) -> bytes:
        return struct.pack(order + "HHL", 0xFFFE, element, length)

    if of_known_length:
        return delimiter(0xE000, len(inner)) + inner
    return delimiter(0xE000, 0xFFFFFFFF) + inner + delimiter(0xE00D, 0) + delimiter(0xE0DD, 0)


# What headers say of pixels, and what they may lie
LIES: dict[str, tuple[object, ...]] = {
    "Rows": (0, 1, 31, 33, 65535),
    "Columns": (0, 1, 65535),
    "NumberOfFrames": (0, 2, 2**31 - 1),
    "SamplesPerPixel": (0, 2, 3, 65535),
    "BitsAllocated": (0, 1, 8, 12, 32, 64, 65535),
    "BitsStored": (0, 1, 16, 65535),
    "HighBit": (0, 65535),
    "PixelRepresentation": (1, 2),
    "PlanarConfiguration": (1,),
    "PhotometricInterpretation": ("MONOCHROME1", "RGB", "YBR_FULL_422", "PALETTE COLOR", ""),
    "PixelSpacing": ([0, 0], [1e300, 1e300], ["", ""], [1]),
    "ImagePositionPatient": ([1e308, 1e308, 1e308], [0, 0], ["", "", ""]),
    "ImageOrientationPatient": ([0] * 6, [1e200] * 6, [1, 0, 0]),
    "RescaleSlope": (0, 1e308, -1e308, ""),
    "RescaleIntercept": (1e308, ""),
    "SliceThickness": (0, -1, 1e308, ""),
    "PixelPaddingValue": (0, 65535),
    "SOPInstanceUID": ("", "../../x", "1.2.3"),
    "SOPClassUID": ("", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.2"),
    "SeriesInstanceUID": ("", "../../x", "1.2.3"),
    "FrameOfReferenceUID": ("",),
    "SpecificCharacterSet": ("ISO 2022 IR 87", "nonsense", ["ISO_IR 100", "GB18030"]),
    "PatientBirthDate": ("nonsense",),
    "InstanceNumber": ("", 2**31 - 1),
    "ImageType": ("", ["ORIGINAL"]),
    "EchoTime": ("", 1e308),
}


_VR = {"PixelPaddingValue": "US"}  # where the dictionary knows two


def lying(whole: bytes, rng: Random) -> bytes:
    """A sound file in which some attributes are wrong or missing."""
    image = dcmread(io.BytesIO(whole), force=True)
    for keyword in rng.sample(sorted(LIES), rng.randint(1, 3)):
        if rng.random() < 0.2:
            image.pop(keyword, None)
        else:
            image.add_new(keyword, _VR.get(keyword) or dictionary_VR(keyword), rng.choice(LIES[keyword]))
    written = io.BytesIO()
    image.save_as(written, enforce_file_format=False)
    return written.getvalue()


def split(whole: bytes) -> tuple[str, bytes]:
    """The transfer syntax of a file, and its data set as it is encoded."""
    file = io.BytesIO(whole)
    read_preamble(file, force=True)
    elements = data_element_generator(file, False, True, stop_when=lambda tag, *_: tag.group != 2)
    meta = {int(element.tag): element.value for element in elements}
    return meta.get(0x00020010, ImplicitVRLittleEndian.encode()).decode().rstrip("\0"), whole[file.tell() :]


def dicom_file(encoded: bytes, syntax: str) -> bytes:
    """A file (PS3.10 7.1) around an encoded data set."""
    if syntax == DeflatedExplicitVRLittleEndian:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        encoded = deflate.compress(encoded) + deflate.flush()
    uid = syntax.encode() + bytes(len(syntax) % 2)
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    group_length = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta))
    return bytes(128) + b"DICM" + group_length + meta + encoded


def archive(members: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file with members of any name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name, data in members:
            made.writestr(zipfile.ZipInfo(name), data, method)
    return packed.getvalue()
