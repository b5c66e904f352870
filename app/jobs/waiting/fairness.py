"""Who is next: users take turns; within a user the more urgent, then the older job goes first."""

import sys
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    job_id: str
    user_id: str
    key_id: str
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many jobs are in flight, by user and by key, and how many may be; no entry: no limit.

    `turns` says when each user had the last one, no two at the same time; no entry: never. While
    upstream `takes_few`, turns ignore what was in flight before: a user whose jobs are all sent
    back would always have the fewest, and get every turn.
    """

    by_user: Mapping[str, int]
    by_key: Mapping[str, int]
    user_limits: Mapping[str, int]
    key_limits: Mapping[str, int]
    turns: Mapping[str, datetime] = field(default_factory=dict)
    takes_few: bool = False

    def turn(self, user_id: str, *, in_flight: int) -> tuple[int, int, datetime]:
        """Return what users are sorted by: the fewest in flight, then the longest without a turn.

        A turn given in this round is later than all before it.
        """
        given_now = in_flight - self.by_user.get(user_id, 0)
        load = given_now if self.takes_few else in_flight
        return load, given_now, self.turns.get(user_id, _NEVER)


_NEVER = datetime.min.replace(tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)


def turns_of(chosen: Iterable[Waiting], *, at: datetime) -> Mapping[str, datetime]:
    """Return when each user had their last turn in a round; no two at the same time.

    In a tie the oldest line would come first every time, and get all the places left over.
    """
    return {job.user_id: at + place * _INSTANT for place, job in enumerate(chosen)}


def choose(waiting: Iterable[Waiting], *, load: Load, free: int) -> Sequence[Waiting]:
    """Fill `free` places so that the user with the fewest jobs in flight comes first.

    So a thousand waiting jobs of one user do not delay a single job of another. Ties go to the user
    who has gone longest without a turn: with fewer places than users, nobody would ever have more
    in flight than another, and the oldest line would get every turn.
    """
    users = Counter(load.by_user)
    keys = Counter(load.by_key)
    lines: dict[str, deque[Waiting]] = {}
    for job in sorted(waiting, key=lambda job: (job.priority, job.job_id)):
        lines.setdefault(job.user_id, deque()).append(job)

    def find_turn(user_id: str) -> _Turn | None:
        """Return the turn of the user's first job that may start; jobs of full keys are dropped."""
        if users[user_id] >= load.user_limits.get(user_id, sys.maxsize):
            return None
        line = lines[user_id]
        while line and keys[line[0].key_id] >= load.key_limits.get(line[0].key_id, sys.maxsize):
            line.popleft()
        turn = load.turn(user_id, in_flight=users[user_id])
        return (turn, line[0].job_id, user_id) if line else None

    turns = [turn for user_id in lines if (turn := find_turn(user_id)) is not None]
    heapify(turns)
    chosen: list[Waiting] = []
    while turns and len(chosen) < free:
        expected = heappop(turns)
        user_id = expected[-1]
        turn = find_turn(user_id)
        if turn == expected:  # nobody took the last place of its key meanwhile
            job = lines[user_id].popleft()
            chosen.append(job)
            users[user_id] += 1
            keys[job.key_id] += 1
            turn = find_turn(user_id)
        if turn is not None:
            heappush(turns, turn)
    return chosen


_Turn = tuple[tuple[int, int, datetime], str, str]
"""What users are sorted by, with the job that would start and its user."""
