"""Arenas of glibc in a process that serves. Not covered: what that spares over hours (`make soak`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.memory import ARENAS

# Threads that hold small arrays at one time, then the number of arenas by malloc_info(3)
_COUNT = """
import ctypes, os, tempfile, threading
import numpy as np

def count(*_):
    meeting = threading.Barrier(8)
    def work():
        meeting.wait()
        kept = [np.empty(2000) for _ in range(200)]
        meeting.wait()
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    libc = ctypes.CDLL(None)
    libc.fdopen.restype = ctypes.c_void_p
    with tempfile.TemporaryFile() as file:
        stream = ctypes.c_void_p(libc.fdopen(os.dup(file.fileno()), b"w"))
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        file.seek(0)
        print(file.read().count(b"<heap nr"))
"""
_SERVE = """
import sys
import dicom_node.node
from dicom_node.cli import app
dicom_node.node.serve = count
app(["serve", "--config", sys.argv[1]])
"""


def _arenas(script: str, *arguments: str | Path, **environment: str) -> int:
    given = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", _COUNT + script, *arguments]
    ran = subprocess.run(command, env=given | environment, capture_output=True, text=True, check=True)
    return int(ran.stdout.split()[-1])


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
    reason="glibc only",
)
def test_a_node_has_few_arenas_unless_the_environment_says_otherwise(tmp_path: Path) -> None:
    configuration = tmp_path / "node.toml"
    configuration.write_text(f'folder = "{tmp_path / "var"}"\n')
    assert _arenas("count()") > ARENAS + 1
    assert _arenas(_SERVE, configuration) == ARENAS
    assert _arenas(_SERVE, configuration, MALLOC_ARENA_MAX=str(ARENAS + 1)) == ARENAS + 1
