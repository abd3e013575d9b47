"""Names for part files that are durable before they are used.

A name costs a flush of its folder, as slow as the flush of the image itself. So names are
made by the batch, as empty files, and flushed once for all of them: an image then takes one
flush instead of two.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import deque
from pathlib import Path

from dicom_node.durable import flush_folder, make_folder

_BATCH = 64


class PartNames:
    """Hands out empty part files in a folder, each once; makes the folder when the first is wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: deque[Path] = deque()
        self._filling = threading.Lock()

    def take(self) -> Path:
        """Return an empty file whose name is on disk."""
        with self._filling:
            while True:
                if not self._ready:
                    self._fill()
                path = self._ready.popleft()
                if path.exists():  # unless another swept it, who took this process for dead
                    return path

    def _fill(self) -> None:
        if not self._folder.exists():
            make_folder(self._folder)
        # No name of an earlier process, which may still hold an image
        prefix = secrets.token_hex(8)
        made = [self._folder / f"{prefix}-{number}.part" for number in range(_BATCH)]
        for path in made:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
        flush_folder(self._folder)
        self._ready.extend(made)
