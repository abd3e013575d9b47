"""Making the names in a folder survive a loss of power, and stay the node's own."""

from __future__ import annotations

import os
from pathlib import Path


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder whose name is durable, and those above it that are missing."""
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(exist_ok=True)
            hand_over(path)
            flush_folder(path.parent)
    flush_folder(folder.parent)  # who made it may not have come to that


def hand_over(path: Path) -> None:
    """Give what root made to the owner of the folder that it is in: the node runs as another user."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
