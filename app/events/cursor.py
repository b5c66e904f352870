"""A place in the log of all jobs; no event can appear before it, however late it is committed.

Numbers are taken before they are committed, so events with lower numbers may still be to come. A
Postgres snapshot has no such gap: it says of every transaction whether it was over.
"""

import re
from dataclasses import dataclass

_SNAPSHOT = r"[0-9a-f]{1,15}(?:\.[0-9a-f]{1,15})*"
_TEXT = re.compile(rf"({_SNAPSHOT})(?:-({_SNAPSHOT})-([0-9a-f]{{1,15}}))?")
_LONGEST = 20_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions were over: all below `xmax` except those in `running`."""

    xmax: int
    running: tuple[int, ...] = ()

    @classmethod
    def of_postgres(cls, text: str) -> "Snapshot":
        """Read what `pg_current_snapshot()` says: `xmin:xmax:running,running`."""
        _, xmax, running = text.split(":")
        return cls(int(xmax), tuple(int(xid) for xid in running.split(",") if xid))

    @property
    def lowest_unseen(self) -> int:
        return min(self.running, default=self.xmax)

    def has(self, xid: int) -> bool:
        return xid < self.xmax and xid not in self.running


@dataclass(frozen=True, slots=True)
class Cursor:
    """After all of snapshot `seen` and, of what `within` adds to it, after the events up to `upto`.

    On SQLite, where transactions never overlap, every event belongs to transaction 0, and `within`
    has them all: only the number counts.
    """

    seen: Snapshot
    within: Snapshot | None = None
    upto: int = 0

    @classmethod
    def by_number(cls, upto: int) -> "Cursor":
        return cls(_NOTHING, _EVERYTHING, upto)

    @classmethod
    def parse(cls, text: str) -> "Cursor | None":
        match = _TEXT.fullmatch(text) if len(text) <= _LONGEST else None
        if match is None:
            return None
        seen, within, upto = match.groups()
        if within is None:
            return cls(_parsed(seen))
        return cls(_parsed(seen), _parsed(within), int(upto, 16))

    def __str__(self) -> str:
        if self.within is None:
            return _text(self.seen)
        return f"{_text(self.seen)}-{_text(self.within)}-{self.upto:x}"

    @property
    def is_by_number(self) -> bool:
        return self.within == _EVERYTHING

    def has(self, xid: int, number: int) -> bool:
        """Whether an event is before this place."""
        if self.seen.has(xid):
            return True
        return self.within is not None and self.within.has(xid) and number <= self.upto

    def is_after(self, end: "Cursor") -> bool:
        """Whether this place is beyond the end of the log, which is at `end`."""
        if self == _BEGINNING:  # in either database
            return False
        if self.is_by_number or end.is_by_number:
            return self.is_by_number != end.is_by_number or self.upto > end.upto
        return (self.within or self.seen).xmax > end.seen.xmax


_NOTHING = Snapshot(0)
_EVERYTHING = Snapshot(1)
_BEGINNING = Cursor(_NOTHING)


def _parsed(text: str) -> Snapshot:
    xmax, *running = (int(part, 16) for part in text.split("."))
    return Snapshot(xmax, tuple(running))


def _text(snapshot: Snapshot) -> str:
    return ".".join(f"{xid:x}" for xid in (snapshot.xmax, *snapshot.running))
