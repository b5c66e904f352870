"""Accepts many job requests in one transaction, unnoticed by the callers of JobIntake."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import Clock
from app.core.errors import FieldError, ProblemError, UnauthenticatedError
from app.core.natural_batch import NaturalBatch
from app.db.engine import Database
from app.db.models import ApiKeyRow, JobRow, UserRow
from app.db.rows import NewRows
from app.events.log import JobEvent
from app.jobs.announce import announce
from app.jobs.errors import IdempotencyConflictError, InvalidInputError
from app.jobs.idempotency_repository import Holder, IdempotencyRepository
from app.jobs.models import Job, NewJob
from app.jobs.repository import JobRepository
from app.jobs.state import JobState
from app.jobs.waiting.positions import with_places
from app.quotas import ledger, shadow
from app.quotas.policy import Measure, to_units
from app.quotas.shadow import Finding
from app.quotas.standings import Caller, Standings
from app.storage import job_files
from app.storage.job_files import FileUse


@dataclass(frozen=True, slots=True)
class Accepted:
    """`standings` are the caller's limits once the job is accepted; None for a replay."""

    job: Job
    replayed: bool
    standings: Standings | None = None


class AcceptBatch:
    """Answers each caller only once its job, first event and idempotency key are committed."""

    def __init__(
        self, *, database: Database, clock: Clock, file_life: timedelta, job_timeout: timedelta
    ) -> None:
        self._database = database
        self._file_life = file_life
        self._job_timeout = job_timeout
        self._clock = clock
        self.accept = NaturalBatch(self._accept_all)
        """Accept one job, batched with others that arrive meanwhile; raise if it is refused."""

    async def find_replay(
        self, *, user_id: str, idempotency_key: str, fingerprint: str
    ) -> Accepted | None:
        """Return the job this key already made, if any, or raise IdempotencyConflictError."""

        async def work(connection: AsyncConnection) -> Accepted | None:
            key = (user_id, idempotency_key)
            holders = await IdempotencyRepository(connection).find([key], at=self._clock.now())
            if key not in holders:
                return None
            jobs = await JobRepository(connection).find_many([holders[key].job_id])
            return _replayed(holders[key], fingerprint, jobs=jobs)

        replay = await self._database.look_up(work)
        if replay is not None:
            await self._database.transact(lambda tx: JobRepository(tx).confirm(replay.job.id))
        return replay

    async def _accept_all(self, requests: Sequence[NewJob]) -> Sequence[Accepted | Exception]:
        tries = 0

        async def work(
            tx: AsyncConnection,
        ) -> tuple[Sequence[Accepted | Exception], Sequence[Finding]]:
            nonlocal tries
            tries += 1
            at = self._clock.now()
            # Looked for only after a failed try: one caller deleted since it was authenticated
            # would otherwise fail the whole batch.
            refused = await _lost_callers(tx, requests) if tries > 1 else {}
            known = [request for request in requests if request.id not in refused]
            keys = IdempotencyRepository(tx)
            beaten = await keys.claim(known, at=at)
            first = [request for request in known if request.id not in beaten]
            refused |= await _lost_files(tx, first, at=at)
            sound = [request for request in first if request.id not in refused]
            held = await ledger.hold_all(
                tx,
                [_quota_claim(request) for request in sound],
                unknown_since=at - self._job_timeout,
                at=at,
            )
            refused |= held.refused
            if refused:
                await keys.unbind(refused)
            fresh = [request for request in sound if request.id not in refused]
            jobs = await self._add(tx, fresh, at=at)
            if earlier := {holder.job_id for holder in beaten.values()} - set(refused) - set(jobs):
                jobs |= await JobRepository(tx).find_many(sorted(earlier))
            answers = [
                _answer(
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
        shadow.log_findings(findings)
        return answers

    async def _add(
        self, tx: AsyncConnection, fresh: Sequence[NewJob], *, at: datetime
    ) -> dict[str, Job]:
        """Write jobs with their files and first events; return them with their places in line."""
        if fresh:
            await _JOBS.add(tx, [_row(request) for request in fresh])
            if named := _files_of(fresh):
                await job_files.link(tx, named, expires_at=at + self._file_life)
            await announce(tx, [_first_event(request) for request in fresh])
        jobs = await with_places(tx, [_as_job(request) for request in fresh])
        return {job.id: job for job in jobs}


async def _lost_callers(tx: AsyncConnection, requests: Sequence[NewJob]) -> dict[str, ProblemError]:
    """Refuse requests whose user or key was deleted since; lock the users and keys of the rest."""
    users = await _locked(tx, UserRow, {request.user_id for request in requests})
    keys = await _locked(tx, ApiKeyRow, {request.key_id for request in requests})
    return {
        request.id: UnauthenticatedError("This API key or its user was deleted.")
        for request in requests
        if request.user_id not in users or request.key_id not in keys
    }


async def _locked(
    tx: AsyncConnection, row: type[UserRow | ApiKeyRow], ids: Collection[str]
) -> set[str]:
    """Return which of these exist, locked against deletion until the transaction ends."""
    found = await tx.execute(
        select(row.id)
        .where(row.id.in_(sorted(ids)))
        .order_by(row.id)
        .with_for_update(read=True, key_share=True)
    )
    return set(found.scalars())


async def _lost_files(
    tx: AsyncConnection, requests: Sequence[NewJob], *, at: datetime
) -> dict[str, ProblemError]:
    """Refuse requests whose files were deleted since they were checked; lock the other files."""
    named = _files_of(requests)
    usable = await job_files.lock_usable(tx, named, at=at) if named else set()
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


def _answer(
    request: NewJob,
    holder: Holder | None,
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


def _replayed(holder: Holder, fingerprint: str, *, jobs: Mapping[str, Job]) -> Accepted:
    """Return the key's job again; a key outlives its erased job, so that no retry pays twice."""
    if holder.fingerprint != fingerprint:
        raise IdempotencyConflictError(holder.job_id)
    if holder.job_id not in jobs:
        raise IdempotencyConflictError(holder.job_id, is_erased=True)
    return Accepted(jobs[holder.job_id], replayed=True)


_JOBS = NewRows(JobRow)


def _quota_claim(request: NewJob) -> ledger.Claim:
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
        created_at=request.created_at,
        traceparent=request.traceparent,
    )
