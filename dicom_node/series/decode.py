"""Decoding compressed pixel data in a process of its own.

The decoders are C++ libraries. A damaged stream brings some of them to an abort, and a made-up one lets
them ask for any amount of memory; that ends a process which has nothing to lose, and not the node.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import iter_pixels

MEMORY_BYTES = 4 << 30
CPU_S = 900  # of a series: thousands of large slices in the slowest encoding take a tenth

Wanted = tuple[Path, list[int] | None]
"""A file, and which of its frames, from 0; None for a file with a single one."""


class CannotDecode(Exception):
    """The decoder said no, or ended; the text is the class of its error."""


def decode(wanted: Sequence[Wanted]) -> Iterator[list[NDArray[np.integer]]]:
    """Decode the frames of one file after another here.

    Raises
    ------
    Exception
        As pydicom and the decoders have them.
    """
    for path, indices in wanted:
        yield [np.array(frame) for frame in iter_pixels(path, indices=indices)]


def decode_apart(wanted: Sequence[Wanted]) -> Iterator[list[NDArray[np.integer]]]:
    """Decode the frames of one file after another in a process that may break.

    Raises
    ------
    CannotDecode
        At the first file with which this is so.
    """
    command = [sys.executable, "-P", "-m", __name__]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(  # noqa: S603 - this very module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=alone
    )
    with process as child:
        assert child.stdin is not None  # noqa: S101 - both are pipes
        assert child.stdout is not None  # noqa: S101
        try:
            child.stdin.write(json.dumps([[str(path), indices] for path, indices in wanted]).encode())
            child.stdin.close()
            for _ in wanted:
                head = json.loads(child.stdout.readline() or b'{"error": "no answer"}')
                if "error" in head:
                    raise CannotDecode(head["error"])
                frames = np.empty(head["shape"], head["dtype"])
                if child.stdout.readinto(frames.data.cast("B")) < frames.nbytes:  # type: ignore[attr-defined]
                    raise CannotDecode("no answer")
                yield list(frames)
        except BrokenPipeError:
            raise CannotDecode("no answer") from None
        finally:
            child.kill()


def _answer() -> None:
    """Be the process: files on stdin, their frames on stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold an image
    out = sys.stdout.buffer
    wanted = [(Path(path), indices) for path, indices in json.load(sys.stdin)]
    try:
        for frames in decode(wanted):
            together = np.stack(frames)
            out.write(json.dumps({"shape": together.shape, "dtype": together.dtype.str}).encode() + b"\n")
            out.write(together.data)
    except Exception as error:  # noqa: BLE001 - each decoder raises kinds of its own
        out.write(json.dumps({"error": type(error).__name__}).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    _answer()
