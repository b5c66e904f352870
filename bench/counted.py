"""`gateway` as it is, and a count of the statements it sends to its database, in a file.

python -m bench.counted FILE serve --port 8000
"""

import mmap
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from app.cli import main

_WIDTH = 8


def count_into(path: Path) -> None:
    path.write_bytes(bytes(_WIDTH))
    with path.open("r+b") as handle:
        shared = mmap.mmap(handle.fileno(), _WIDTH)
    statements = 0

    def counting(plain: Callable[..., None]) -> Callable[..., None]:
        def execute(*args: Any, **kw: Any) -> None:
            nonlocal statements
            statements += 1
            shared[:] = statements.to_bytes(_WIDTH, "little")
            plain(*args, **kw)

        return execute

    # An engine that has listeners is slower at every step of a statement, by 3% of an accept.
    DefaultDialect.do_execute = counting(DefaultDialect.do_execute)  # type: ignore[method-assign]
    DefaultDialect.do_executemany = counting(DefaultDialect.do_executemany)  # type: ignore[method-assign]


def counted(path: Path) -> int:
    return int.from_bytes(path.read_bytes(), "little")


if __name__ == "__main__":
    count_into(Path(sys.argv.pop(1)))
    main()
