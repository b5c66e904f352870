"""Whether the process lives, and whether it can serve."""

from fastapi import APIRouter

from app.api.deps import Gateway
from app.api.problems import problem_responses
from app.core.errors import DatabaseUnavailableError

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Can it serve?",
    description="Asks the database; RunComfy being away does not make the gateway unready.",
    responses=problem_responses(DatabaseUnavailableError),
)
async def readyz(gateway: Gateway) -> dict[str, str]:
    await gateway.ping_database()
    return {"status": "ok"}
