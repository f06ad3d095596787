"""Files that survive a power cut."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where folders can be flushed.

    Raises:
        OSError: the folder cannot be read or flushed.
    """
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
