"""`gateway` as it is, which also counts, in a file, the statements it sends to its database.

python -m bench.counted FILE serve --port 8000
"""

import mmap
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from app.cli import main
from app.db.prepared import Prepared

_WIDTH = 8


def on_each_statement(note: Callable[[], None]) -> None:
    """Call `note` before each statement of this process.

    Not with a listener: an engine that has one is slower at every step of a statement, by 3% of an
    accept.
    """

    def noting(plain: Callable[..., Any]) -> Callable[..., Any]:
        def execute(*args: Any, **kw: Any) -> Any:
            note()
            return plain(*args, **kw)

        return execute

    Prepared.values = noting(Prepared.values)  # type: ignore[method-assign]
    DefaultDialect.do_execute = noting(DefaultDialect.do_execute)  # type: ignore[method-assign]
    DefaultDialect.do_executemany = noting(DefaultDialect.do_executemany)  # type: ignore[method-assign]


def count_into(path: Path) -> None:
    path.write_bytes(bytes(_WIDTH))
    with path.open("r+b") as handle:
        shared = mmap.mmap(handle.fileno(), _WIDTH)
    statements = 0

    def count() -> None:
        nonlocal statements
        statements += 1
        shared[:] = statements.to_bytes(_WIDTH, "little")

    on_each_statement(count)


def counted(path: Path) -> int:
    return int.from_bytes(path.read_bytes(), "little")


if __name__ == "__main__":
    count_into(Path(sys.argv.pop(1)))
    main()
