"""How a job comes in: checked, priced, its media inspected, then accepted durably."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from app.auth.errors import ModelNotAllowedError
from app.auth.models import Principal
from app.catalogue.checker import Checked
from app.catalogue.model import Model
from app.catalogue.service import Catalogue
from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.errors import MAX_ERRORS, InvalidRequestError, ProblemError
from app.core.external_wait import external_wait
from app.core.ids import new_id
from app.core.tracing import Tracing
from app.db.engine import Database
from app.jobs.batch import AcceptBatch, Accepted
from app.jobs.errors import InvalidInputError
from app.jobs.inputs import JobInputs
from app.jobs.models import NewJob, Priority
from app.jobs.prices import prices_of
from app.jobs.timing.durations import input_class
from app.jobs.timing.forecast import Forecast
from app.media.errors import MediaUnreachableError
from app.media.inspector import MediaInspector
from app.net.reach import Reach
from app.quotas import ledger
from app.quotas.entries import amounts_of
from app.quotas.policy import Policy
from app.quotas.prices import PricesService
from app.quotas.pricing import price_of
from app.quotas.service import QuotaService
from app.quotas.standings import Standings
from app.webhooks.addresses import WebhookAddresses


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
    """What a submit would be told: the input's errors, its price and the caller's limits."""

    checked: Checked
    price_usd: Decimal | None
    standings: Standings


class JobIntake:
    """`dispatcher` is the doorbell of the loop that sends jobs, if this process has one."""

    def __init__(
        self,
        *,
        database: Database,
        catalogue: Catalogue,
        clock: Clock,
        dispatcher: Doorbell,
        media: MediaInspector,
        forecast: Forecast,
        webhook_addresses: WebhookAddresses,
        prices: PricesService,
        quotas: QuotaService,
        tracing: Tracing,
        media_reach: Reach,
        inputs: JobInputs,
        file_life: timedelta,
        job_timeout: timedelta,
    ) -> None:
        self._tracing = tracing
        self._catalogue = catalogue
        self._clock = clock
        self._dispatcher = dispatcher
        self._media = media
        self._forecast = forecast
        self._webhook_addresses = webhook_addresses
        self._prices = prices
        self._quotas = quotas
        self._media_reach = media_reach
        self._inputs = inputs
        self._batch = AcceptBatch(
            database=database, clock=clock, file_life=file_life, job_timeout=job_timeout
        )

    async def preview(self, request: JobRequest, *, principal: Principal) -> Preview:
        """Return what a submit would be told; this counts as one, but nothing is held or sent.

        Raises UnknownModelError, ModelNotAllowedError, MediaBusyError, or QuotaExceededError for
        the submit rate only.
        """
        await self._quotas.count_submit(principal)
        model, checked = await self._check(request, principal=principal)
        checked = self._with_webhook(await self._inspected(checked, principal=principal), request)
        price_usd = await self._price(model, checked)
        unknown = _unknown_amount(checked, model, price_usd=price_usd, policy=principal.policy)
        if unknown and not checked.errors:
            checked = replace(checked, errors=list(unknown.errors))
        return Preview(
            checked=checked,
            price_usd=price_usd,
            standings=await self._quotas.standings(principal),
        )

    async def find_replay(
        self, *, user_id: str, idempotency_key: str, fingerprint: str
    ) -> Accepted | None:
        """Return the job this key already made, if any; another fingerprint is a conflict."""
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
        """Accept a job, or return the one this key made meanwhile; durable once this returns."""
        model, checked = await self._check(request, principal=principal)
        if checked.errors:
            raise InvalidInputError(checked.errors)
        if request.webhook_url is not None:
            self._webhook_addresses.check(request.webhook_url, field="webhook_url")
        try:
            await self._require_usable_media(checked, principal=principal)
        except ProblemError:
            made = idempotency_key and await self.find_replay(
                user_id=principal.user_id, idempotency_key=idempotency_key, fingerprint=fingerprint
            )
            if made:  # meanwhile, by an identical request whose files were fine
                return made
            raise
        price_usd = await self._price(model, checked)
        unknown = _unknown_amount(checked, model, price_usd=price_usd, policy=principal.policy)
        if unknown:
            raise unknown
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
        await self._forecast.refresh()
        accepted = await self._accept(new, checked)
        self._dispatcher.ring()
        return accepted

    async def _accept(self, new: NewJob, checked: Checked) -> Accepted:
        """Store the input's data URIs first, and delete them again if no new job was made."""
        kept = await self._inputs.keep(checked, user_id=new.user_id, job_id=new.id)
        if kept.uses:
            new = replace(new, input=kept.input, files=kept.uses)
        accepted = None
        try:
            accepted = await self._batch.accept(new)
        finally:
            if accepted is None or accepted.replayed:
                await self._inputs.drop(kept)
        return accepted

    async def _check(self, request: JobRequest, *, principal: Principal) -> tuple[Model, Checked]:
        """Check the input itself, then the caller's files that it names."""
        model = self._catalogue.get(request.model)
        if principal.models is not None and model.model_id not in principal.models:
            raise ModelNotAllowedError(model.model_id)
        checked = model.check(request.input, reach=self._media_reach)
        flaws = await self._inputs.flaws(checked, user_id=principal.user_id)
        return model, replace(checked, errors=[*checked.errors, *flaws]) if flaws else checked

    async def _require_usable_media(self, checked: Checked, *, principal: Principal) -> None:
        """Raise InvalidInputError for media that RunComfy would refuse.

        If their only fault is that they could not be fetched, raise MediaUnreachableError instead.
        """
        if self._media.needs_fetch(checked.media):
            # Nothing is fetched for a caller whose submit rate is used up.
            await self._quotas.check_rate(principal)
        errors = (await self._inspected(checked, principal=principal)).errors
        if errors and all(error.code == MediaUnreachableError.code for error in errors):
            raise MediaUnreachableError(errors)
        if errors:
            raise InvalidInputError(errors)

    async def _inspected(self, checked: Checked, *, principal: Principal) -> Checked:
        """Inspect the media, too; how long that takes is up to their hosts."""
        wrong = {error.pointer for error in checked.errors}
        sound = [check for check in checked.media if wrong.isdisjoint(check.places)]
        with external_wait(self._clock):
            flaws = await self._media.inspect(sound, user_id=principal.user_id)
        if not (flaws or checked.errors):
            return checked
        return replace(checked, errors=[*checked.errors, *flaws][:MAX_ERRORS])

    def _with_webhook(self, checked: Checked, request: JobRequest) -> Checked:
        if request.webhook_url is None:
            return checked
        fault = self._webhook_addresses.fault(request.webhook_url, field="webhook_url")
        return replace(checked, errors=[*checked.errors, fault]) if fault else checked

    async def _price(self, model: Model, checked: Checked) -> Decimal | None:
        return price_of(
            prices_of(model, await self._prices.current()),
            input=checked.input,
            output_seconds=checked.output_seconds,
            outputs=checked.outputs,
        )


def _unknown_amount(
    checked: Checked, model: Model, *, price_usd: Decimal | None, policy: Policy
) -> InvalidRequestError | None:
    amounts = amounts_of(output_seconds=checked.output_seconds, price_usd=price_usd)
    return ledger.unknown_amount(policy, model=model.model_id, amounts=amounts)
