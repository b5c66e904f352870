"""The statements that look along the line of waiting jobs, user by user and not job by job."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from itertools import zip_longest
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    and_,
    bindparam,
    case,
    false,
    func,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from app.db.models import ApiKeyRow, JobRow, PlanRow, UserRow
from app.db.prepared import made_once
from app.db.rows import Rows
from app.db.statements import among, instant, one_of, table_of
from app.db.users import is_plan_of
from app.jobs.state import IN_FLIGHT, JobState
from app.jobs.waiting.fairness import Load, Waiting
from app.quotas.policy import LimitName, Limits, stored_limits, tightest

_JOBS, _USERS = table_of(JobRow), table_of(UserRow)
_NOBODY = ""  # no user has this id


@dataclass(frozen=True, slots=True)
class _Head:
    """The first job of a user that could start, the user's limits, and when one was sent last."""

    job_id: str
    limits: Limits
    turn_at: datetime | None


class LineRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def count_in_flight(
        self, *, unknown_since: datetime
    ) -> tuple[Counter[str], Counter[str]]:
        """Count by user and by key the jobs that upstream has, or may have, from their rows."""
        users: Counter[str] = Counter()
        keys: Counter[str] = Counter()
        found = await self._tx.execute(_IN_FLIGHT, {"unknown_since": unknown_since})
        for user_id, key_id, count in found:
            users[user_id] += count
            keys[key_id] += count
        return users, keys

    async def first_in_line(
        self,
        *,
        users: Mapping[str, int],
        keys: Mapping[str, int],
        takes_few: bool,
        at: datetime,
        most: int,
    ) -> tuple[Sequence[Waiting], Load]:
        """Return the next jobs of the `most` users whose turn is nearest, and what limits them.

        `users` and `keys` count what is in flight. Users at their limit are skipped here, or they
        might take up all `most` places without starting anything.
        """
        key_limits = await self._key_limits(keys)
        full_keys = [key for key, limit in key_limits.items() if keys[key] >= limit]
        # A key may act for many users, whose turns it must not use up once it is full.
        heads = await self._heads(without=full_keys, at=at)
        user_limits = _concurrency({user: head.limits for user, head in heads.items()})
        open_to = [
            user for user in heads if users.get(user, 0) < user_limits.get(user, sys.maxsize)
        ]
        load = Load(
            by_user=users,
            by_key=keys,
            user_limits=user_limits,
            key_limits=key_limits,
            turns={user: head.turn_at for user, head in heads.items() if head.turn_at is not None},
            takes_few=takes_few,
        )
        open_to.sort(
            key=lambda user: (load.turn(user, in_flight=users.get(user, 0)), heads[user].job_id)
        )
        waiting = await self._lines(open_to[:most], without=full_keys, at=at, most=most)
        new_keys = {job.key_id for job in waiting} - set(keys)
        return waiting, replace(load, key_limits=key_limits | await self._key_limits(new_keys))

    async def note_turns(self, turns: Mapping[str, datetime]) -> None:
        """Put these users last among those with as many jobs in flight."""
        noted = [{"id": user_id, "turn_at": turn_at} for user_id, turn_at in turns.items()]
        await _NOTE_TURNS.execute(self._tx, noted)

    async def _lines(
        self, users: Sequence[str], *, without: Sequence[str], at: datetime, most: int
    ) -> Sequence[Waiting]:
        if not users:
            return []
        # Rounded up to a power of two, so that only a few statements are ever made.
        places = 1 << (len(users) - 1).bit_length()
        named = zip_longest(map(_user, range(places)), users, fillvalue=_NOBODY)
        found = await self._tx.execute(
            _lines_of(places), {**dict(named), "without": without, "at": at, "most": most}
        )
        return [
            Waiting(job_id=job_id, user_id=user_id, key_id=key_id, priority=priority)
            for job_id, user_id, key_id, priority in found
        ]

    async def _heads(self, *, without: Sequence[str], at: datetime) -> Mapping[str, _Head]:
        """Return the first waiting job of each user, and what limits that user."""
        found = await self._tx.execute(_HEADS, {"without": without, "at": at})
        return {
            user: _Head(job_id, stored_limits(plan) | stored_limits(own), turn_at)
            for user, job_id, own, plan, turn_at in found
            if job_id is not None
        }

    async def _key_limits(self, key_ids: Iterable[str]) -> dict[str, int]:
        wanted = sorted(key_ids)
        if not wanted:
            return {}
        found = await self._tx.execute(_LIMITS_OF_KEYS, {"ids": wanted})
        return _concurrency({key: stored_limits(limits) for key, limits in found})


def startable(job: Any) -> ColumnElement[bool]:
    """The condition for what may be sent `at` the time the statement is run with."""
    at = instant("at")
    return and_(
        job.state == JobState.PENDING.value,
        job.due_at <= at,
        job.cancel_requested_at.is_(None),
        or_(job.start_deadline_at.is_(None), job.start_deadline_at > at),
    )


def _concurrency(limits: Mapping[str, Limits]) -> dict[str, int]:
    return {
        owner: int(most)
        for owner, own in limits.items()
        if (most := tightest(LimitName.CONCURRENT_JOBS, own)) is not None
    }


# A CASE, which SQLite cannot search by: otherwise it would go through all jobs that wait.
IS_STARTABLE = case((startable(_JOBS.c), true()), else_=false())
_COUNT = select(JobRow.user_id, JobRow.key_id, func.count())
# State by state, as an index has them; only those of unknown outcome are read one by one.
_IN_FLIGHT = made_once(
    union_all(
        _COUNT.where(one_of(JobRow.state, IN_FLIGHT - {JobState.SUBMIT_UNKNOWN})).group_by(
            JobRow.state, JobRow.user_id, JobRow.key_id
        ),
        _COUNT.where(
            JobRow.state == JobState.SUBMIT_UNKNOWN,
            JobRow.lease_expires_at > instant("unknown_since"),
        ).group_by(JobRow.user_id, JobRow.key_id),
    )
)


def _heads() -> Select[Any]:
    """Step from user to user along the index, and look for the first job of each."""
    first, following, head = aliased(JobRow), aliased(JobRow), aliased(JobRow)
    pending = JobState.PENDING.value
    users = (
        select(func.min(first.user_id).label("id"))
        .where(first.state == pending)
        .cte("waiting_users", recursive=True)
    )
    users = users.union_all(
        select(
            select(func.min(following.user_id))
            .where(following.state == pending, following.user_id > users.c.id)
            .scalar_subquery()
        ).where(users.c.id.is_not(None))
    )
    first_job = (
        select(head.id)
        .where(head.user_id == users.c.id, startable(head), ~among(head.key_id, "without"))
        .order_by(head.priority, head.id)
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(users.c.id, first_job, UserRow.limits, PlanRow.limits, UserRow.turn_at)
        .join(UserRow, UserRow.id == users.c.id)
        .outerjoin(PlanRow, is_plan_of(PlanRow, UserRow))
        .where(users.c.id.is_not(None))
    )


def _user(place: int) -> str:
    return f"user_{place}"


@cache
def _lines_of(places: int) -> CompoundSelect[Any]:
    """Return the first of each user's jobs, with one index lookup for each user."""
    lines = [
        select(_JOBS.c.id, _JOBS.c.user_id, _JOBS.c.key_id, _JOBS.c.priority)
        .where(
            _JOBS.c.user_id == bindparam(_user(place)),
            _JOBS.c.state == JobState.PENDING.value,
            IS_STARTABLE,
            ~among(_JOBS.c.key_id, "without"),
        )
        .order_by(_JOBS.c.priority, _JOBS.c.id)
        .limit(bindparam("most"))
        .subquery()
        for place in range(places)
    ]
    return made_once(union_all(*(select(line) for line in lines)))


_HEADS = made_once(_heads())
_LIMITS_OF_KEYS = made_once(
    select(ApiKeyRow.id, ApiKeyRow.limits).where(among(ApiKeyRow.id, "ids"))
)
_TURNS = Rows(_USERS.c.id, _USERS.c.turn_at)
_NOTE_TURNS = _TURNS.in_statement(
    lambda new: update(_USERS).where(_USERS.c.id == new.c.id).values(turn_at=new.c.turn_at)
)
