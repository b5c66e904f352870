"""`gateway` as it is, and a count of the statements it sends to its database, in a file.

python -m bench.counted FILE serve --port 8000
"""

import mmap
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from app.cli import main

_WIDTH = 8


def count_into(path: Path) -> None:
    path.write_bytes(bytes(_WIDTH))
    with path.open("r+b") as handle:
        shared = mmap.mmap(handle.fileno(), _WIDTH)
    statements = 0

    def count(*_: Any) -> None:
        nonlocal statements
        statements += 1
        shared[:] = statements.to_bytes(_WIDTH, "little")

    event.listen(Engine, "before_cursor_execute", count)


def counted(path: Path) -> int:
    return int.from_bytes(path.read_bytes(), "little")


if __name__ == "__main__":
    count_into(Path(sys.argv.pop(1)))
    main()
