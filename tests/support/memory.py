"""A place without a disk for what ends with the tests."""

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM = 1 << 30


def memory() -> Path | None:
    """Find it, or None where there is none, or little of it: a disk will do."""
    roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return _MEMORY if roomy else None
