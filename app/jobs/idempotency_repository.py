"""The statements on idempotency keys: which job each made, and from which body."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import IdempotencyKeyRow
from app.db.rows import Rows
from app.db.statements import instant, table_of
from app.jobs.models import NewJob

UsersKey = tuple[str, str]
"""A user, and an idempotency key of theirs."""

_LIFE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Holder:
    """The job that a key made, and the fingerprint of the body it was made from."""

    job_id: str
    fingerprint: str


class IdempotencyRepository:
    def __init__(self, tx: AsyncConnection) -> None:
        self._tx = tx

    async def claim(self, requests: Sequence[NewJob], *, at: datetime) -> Mapping[str, Holder]:
        """Bind each key to the first request that has it.

        Returns, by request id, the job that holds the key instead, where there is one.
        """
        first: dict[UsersKey, NewJob] = {}
        for request in requests:
            if request.idempotency_key is not None:
                first.setdefault((request.user_id, request.idempotency_key), request)
        if not first:
            return {}
        rows = [
            {
                "user_id": user_id,
                "key": key,
                "job_id": request.id,
                "fingerprint": request.fingerprint,
                "expires_at": at + _LIFE,
            }
            for (user_id, key), request in first.items()
        ]
        bound = await _BIND.execute(self._tx, rows, at=at)
        holders: dict[UsersKey, Holder] = {}
        for user_id, key in bound:
            request = first[user_id, key]
            holders[user_id, key] = Holder(request.id, request.fingerprint)
        if taken := first.keys() - holders.keys():
            holders |= await self.find(sorted(taken), at=at)
        return {
            request.id: holder
            for request in requests
            if request.idempotency_key is not None
            and (holder := holders[request.user_id, request.idempotency_key]).job_id != request.id
        }

    async def find(self, keys: Sequence[UsersKey], *, at: datetime) -> Mapping[UsersKey, Holder]:
        """Return who holds the keys, leaving out those that are unbound or expired."""
        asked = [{"user_id": user_id, "key": key} for user_id, key in keys]
        found = await _FIND.execute(self._tx, asked, at=at)
        return {(row.user_id, row.key): Holder(row.job_id, row.fingerprint) for row in found}

    async def unbind(self, job_ids: Iterable[str]) -> None:
        """Release the keys of refused requests, so that the next request with one counts as new."""
        await self._tx.execute(
            delete(IdempotencyKeyRow).where(IdempotencyKeyRow.job_id.in_(sorted(job_ids)))
        )


def _unless_held(bound: Any) -> Any:
    """Bind each key to its job unless another job holds it unexpired; return those bound."""
    return bound.on_conflict_do_update(
        index_elements=[_TABLE.c.user_id, _TABLE.c.key],
        set_={name: bound.excluded[name] for name in ("job_id", "fingerprint", "expires_at")},
        where=_TABLE.c.expires_at <= instant("at"),
    ).returning(_TABLE.c.user_id, _TABLE.c.key)


_TABLE = table_of(IdempotencyKeyRow)
_BIND = Rows(*_TABLE.columns).in_upsert(IdempotencyKeyRow, _unless_held)
_ASKED = Rows(_TABLE.c.user_id, _TABLE.c.key)
_FIND = _ASKED.in_statement(
    lambda asked: select(
        _TABLE.c.user_id, _TABLE.c.key, _TABLE.c.job_id, _TABLE.c.fingerprint
    ).where(
        _TABLE.c.user_id == asked.c.user_id,
        _TABLE.c.key == asked.c.key,
        _TABLE.c.expires_at > instant("at"),
    )
)
