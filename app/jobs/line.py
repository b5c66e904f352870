"""Who is next: users take turns, and within a user the more urgent and then the older job goes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum


class Priority(IntEnum):
    """In the order of starting; stored as its number."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    job_id: str
    user_id: str
    key_id: str
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many jobs are in flight, by user and by key, and how many may be; no entry: no limit.

    `turns` says when users had their last one; no entry: never.
    """

    by_user: Mapping[str, int]
    by_key: Mapping[str, int]
    user_limits: Mapping[str, int]
    key_limits: Mapping[str, int]
    turns: Mapping[str, datetime] = field(default_factory=dict)

    def turn(self, user_id: str, *, in_flight: int) -> tuple[int, datetime]:
        """Give what users are sorted by: the fewest in flight first, then the longest without."""
        return in_flight, self.turns.get(user_id, _NEVER)


_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a job stands in its user's line, from 1 on, and what moves that line."""

    position: int
    in_flight: int
    is_paused: bool


def choose(waiting: Iterable[Waiting], *, load: Load, free: int) -> Sequence[Waiting]:
    """Fill `free` places so that who has the fewest jobs in flight comes first.

    Whoever has a thousand jobs waiting thus delays another's single job by none of them. Among
    equals it is the one who had no turn for longest: with fewer places than users nobody would ever
    have more in flight than another, and the oldest line would have every turn.
    """
    users = Counter(load.by_user)
    keys = Counter(load.by_key)
    turns: list[tuple[tuple[int, datetime], str, Waiting]] = []
    for job in sorted(waiting, key=lambda job: (job.priority, job.job_id)):
        if users[job.user_id] >= load.user_limits.get(job.user_id, users[job.user_id] + 1):
            continue
        if keys[job.key_id] >= load.key_limits.get(job.key_id, keys[job.key_id] + 1):
            continue
        turn = load.turn(job.user_id, in_flight=users[job.user_id])
        turns.append((turn, job.job_id, job))
        users[job.user_id] += 1
        keys[job.key_id] += 1
    turns.sort(key=lambda turn: turn[:2])
    return [job for _, _, job in turns[:free]]
