"""How fast images are received, against DCMTK's ``storescp`` on the same machine.

Each round sends the same images with ``storescu`` to each receiver in turn, so that what
else the machine does falls on all alike; the ratio is the median over the rounds. ``storescp``
does not flush what it writes. The node's figure without flushing shows what the network path
costs, the other what durability costs, and the first line what this disk allows at most::

    python -m benchmarks.receive --images 1000 --rounds 5
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import structlog
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.receive.server import Receiver
from dicom_node.receive.spool import Spool
from dicom_node.settings import Receive

# Without it DCMTK waits for delayed acknowledgements, and the figures mean nothing
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def write_images(folder: Path, count: int, size: int) -> None:
    """Write MR images of one series."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 4096, (size, size), np.uint16).tobytes()
    for number in range(count):
        image = Dataset()
        image.SOPClassUID = MRImageStorage
        image.SOPInstanceUID = f"1.2.3.1.{number}"
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", "1.2.3.1"
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows = image.Columns = size
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
        image.PixelData = pixels
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = io.BytesIO()
        dcmwrite(file, image, enforce_file_format=True)
        (folder / f"{number}.dcm").write_bytes(file.getvalue())


def serve(folder: Path, port: int, *, flush: bool) -> None:
    """Run a receiver until killed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if not flush:
        os.fdatasync = os.fsync = lambda _: None  # type: ignore[assignment]
    receiver = Receiver(Receive(), Spool(folder, 0), lambda _: None, lambda *_: None, port=port)
    receiver.start()
    while True:
        time.sleep(3600)


@contextmanager
def running(*command: str | Path, port: int) -> Iterator[int]:
    """Run a receiver that listens on a port; gives its process id."""
    process = subprocess.Popen([str(part) for part in command], env=ENVIRONMENT)  # noqa: S603
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def images_per_second(images: Path, count: int, port: int) -> float:
    """Send all images on one association."""
    program = shutil.which("storescu") or "storescu"
    # +sd would look through the folder; the names are few enough
    files = [str(path) for path in sorted(images.iterdir())]
    started = time.monotonic()
    sent = subprocess.run(  # noqa: S603
        [program, "-R", "-xe", "-aec", "DICOM_NODE", "127.0.0.1", str(port), *files],
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        timeout=300,
    )
    if sent.returncode:
        raise RuntimeError(sent.stderr.decode())
    return count / (time.monotonic() - started)


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def set_aside(received: Path, aside: Path) -> None:
    """Move what was received out of the way.

    Not deleted: ext4 does not give an inode away again within five seconds, and looking past
    thousands of those makes the next round's files ten times slower to create.
    """
    aside.mkdir(parents=True)
    for path in received.iterdir():
        path.rename(aside / path.name)


def flushed_per_second(folder: Path, images: Path, count: int) -> float:
    """Write and flush the same files in a plain loop: what the disk allows one association."""
    folder.mkdir(parents=True)
    content = next(images.iterdir()).read_bytes()
    started = time.monotonic()
    for number in range(count):
        with (folder / f"{number}").open("xb") as file:
            file.write(content)
            file.flush()
            os.fdatasync(file.fileno())
    return count / (time.monotonic() - started)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=266, help="rows and columns; 266 makes 142 kB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", nargs=3, metavar=("FOLDER", "PORT", "FLUSH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        folder, port, flush = arguments.serve
        serve(Path(folder), int(port), flush=flush == "flush")
    figures: dict[str, list[float]] = {"storescp": [], "node, no flush": [], "node": []}
    disk: list[float] = []
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        base = Path(temporary)
        write_images(base / "images", arguments.images, arguments.size)
        ports = {name: free_port() for name in figures}
        folders = {"storescp": base / "scp", "node, no flush": base / "quick", "node": base / "node"}
        folders["storescp"].mkdir()
        received = {name: folder / "series" for name, folder in folders.items()}
        received["storescp"] = folders["storescp"]
        scp = shutil.which("storescp") or "storescp"
        commands: dict[str, list[str | Path]] = {
            "storescp": [scp, "+B", "-pdu", "131072", "-od", folders["storescp"], str(ports["storescp"])]
        }
        for name, flush in (("node, no flush", "keep"), ("node", "flush")):
            command = [sys.executable, "-m", "benchmarks.receive", "--serve"]
            commands[name] = [*command, str(folders[name]), str(ports[name]), flush]
        pids = {
            name: stack.enter_context(running(*command_line, port=ports[name]))
            for name, command_line in commands.items()
        }
        started = {name: cpu_s(pid) for name, pid in pids.items()}
        for round_ in range(arguments.rounds):
            disk.append(
                flushed_per_second(base / "aside" / f"disk {round_}", base / "images", arguments.images)
            )
            for name, figure in figures.items():
                figure.append(images_per_second(base / "images", arguments.images, ports[name]))
                set_aside(received[name], base / "aside" / f"{name} {round_}")
        sent = arguments.images * arguments.rounds
        cpu_ms = {name: 1000 * (cpu_s(pid) - started[name]) / sent for name, pid in pids.items()}
    print(f"disk            {statistics.median(disk):6.0f} files/s written and flushed")
    for name, figure in figures.items():
        ratios = [one / other for one, other in zip(figure, figures["storescp"], strict=True)]
        rounds = " ".join(f"{each:.0f}" for each in figure)
        print(
            f"{name:15} {statistics.median(figure):6.0f} images/s ({rounds}), "
            f"{statistics.median(ratios):.2f} of storescp; {cpu_ms[name]:.2f} ms of CPU an image"
        )


if __name__ == "__main__":
    main()
