"""/v1/client-tokens: short-lived credentials that a service makes for browser apps."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import Depends, Response
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.api.body import BODY_PROBLEMS, CreateBody, body_of, parse
from app.api.deps import Gateway, JsonBody, caller
from app.api.paging import Listed, Page, page_of_ids
from app.api.problems import problem_responses
from app.api.routing import caller_router
from app.auth.client_tokens.errors import ClientTokenNotFoundError, TooManyClientTokensError
from app.auth.client_tokens.models import ClientToken, ClientTokenRequest
from app.auth.errors import ModelNotAllowedError
from app.auth.models import Principal
from app.auth.scopes import Scope
from app.jobs.errors import JobNotFoundError
from app.jobs.models import Job, output_urls
from app.jobs.state import TERMINAL
from app.jobs.wire import Instant
from app.quotas.numbers import decimal_of, has_at_most, shown_usd

router = caller_router("/v1/client-tokens", tag="client tokens")

_LONGEST_S = 86_400
_MOST_USD = 1_000_000_000
_DECIMALS = 6  # of US dollars

Minter = Annotated[Principal, Depends(caller(Scope.TOKENS))]


def _dollars(value: Any) -> Decimal:
    amount = decimal_of(value)
    if amount is None or not has_at_most(amount, decimals=_DECIMALS) or not 0 < amount <= _MOST_USD:
        raise PydanticCustomError(
            "usd", 'it must be US dollars above 0 with at most 6 decimals, like "2.50" or 2.5'
        )
    return amount


class ClientTokenCreate(CreateBody):
    """Either `scopes`, which may be narrowed, or one `job` to read."""

    model_config = ConfigDict(extra="forbid", strict=True)

    scopes: Annotated[list[str], Field(min_length=1, max_length=50)] | None = Field(
        default=None, description="Any of jobs:read, jobs:write and files that the key has."
    )
    models: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="The models it may use; null: whatever the key may use."
    )
    max_jobs: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="How many jobs it may submit; released ones do not count."
    )
    max_cost_usd: Annotated[
        Decimal | None, BeforeValidator(_dollars, json_schema_input_type=str | float | None)
    ] = Field(default=None, description="What its jobs may cost in total.")
    job: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="It may read only this job: its state, events and outputs."
    )
    origin: Annotated[str, StringConstraints(max_length=300)] | None = Field(
        default=None,
        description="Requests must come from pages of this origin: one of GATEWAY_CORS_ORIGINS, or"
        " the gateway's own.",
    )
    expires_in: Annotated[int, Field(ge=1, le=_LONGEST_S, description="Seconds.")] = 900

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "ClientTokenCreate":
        narrowing = [self.scopes, self.models, self.max_jobs, self.max_cost_usd]
        if self.job is None and self.scopes is None:
            raise PydanticCustomError("kind", "name `scopes`, or the `job` that may be read")
        if self.job is not None and any(each is not None for each in narrowing):
            raise PydanticCustomError(
                "kind", "with a `job` there are only `origin` and `expires_in`: it may be read"
            )
        return self


class ClientTokenRead(BaseModel):
    object: Literal["client_token"] = "client_token"
    id: str
    scopes: list[str]
    models: list[str] | None
    max_jobs: int | None
    max_cost_usd: str | None
    job: str | None
    origin: str | None
    created_at: Instant
    expires_at: Instant


class ClientTokenUrls(BaseModel):
    """Links that need no credential and end with the token."""

    events: str
    outputs: list[str] = Field(description="The first link exists even before the job has ended.")


class ClientTokenMade(ClientTokenRead):
    token: str = Field(description="The token itself; it cannot be shown again.")
    urls: ClientTokenUrls | None = Field(description="With `job` only.")


class ClientTokenList(Listed[ClientTokenRead]):
    pass


_Page = Annotated[Page, Depends(page_of_ids("ctok"))]


@router.post(
    "",
    status_code=201,
    summary="Create a client token",
    description=(
        "It can never do more than the key that creates it, and ends with that key, that key's "
        "secret or its user. With `X-Gateway-User` it belongs to that user."
    ),
    openapi_extra=body_of(ClientTokenCreate),
    responses=problem_responses(
        *BODY_PROBLEMS, ModelNotAllowedError, JobNotFoundError, TooManyClientTokensError
    ),
)
async def create_client_token(
    gateway: Gateway, caller: Minter, body: JsonBody, response: Response
) -> ClientTokenMade:
    asked = parse(ClientTokenCreate, body)
    job = None if asked.job is None else await gateway.jobs.get(asked.job, user_id=caller.user_id)
    made = await gateway.client_tokens.create(_request(asked), principal=caller)
    response.headers["Location"] = f"{gateway.base_path}/v1/client-tokens/{made.token.id}"
    return ClientTokenMade(
        **dict(_read(made.token)),
        token=str(made.credential),
        urls=None if job is None else _urls(gateway, made.token, job),
    )


@router.get("", summary="List the live client tokens, newest first")
async def list_client_tokens(gateway: Gateway, caller: Minter, page: _Page) -> ClientTokenList:
    tokens = await gateway.client_tokens.page(
        user_id=caller.user_id, before=page.cursor, limit=page.to_read
    )
    return ClientTokenList.of(tokens, page, read=_read)


@router.delete(
    "/{token_id}",
    status_code=204,
    summary="Revoke a client token at once",
    description="Links created with it end too.",
    responses=problem_responses(ClientTokenNotFoundError),
)
async def revoke_client_token(gateway: Gateway, caller: Minter, token_id: str) -> None:
    await gateway.client_tokens.revoke(token_id, user_id=caller.user_id)


def _request(asked: ClientTokenCreate) -> ClientTokenRequest:
    return ClientTokenRequest(
        scopes=asked.scopes or [Scope.JOBS_READ],
        models=asked.models,
        job_id=asked.job,
        max_jobs=asked.max_jobs,
        max_cost_usd=asked.max_cost_usd,
        origin=asked.origin,
        life=timedelta(seconds=asked.expires_in),
    )


def _urls(gateway: Gateway, token: ClientToken, job: Job) -> ClientTokenUrls:
    # An unfinished job gets its first link now; it works once there is an output.
    outputs = len(output_urls(job.output)) if job.state in TERMINAL else 1
    links, until = gateway.links, token.expires_at
    return ClientTokenUrls(
        events=links.events(job.id, grant=token.id, until=until),
        outputs=[links.output(job.id, n, grant=token.id, until=until) for n in range(outputs)],
    )


def _read(token: ClientToken) -> ClientTokenRead:
    cost = token.max_cost_usd
    return ClientTokenRead(
        id=token.id,
        scopes=sorted(token.scopes),
        models=None if token.models is None else sorted(token.models),
        max_jobs=token.max_jobs,
        max_cost_usd=None if cost is None else shown_usd(cost),
        job=token.job_id,
        origin=token.origin,
        created_at=token.created_at,
        expires_at=token.expires_at,
    )
