"""What clients may do with jobs; each method is one transaction, or a few short reads."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.errors import ModelNotAllowedError
from app.auth.models import Principal
from app.catalogue.checker import MAX_ERRORS, Checked
from app.catalogue.model import Model
from app.catalogue.service import Catalogue
from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.elsewhere import elsewhere
from app.core.errors import DatabaseUnavailableError, ProblemError
from app.core.ids import is_id, new_id
from app.core.tracing import Tracing
from app.db.engine import Database
from app.events.log import JobEvent
from app.jobs.announce import announce
from app.jobs.batch import AcceptBatch, Accepted, claim_of
from app.jobs.durations import input_class
from app.jobs.errors import (
    InvalidInputError,
    JobNotFinalError,
    JobNotFoundError,
    NotCancellableError,
)
from app.jobs.forecast import Forecast
from app.jobs.inputs import JobInputs
from app.jobs.line import Priority
from app.jobs.models import Job, JobFilter, NewJob
from app.jobs.outcomes import CANCELLED_LOCALLY, NOT_CANCELLABLE
from app.jobs.prices import prices_of
from app.jobs.repository import JobRepository
from app.jobs.state import FOLLOWED, JobState
from app.media.inspector import MediaInspector
from app.quotas import ledger
from app.quotas.account import Standing
from app.quotas.prices import PricesService
from app.quotas.pricing import price_of
from app.quotas.repository import EntryKind
from app.quotas.service import QuotaService
from app.storage import discards
from app.storage.discards import Sweeper
from app.storage.errors import StorageUnavailableError
from app.webhooks.addresses import WebhookAddresses

CancelOutcome = Literal["cancelled_locally", "cancelled_upstream", "cancel_requested"]

_CANCEL_PATIENCE = timedelta(seconds=10)
_CANCEL_LOOK = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    model: str
    input: Mapping[str, Any]
    metadata: dict[str, str]
    priority: Priority
    start_within: timedelta | None
    webhook_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a submit would find; the standings come with whose limit it is, `user` or `key`."""

    checked: Checked
    price_usd: Decimal | None
    standings: Sequence[tuple[str, Standing]]


class JobService:
    """`dispatcher`, `poller` and `deliverer` ring the loops of this process, if it has any."""

    def __init__(
        self,
        *,
        database: Database,
        catalogue: Catalogue,
        clock: Clock,
        closing: asyncio.Event,
        dispatcher: Doorbell,
        media: MediaInspector,
        forecast: Forecast,
        poller: Doorbell,
        deliverer: Doorbell,
        webhook_addresses: WebhookAddresses,
        prices: PricesService,
        quotas: QuotaService,
        tracing: Tracing,
        allow_private_networks: bool,
        inputs: JobInputs,
        sweeper: Sweeper,
        file_life: timedelta,
    ) -> None:
        self._database = database
        self._tracing = tracing
        self._catalogue = catalogue
        self._clock = clock
        self._closing = closing
        self._dispatcher = dispatcher
        self._media = media
        self._forecast = forecast
        self._poller = poller
        self._deliverer = deliverer
        self._webhook_addresses = webhook_addresses
        self._prices = prices
        self._quotas = quotas
        self._allow_private_networks = allow_private_networks
        self._inputs = inputs
        self._sweeper = sweeper
        self._batch = AcceptBatch(database=database, clock=clock, file_life=file_life)

    async def preview(self, request: JobRequest, *, principal: Principal) -> Preview:
        """Tell what a submit would find, and count as one; nothing is held, nothing is sent.

        Raises UnknownModelError, ModelNotAllowedError, or QuotaExceededError for the rate alone.
        """
        await self._quotas.count_submit(
            principal.policy, user_id=principal.user_id, key_id=principal.key_id
        )
        model, checked = await self._check_all(request, principal=principal)
        checked = await self._inspected(checked, principal=principal)
        return Preview(
            checked=self._with_webhook(checked, request),
            price_usd=await self._price(model, checked),
            standings=await self._quotas.standings(
                principal.policy, user_id=principal.user_id, key_id=principal.key_id
            ),
        )

    def _check(self, request: JobRequest, *, principal: Principal) -> tuple[Model, Checked]:
        model = self._catalogue.get(request.model)
        if principal.models is not None and model.model_id not in principal.models:
            raise ModelNotAllowedError(model.model_id)
        return model, model.check(
            request.input, allow_private_networks=self._allow_private_networks
        )

    async def _check_all(
        self, request: JobRequest, *, principal: Principal
    ) -> tuple[Model, Checked]:
        """Check what the input says, then the files of the caller's that it names."""
        model, checked = self._check(request, principal=principal)
        flaws = await self._inputs.flaws(checked, user_id=principal.user_id)
        return model, replace(checked, errors=[*checked.errors, *flaws])

    async def _look_at_files(self, checked: Checked, *, principal: Principal) -> None:
        """Raise InvalidInputError for files that RunComfy would refuse."""
        if self._media.goes_out_for(checked.media):
            # Whoever has no submit left has no errands run for them either.
            await self._quotas.check_rate(
                principal.policy, user_id=principal.user_id, key_id=principal.key_id
            )
        checked = await self._inspected(checked, principal=principal)
        if checked.errors:
            raise InvalidInputError(checked.errors)

    async def _inspected(self, checked: Checked, *, principal: Principal) -> Checked:
        """Look at the files themselves too; the time that takes is that of their hosts."""
        wrong = {error.pointer for error in checked.errors}
        sound = [check for check in checked.media if check.pointer not in wrong]
        with elsewhere(self._clock):
            flaws = await self._media.inspect(sound, user_id=principal.user_id)
        return replace(checked, errors=[*checked.errors, *flaws][:MAX_ERRORS])

    async def find_replay(
        self, *, user_id: str, idempotency_key: str, fingerprint: str
    ) -> Accepted | None:
        """Give the job that this key already made; another fingerprint is a conflict."""
        return await self._batch.find_replay(
            user_id=user_id, idempotency_key=idempotency_key, fingerprint=fingerprint
        )

    async def submit(
        self,
        request: JobRequest,
        *,
        principal: Principal,
        idempotency_key: str | None,
        fingerprint: str,
    ) -> Accepted:
        """Accept a job, or give the one that this key made meanwhile; it is durable on return."""
        model, checked = await self._check_all(request, principal=principal)
        if checked.errors:
            raise InvalidInputError(checked.errors)
        if request.webhook_url is not None:
            self._webhook_addresses.check(request.webhook_url, field="webhook_url")
        try:
            await self._look_at_files(checked, principal=principal)
        except ProblemError:
            made = idempotency_key and await self.find_replay(
                user_id=principal.user_id,
                idempotency_key=idempotency_key,
                fingerprint=fingerprint,
            )
            if made:  # meanwhile, by a twin of this request whose files were fine
                return made
            raise
        price_usd = await self._price(model, checked)
        at = self._clock.now()
        start_within = request.start_within
        new = NewJob(
            id=new_id("job"),
            user_id=principal.user_id,
            key_id=principal.key_id,
            model=model.model_id,
            schema_hash=model.schema_hash,
            input=checked.input,
            metadata=request.metadata,
            webhook_url=request.webhook_url,
            output_seconds=checked.output_seconds,
            input_class=input_class(checked.input, checked.output_seconds),
            price_usd=price_usd,
            policy=principal.policy,
            priority=request.priority,
            start_deadline_at=None if start_within is None else at + start_within,
            created_at=at,
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            traceparent=self._tracing.current(),
        )
        ledger.check_known(claim_of(new))
        await self._forecast.refresh()
        accepted = await self._accept(new, checked)
        with suppress(DatabaseUnavailableError):  # a place is no promise, but the job now is
            accepted = replace(accepted, job=await self._batch.placed(accepted.job))
        self._dispatcher.ring()
        return accepted

    async def _accept(self, new: NewJob, checked: Checked) -> Accepted:
        """Store the input's data URIs first; what was stored for no new job is taken back."""
        kept = await self._inputs.keep(checked, user_id=new.user_id, job_id=new.id)
        accepted = None
        try:
            accepted = await self._batch.accept(replace(new, input=kept.input, files=kept.uses))
        finally:
            if accepted is None or accepted.replayed:
                await self._inputs.drop(kept)
        return accepted

    async def get(self, job_id: str, *, user_id: str) -> Job:
        async def work(connection: AsyncConnection) -> Job | None:
            return await JobRepository(connection).find(job_id, user_id=user_id)

        await self._forecast.refresh()
        return await self._found(job_id, work)

    async def find_many(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        """Give those of the jobs that are still there, whoever owns them."""

        async def work(connection: AsyncConnection) -> Mapping[str, Job]:
            return await JobRepository(connection).find_many(job_ids)

        return await self._database.read(work) if job_ids else {}

    async def get_signed(self, job_id: str) -> Job:
        """Give a job to the bearer of a link that this gateway signed."""

        async def work(connection: AsyncConnection) -> Job | None:
            return await JobRepository(connection).find_signed(job_id)

        return await self._found(job_id, work)

    async def page(
        self, *, user_id: str, matching: JobFilter, before: str | None, limit: int
    ) -> Sequence[Job]:
        async def work(connection: AsyncConnection) -> Sequence[Job]:
            return await JobRepository(connection).page(
                user_id=user_id, matching=matching, before=before, limit=limit
            )

        await self._forecast.refresh()
        return await self._database.read(work)

    async def cancel(
        self, job_id: str, *, user_id: str, awaits_submit: bool = False
    ) -> tuple[CancelOutcome, Job]:
        """Cancel here what was not sent, else let a worker ask upstream and wait for its answer.

        Raises NotCancellableError when it is too late. `cancel_requested` means that no answer came
        within 10 s, or before this process had to end, or that the job is just being sent, unless
        the caller waits for that too: the intent is kept and followed up.
        """
        await self.get(job_id, user_id=user_id)
        await self._intend_cancel(job_id, user_id=user_id)
        self._poller.ring()
        patience_ends = self._clock.monotonic() + _CANCEL_PATIENCE.total_seconds()
        while True:
            job = await self.get(job_id, user_id=user_id)
            outcome = _cancel_outcome(job)
            if outcome != "cancel_requested":
                return outcome, job
            if not (awaits_submit or job.state in FOLLOWED):
                return outcome, job
            if self._closing.is_set() or self._clock.monotonic() >= patience_ends:
                return outcome, job
            await self._clock.sleep(_CANCEL_LOOK)

    def _with_webhook(self, checked: Checked, request: JobRequest) -> Checked:
        if request.webhook_url is None:
            return checked
        fault = self._webhook_addresses.fault(request.webhook_url, field="webhook_url")
        return replace(checked, errors=[*checked.errors, fault]) if fault else checked

    async def _price(self, model: Model, checked: Checked) -> Decimal | None:
        return price_of(
            prices_of(model, await self._prices.current()),
            model=model.model_id,
            input=checked.input,
            output_seconds=checked.output_seconds,
        )

    async def _found(
        self, job_id: str, find: Callable[[AsyncConnection], Awaitable[Job | None]]
    ) -> Job:
        # What is no id is not asked for: a NUL in it would be an error to Postgres.
        job = await self._database.read(find) if is_id(job_id, prefix="job") else None
        if job is None:
            raise JobNotFoundError(job_id)
        return job

    async def erase(self, job_id: str, *, user_id: str) -> None:
        """Delete a job that has ended; its ledger entries, which have no inputs, stay."""
        job = await self.get(job_id, user_id=user_id)

        at = self._clock.now()

        async def work(tx: AsyncConnection) -> Sequence[str] | None:
            outputs = await discards.output_keys(tx, [job_id])
            if not await JobRepository(tx).erase(job_id, user_id=user_id):
                return None
            return await discards.discard_jobs(tx, [job_id], outputs=outputs, at=at)

        keys = await self._database.transact(work)
        if keys is None:
            raise JobNotFinalError(job.state.status)
        with suppress(StorageUnavailableError):  # the job is gone: the pruner deletes the rest
            await self._sweeper.delete(keys)

    async def _intend_cancel(self, job_id: str, *, user_id: str) -> None:
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> bool:
            jobs = JobRepository(tx)
            seq = await jobs.cancel_pending(job_id, user_id=user_id, at=at)
            if seq is None:
                await jobs.request_cancel(job_id, user_id=user_id, at=at)
                return False
            event = JobEvent(job_id=job_id, seq=seq, type=JobState.CANCELLED.value, at=at)
            to_deliver = await announce(tx, [event])
            await ledger.end_all(tx, {job_id: EntryKind.RELEASE}, at=at)
            return to_deliver

        if await self._database.transact(work):
            self._deliverer.ring()


def _cancel_outcome(job: Job) -> CancelOutcome:
    match job.state:
        case JobState.CANCELLED:
            local = job.cancel_outcome == CANCELLED_LOCALLY
            return "cancelled_locally" if local else "cancelled_upstream"
        case JobState.COMPLETED | JobState.FAILED:
            raise NotCancellableError(reason="finished")
        case JobState.SUBMIT_UNKNOWN:
            raise NotCancellableError(reason="submit_unknown")
        case JobState.IN_QUEUE | JobState.IN_PROGRESS if job.cancel_outcome == NOT_CANCELLABLE:
            raise NotCancellableError(reason="in_progress")
        case _:
            return "cancel_requested"
