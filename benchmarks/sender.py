"""Sends C-STORE requests that were encoded beforehand: the same bytes to every receiver.

``storescu`` reads, parses and encodes each file, which costs more than what it costs a good
receiver to store it: then the sender is measured. Here an object is encoded once for an
association, into the PDUs that the receiver negotiated, and for each instance only its UID is
written over; one system call sends it, another reads the answer. Each association is a process,
so that no sender waits for another.

``storescu`` is there too, a process for each association, for what a peer in the field would see.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import socket
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.receive.part10 import AETitles, file_meta

TIMEOUT_S = 120
_ROOT = "1.2.826.0.1.3680043.10.1000"
# Five digits like all that follow, so that a UID can be written over another
_FIRST = 10000
_ASSOCIATE_AC, _P_DATA, _RELEASE_RQ = 2, 4, 5
_COMMAND, _LAST = 0x01, 0x02
_DEFAULT_PDU = 16384


@dataclass(frozen=True)
class Shape:
    """What the objects are like: rows and columns, frames; 16 bits a pixel."""

    size: int
    frames: int = 1


@dataclass(frozen=True)
class Sent:
    """Seconds from the first byte to the last answer, and from each request to its answer, where known."""

    took_s: float
    each_s: list[float]


def send_raw(port: int, shape: Shape, batch: int, associations: int, count: int) -> Sent:
    """Send so many objects on each association.

    Parameters
    ----------
    batch : a number that was never used, for UIDs that were never used

    Raises
    ------
    RuntimeError
        A sender failed, or an instance was refused.
    """
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(associations + 1)
    times = [context.Array("d", count) for _ in range(associations)]
    senders = [
        context.Process(target=_run, args=(port, shape, batch, number, each_s, ready))
        for number, each_s in enumerate(times, start=10)
    ]
    for sender in senders:
        sender.start()
    ready.wait(TIMEOUT_S)
    started = time.monotonic()
    for sender in senders:
        sender.join(TIMEOUT_S)
    took = time.monotonic() - started
    if any(sender.exitcode for sender in senders):
        raise RuntimeError(f"a sender ended with {[sender.exitcode for sender in senders]}")
    return Sent(took, [each for part in times for each in part])


def send_with_storescu(port: int, shape: Shape, batch: int, associations: int, count: int) -> Sent:
    """As `send_raw`, with one file for each association, sent again and again with a new UID.

    The time includes the start of the processes and the opening of the associations.
    """
    with tempfile.TemporaryDirectory() as folder:
        commands = []
        for number in range(10, 10 + associations):
            series = f"{_ROOT}.{batch}.{number}"
            path = Path(folder, f"{number}.dcm")
            meta = file_meta(
                MRImageStorage, f"{series}.1", ExplicitVRLittleEndian, AETitles("DICOM_NODE", "BENCHMARK")
            )
            path.write_bytes(meta + data_set(shape, series, f"{series}.1"))
            options = ("-R", "-xe", "+II", "-aec", "DICOM_NODE", "127.0.0.1", str(port))
            commands.append(["storescu", *options, *[str(path)] * count])
        started = time.monotonic()
        senders = [
            subprocess.Popen(  # noqa: S603
                command, env={**os.environ, "TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL
            )
            for command in commands
        ]
        statuses = [sender.wait(TIMEOUT_S) for sender in senders]
        took = time.monotonic() - started
    if any(statuses):
        raise RuntimeError(f"storescu ended with {statuses}")
    return Sent(took, [])


SENDERS = {"raw": send_raw, "storescu": send_with_storescu}


def _run(
    port: int, shape: Shape, batch: int, number: int, each_s: SynchronizedArray[float], ready: Barrier
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(_associate_rq())
        longest = _maximum_pdu(_pdu(connection, _ASSOCIATE_AC))
        series = f"{_ROOT}.{batch}.{number}"
        first = f"{series}.{_FIRST}"
        request = bytearray(_store_rq(shape, series, first, longest or 1 << 20))
        places = _places(request, first.encode())
        ready.wait(TIMEOUT_S)
        for instance in range(len(each_s)):
            encoded = f"{series}.{_FIRST + instance}".encode()
            for place in places:
                request[place : place + len(encoded)] = encoded
            started = time.monotonic()
            connection.sendall(request)
            answer = _pdu(connection, _P_DATA)
            each_s[instance] = time.monotonic() - started
            if b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00" not in answer:  # (0000,0900) US 0000H
                raise RuntimeError(f"an instance was refused: {answer!r}")
        connection.sendall(struct.pack(">BxL4x", _RELEASE_RQ, 4))
        connection.recv(16)


def _places(request: bytearray, uid: bytes) -> list[int]:
    """Where the SOP Instance UID stands: in the command, and in the data set."""
    first = request.index(uid)
    return [first, request.index(uid, first + len(uid))]


def _pdu(connection: socket.socket, wanted: int) -> bytes:
    got = b""
    while len(got) < 6 or len(got) < 6 + int(struct.unpack_from(">L", got, 2)[0]):
        more = connection.recv(65536)
        if not more:
            raise RuntimeError("the receiver closed the connection")
        got += more
    if got[0] != wanted:
        raise RuntimeError(f"the receiver answered with a PDU of type {got[0]}")
    return got


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _associate_rq() -> bytes:
    """Propose MR Image Storage in explicit VR little endian (PS3.8 9.3.2)."""
    syntaxes = _item(0x30, MRImageStorage.encode()) + _item(0x40, ExplicitVRLittleEndian.encode())
    user = _item(0x51, struct.pack(">L", _DEFAULT_PDU)) + _item(0x52, _ROOT.encode())
    value = (
        struct.pack(">HH16s16s32x", 1, 0, b"DICOM_NODE".ljust(16), b"BENCHMARK".ljust(16))
        + _item(0x10, b"1.2.840.10008.3.1.1.1")
        + _item(0x20, bytes((1, 0, 0, 0)) + syntaxes)
        + _item(0x50, user)
    )
    return struct.pack(">BxL", 1, len(value)) + value


def _maximum_pdu(associate_ac: bytes) -> int:
    """The Maximum Length sub-item of an A-ASSOCIATE-AC (PS3.8 D.1); 0 for any."""
    position = 74
    while position + 4 <= len(associate_ac):
        kind, length = struct.unpack_from(">BxH", associate_ac, position)
        if kind == 0x51:
            return int(struct.unpack_from(">L", associate_ac, position + 4)[0])
        # User information is a list of such items itself
        position += 4 + (0 if kind == 0x50 else length)
    return _DEFAULT_PDU


def _store_rq(shape: Shape, series: str, instance: str, longest: int) -> bytes:
    """Encode a C-STORE-RQ with its data set as P-DATA-TF PDUs (PS3.7 9.3.1.1)."""
    command = _command(instance)
    pdus = [struct.pack(">BxLLBB", _P_DATA, 6 + len(command), 2 + len(command), 1, _COMMAND | _LAST), command]
    encoded = memoryview(data_set(shape, series, instance))
    step = (longest - 6) & ~1
    for start in range(0, len(encoded), step):
        part = encoded[start : start + step]
        control = _LAST if start + step >= len(encoded) else 0
        pdus += [struct.pack(">BxLLBB", _P_DATA, 6 + len(part), 2 + len(part), 1, control), part]
    return b"".join(pdus)


def _command(instance: str) -> bytes:
    def element(number: int, value: bytes) -> bytes:
        value += bytes(len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    def number(tag: int, value: int) -> bytes:
        return element(tag, struct.pack("<H", value))

    elements = element(0x0002, MRImageStorage.encode()) + number(0x0100, 1) + number(0x0110, 1)
    elements += number(0x0700, 0) + number(0x0800, 1) + element(0x1000, instance.encode())
    return element(0x0000, struct.pack("<L", len(elements))) + elements


def data_set(shape: Shape, series: str, instance: str) -> bytes:
    """Encode an object with the attributes that a scanner writes, about sixty, and noise for pixels."""
    image = Dataset()
    image.SpecificCharacterSet, image.ImageType = "ISO_IR 100", ["ORIGINAL", "PRIMARY", "M", "SE"]
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, instance
    for when in ("Study", "Series", "Acquisition", "Content"):
        setattr(image, f"{when}Date", "20200101")
        setattr(image, f"{when}Time", "120000.000")
    image.AccessionNumber, image.Modality, image.Manufacturer = "", "MR", "BENCHMARK"
    image.StudyDescription, image.SeriesDescription = "Head", "t2 flair tra"
    image.ReferencedImageSequence = [Dataset() for _ in range(3)]
    for reference in image.ReferencedImageSequence:
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = MRImageStorage, f"{series}.9"
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "A^B", "1", "", "O"
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "SE", "SK", ""
    image.MRAcquisitionType, image.SliceThickness, image.SpacingBetweenSlices = "2D", 5, 5.5
    image.RepetitionTime, image.EchoTime, image.InversionTime, image.FlipAngle = 9000, 90, 2500, 150
    image.NumberOfAverages, image.ImagingFrequency, image.ImagedNucleus = 1, 63.68, "1H"
    image.EchoNumbers, image.MagneticFieldStrength, image.EchoTrainLength = 1, 1.5, 16
    image.PixelBandwidth, image.PatientPosition, image.ProtocolName = 130, "HFS", "flair"
    image.add_new(0x00191010, "UN", bytes(400))
    image.StudyInstanceUID, image.SeriesInstanceUID = series.rpartition(".")[0], series
    image.StudyID, image.SeriesNumber, image.InstanceNumber = "1", 1, 1
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    image.FrameOfReferenceUID, image.SliceLocation = f"{series}.8", 0
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    if shape.frames > 1:
        image.NumberOfFrames = shape.frames
    image.Rows = image.Columns = shape.size
    image.PixelSpacing = [0.9, 0.9]
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.WindowCenter, image.WindowWidth = 500, 1000
    pixels = np.random.default_rng(0).integers(0, 4096, (shape.frames, shape.size, shape.size), np.uint16)
    image.PixelData = pixels.tobytes()
    image["PixelData"].VR = "OW"
    encoded = io.BytesIO()
    file = DicomFileLike(encoded)
    file.is_little_endian, file.is_implicit_VR = True, False
    write_dataset(file, image)
    return encoded.getvalue()
