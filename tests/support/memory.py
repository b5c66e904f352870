"""A folder in memory for what lasts only as long as the tests."""

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM = 1 << 30


def memory() -> Path | None:
    """Return the folder; None if there is none, or little room: a disk will do."""
    roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return _MEMORY if roomy else None
