"""Whether the process is alive, and whether it can serve."""

from typing import Any, Literal

from pydantic import BaseModel

from app.api.deps import Gateway
from app.api.problems import problem_responses
from app.api.routing import Router
from app.core.errors import DatabaseUnavailableError, ProblemError
from app.jobs.operations.health import ALIVE_FOR

router = Router(tags=["health"])

_READ_ONLY = (
    "The database answers, but took no write lately; is its disk full, is it a standby, or does it"
    " wait for one?"
)
_OTHER_SCHEMA = "The database's schema is not this release's; run `gateway db upgrade`."
_NO_WORKERS = (
    f"No process has looked for work in {ALIVE_FOR.total_seconds():.0f} s; is a `gateway worker` or"
    " another `gateway serve` running?"
)


class NotReadyError(ProblemError):
    code = "not_ready"
    title = "The gateway cannot serve now"
    status = 503

    def __init__(self, detail: str, **checks: Any) -> None:
        super().__init__(detail, headers={"Retry-After": "2"}, **checks)


class InterruptedRequestError(NotReadyError):
    def __init__(self) -> None:
        super().__init__(
            "This process had to stop before it had an answer. Send the request again, a submit"
            " under its Idempotency-Key: it may have been accepted."
        )


class UpstreamRead(BaseModel):
    """`open`, or why no such calls are made now; the gateway stays ready either way."""

    submits: str
    polls: str


class ReadyRead(BaseModel):
    status: Literal["ok"]
    database: Literal["ok"]
    migrations: Literal["ok"]
    workers: Literal["ok"]
    upstream: UpstreamRead


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Check that the process is alive")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Check that it can serve",
    description=(
        "200 if the database answers, its schema is this release's, and some process works on its "
        "jobs. An outage of RunComfy is reported but leaves the gateway ready; a process told to "
        "stop is not ready."
    ),
    responses=problem_responses(DatabaseUnavailableError, NotReadyError),
)
async def readyz(gateway: Gateway) -> ReadyRead:
    if gateway.closing.is_set():
        raise NotReadyError("This process was told to stop; send requests to another one.")
    health = await gateway.health.read()
    upstream = UpstreamRead(submits=health.submits, polls=health.polls)
    for is_ok, failed, detail in (
        (health.takes_writes, "database", _READ_ONLY),
        (health.is_schema_current, "migrations", _OTHER_SCHEMA),
        (health.has_workers, "workers", _NO_WORKERS),
    ):
        if not is_ok:
            raise NotReadyError(detail, failed=failed, upstream=upstream.model_dump())
    return ReadyRead(status="ok", database="ok", migrations="ok", workers="ok", upstream=upstream)
