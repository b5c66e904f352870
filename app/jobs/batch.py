"""Accept many requests for jobs in one transaction; the callers of JobIntake do not know."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CTE, delete, select, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.errors import UnauthenticatedError
from app.core.clock import Clock
from app.core.errors import FieldError, ProblemError
from app.core.natural_batch import NaturalBatch
from app.db.engine import Database
from app.db.models import ApiKeyRow, IdempotencyKeyRow, JobRow, UserRow
from app.db.prepared import made_once
from app.db.rows import NewRows, Rows
from app.db.statements import instant, table_of
from app.events.log import JobEvent
from app.jobs.announce import announce
from app.jobs.errors import IdempotencyConflictError, InvalidInputError
from app.jobs.models import Job, NewJob
from app.jobs.places import with_places
from app.jobs.repository import JobRepository
from app.jobs.state import JobState
from app.quotas import ledger, shadow
from app.quotas.policy import Measure, to_units
from app.quotas.shadow import Finding
from app.quotas.standings import Caller, Standings
from app.storage import uses
from app.storage.uses import FileUse

KEY_LIFE = timedelta(hours=24)

_Claim = tuple[str, str]  # user, idempotency key
_Caller = tuple[str, str]  # user, API key


@dataclass(frozen=True, slots=True)
class Accepted:
    """`standings` tell how the caller's limits stand since; of a replay they say nothing."""

    job: Job
    replayed: bool
    standings: Standings | None = None


class AcceptBatch:
    """Answers each caller after the commit that holds its job, its event and its key."""

    def __init__(
        self, *, database: Database, clock: Clock, file_life: timedelta, job_timeout: timedelta
    ) -> None:
        self._database = database
        self._file_life = file_life
        self._job_timeout = job_timeout
        self._clock = clock
        self.accept = NaturalBatch(self._accept_all)

    async def find_replay(
        self, *, user_id: str, idempotency_key: str, fingerprint: str
    ) -> Accepted | None:
        """Give the job that this key already made, or raise IdempotencyConflictError."""

        async def work(connection: AsyncConnection) -> Accepted | None:
            claim = (user_id, idempotency_key)
            holders = await _holders(connection, [claim], at=self._clock.now())
            if claim not in holders:
                return None
            jobs = await JobRepository(connection).find_many([holders[claim].job_id])
            return _replayed(holders[claim], fingerprint, jobs=jobs)

        return await self._database.look_up(work)

    async def _accept_all(self, requests: Sequence[NewJob]) -> Sequence[Accepted | Exception]:
        tries = 0

        async def work(
            tx: AsyncConnection,
        ) -> tuple[Sequence[Accepted | Exception], Sequence[Finding]]:
            nonlocal tries
            tries += 1
            at = self._clock.now()
            # Looked for only when a try has failed: a job whose caller was deleted after it was
            # authenticated would take its neighbours down with it.
            callers = await _lock_callers(tx, requests) if tries > 1 else None
            known = [request for request in requests if callers is None or _of(request) in callers]
            beaten = await _claim_keys(tx, known, at=at)
            first = [request for request in known if request.id not in beaten]
            refused = await self._lost_files(tx, first, at=at)
            sound = [request for request in first if request.id not in refused]
            held = await ledger.hold_all(
                tx,
                [_claim(request) for request in sound],
                unknown_since=at - self._job_timeout,
                at=at,
            )
            refused |= held.refused
            fresh = [request for request in first if request.id not in refused]
            if fresh:
                await _JOBS.add(tx, [_row(request) for request in fresh])
                if named := _files_of(fresh):
                    await uses.link(tx, named, expires_at=at + self._file_life)
                await announce(tx, [_first_event(request) for request in fresh])
            if refused:
                await _unbind_keys(tx, refused)
            jobs = {
                job.id: job
                for job in await with_places(tx, [_as_job(request) for request in fresh])
            }
            if earlier := {holder.job_id for holder in beaten.values()} - set(refused) - set(jobs):
                jobs |= await JobRepository(tx).find_many(sorted(earlier))
            gone = {request.id for request in requests} - {request.id for request in known}
            answers = [
                UnauthenticatedError("This API key or its user was deleted.")
                if request.id in gone
                else _answer(
                    request,
                    beaten.get(request.id),
                    refused=refused,
                    standings=held.standings,
                    jobs=jobs,
                )
                for request in requests
            ]
            return answers, held.findings

        answers, findings = await self._database.transact(work)
        shadow.tell(findings)
        return answers

    async def _lost_files(
        self, tx: AsyncConnection, requests: Sequence[NewJob], *, at: datetime
    ) -> dict[str, ProblemError]:
        """Refuse requests whose files were deleted since they were checked; the rest is locked."""
        named = _files_of(requests)
        usable = await uses.lock_usable(tx, named, at=at) if named else set()
        lost: dict[str, ProblemError] = {}
        for request in requests:
            gone = [use for use in request.files if (use.file_id, request.user_id) not in usable]
            if gone:
                lost[request.id] = InvalidInputError([_gone(use) for use in gone])
        return lost


def _files_of(requests: Sequence[NewJob]) -> Mapping[str, Sequence[FileUse]]:
    return {request.id: request.files for request in requests if request.files}


def _gone(use: FileUse) -> FieldError:
    return FieldError(
        pointer=use.pointer,
        code="unknown_file",
        detail="The file named here has expired; upload it again with POST /v1/files.",
    )


@dataclass(frozen=True, slots=True)
class _Holder:
    job_id: str
    fingerprint: str


def _of(request: NewJob) -> _Caller:
    return request.user_id, request.key_id


async def _lock_callers(tx: AsyncConnection, requests: Iterable[NewJob]) -> set[_Caller]:
    """Give who is still there, user and key, and keeps being there until the transaction ends."""
    wanted = {_of(request) for request in requests}
    users = await tx.execute(
        select(UserRow.id)
        .where(UserRow.id.in_(sorted({user_id for user_id, _ in wanted})))
        .order_by(UserRow.id)
        .with_for_update(read=True, key_share=True)
    )
    keys = await tx.execute(
        select(ApiKeyRow.id)
        .where(ApiKeyRow.id.in_(sorted({key_id for _, key_id in wanted})))
        .order_by(ApiKeyRow.id)
        .with_for_update(read=True, key_share=True)
    )
    found = set(users.scalars()), set(keys.scalars())
    return {(user, key) for user, key in wanted if user in found[0] and key in found[1]}


async def _claim_keys(
    tx: AsyncConnection, requests: Sequence[NewJob], *, at: datetime
) -> Mapping[str, _Holder]:
    """Bind each key to the first request that has it; gives who came too late, by job id."""
    claims: dict[_Claim, NewJob] = {}
    for request in requests:
        if request.idempotency_key is not None:
            claims.setdefault((request.user_id, request.idempotency_key), request)
    if not claims:
        return {}
    # Sorted, so that two replicas that claim the same keys wait for each other in one direction.
    wanted = [
        {
            "user_id": user_id,
            "key": key,
            "job_id": request.id,
            "fingerprint": request.fingerprint,
            "expires_at": at + KEY_LIFE,
        }
        for (user_id, key), request in sorted(claims.items())
    ]
    bound = await tx.execute(_BIND[tx.dialect.name], {**_KEYS.as_parameter(tx, wanted), "at": at})
    holders: dict[_Claim, _Holder] = {}
    for user_id, key in bound:
        first = claims[user_id, key]
        holders[user_id, key] = _Holder(first.id, first.fingerprint)
    if taken := claims.keys() - holders.keys():
        holders |= await _holders(tx, sorted(taken), at=at)
    return {
        request.id: holder
        for request in requests
        if request.idempotency_key is not None
        and (holder := holders[request.user_id, request.idempotency_key]).job_id != request.id
    }


async def _holders(
    connection: AsyncConnection, claims: Sequence[_Claim], *, at: datetime
) -> Mapping[_Claim, _Holder]:
    asked = [{"user_id": user_id, "key": key} for user_id, key in claims]
    found = await connection.execute(
        _FIND_HOLDERS[connection.dialect.name],
        {**_CLAIMS.as_parameter(connection, asked), "at": at},
    )
    return {(row.user_id, row.key): _Holder(row.job_id, row.fingerprint) for row in found}


async def _unbind_keys(tx: AsyncConnection, refused: Iterable[str]) -> None:
    """Let go of the keys of refused requests: the next one with such a key is a new one."""
    await tx.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.job_id.in_(sorted(refused))))


def _answer(
    request: NewJob,
    holder: _Holder | None,
    *,
    refused: Mapping[str, ProblemError],
    standings: Mapping[str, Standings],
    jobs: Mapping[str, Job],
) -> Accepted | Exception:
    if holder is None:
        return refused.get(request.id) or Accepted(
            jobs[request.id], replayed=False, standings=standings[request.id]
        )
    if refusal := refused.get(holder.job_id):
        is_same = holder.fingerprint == request.fingerprint
        return refusal if is_same else IdempotencyConflictError(holder.job_id)
    try:
        return _replayed(holder, request.fingerprint, jobs=jobs)
    except IdempotencyConflictError as exc:
        return exc


def _replayed(holder: _Holder, fingerprint: str, *, jobs: Mapping[str, Job]) -> Accepted:
    """Give the key's job again; a key outlives a job that was erased, lest a retry pays twice."""
    if holder.fingerprint != fingerprint:
        raise IdempotencyConflictError(holder.job_id)
    if holder.job_id not in jobs:
        raise IdempotencyConflictError(holder.job_id, is_erased=True)
    return Accepted(jobs[holder.job_id], replayed=True)


def _bind(new: CTE, dialect: Any) -> Any:
    """Give each key to its job, unless another has it that has not expired; name those given."""
    bound = dialect.insert(_KEY).from_select(
        [each.name for each in new.c],
        select(new).where(true()),  # else SQLite takes ON CONFLICT for the ON of a join
    )
    return bound.on_conflict_do_update(
        index_elements=[_KEY.c.user_id, _KEY.c.key],
        set_={name: bound.excluded[name] for name in ("job_id", "fingerprint", "expires_at")},
        where=_KEY.c.expires_at <= instant("at"),
    ).returning(_KEY.c.user_id, _KEY.c.key)


_JOBS = NewRows(JobRow)
_KEY = table_of(IdempotencyKeyRow)
_DIALECTS = {"sqlite": sqlite, "postgresql": postgresql}
_KEYS = Rows(*_KEY.columns)
_BIND = {name: made_once(_bind(new, _DIALECTS[name])) for name, new in _KEYS.on.items()}
_CLAIMS = Rows(_KEY.c.user_id, _KEY.c.key)
_FIND_HOLDERS = _CLAIMS.in_statement(
    lambda asked: select(_KEY.c.user_id, _KEY.c.key, _KEY.c.job_id, _KEY.c.fingerprint).where(
        _KEY.c.user_id == asked.c.user_id,
        _KEY.c.key == asked.c.key,
        _KEY.c.expires_at > instant("at"),
    )
)


def _claim(request: NewJob) -> ledger.Claim:
    return ledger.Claim(
        job_id=request.id,
        caller=Caller(policy=request.policy, user_id=request.user_id, key_id=request.key_id),
        model=request.model,
        output_seconds=request.output_seconds,
        price_usd=request.price_usd,
    )


def _first_event(request: NewJob) -> JobEvent:
    return JobEvent(job_id=request.id, seq=1, type=JobState.PENDING.value, at=request.created_at)


def _row(request: NewJob) -> dict[str, Any]:
    seconds, price = request.output_seconds, request.price_usd
    return {
        "id": request.id,
        "user_id": request.user_id,
        "key_id": request.key_id,
        "token_id": allowance.token_id if (allowance := request.policy.allowance) else None,
        "model": request.model,
        "schema_hash": request.schema_hash,
        "input": request.input,
        "metadata": request.metadata,
        "webhook_url": request.webhook_url,
        "traceparent": request.traceparent,
        "output_milliseconds": (
            None if seconds is None else to_units(Measure.MILLISECONDS, seconds)
        ),
        "input_class": request.input_class,
        "priority": int(request.priority),
        "start_deadline_at": request.start_deadline_at,
        "price_micro_usd": None if price is None else to_units(Measure.MICRO_USD, price),
        "cost_state": "held",
        "state": JobState.PENDING.value,
        "event_seq": 1,
        "attempts": 0,
        "refusals": 0,
        "lost_polls": 0,
        "due_at": request.created_at,
        "created_at": request.created_at,
    }


def _as_job(request: NewJob) -> Job:
    return Job(
        id=request.id,
        user_id=request.user_id,
        model=request.model,
        schema_hash=request.schema_hash,
        input=request.input,
        metadata=request.metadata,
        output_seconds=request.output_seconds,
        input_class=request.input_class,
        priority=int(request.priority),
        price_usd=request.price_usd,
        cost_state="held",
        state=JobState.PENDING,
        event_seq=1,
        queue_position=None,
        output=None,
        error=None,
        cancel_requested_at=None,
        cancel_outcome=None,
        created_at=request.created_at,
        submitted_at=None,
        started_at=None,
        finished_at=None,
        traceparent=request.traceparent,
    )
