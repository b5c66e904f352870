"""The one transaction that accepts jobs: what it costs, and who is gone when it comes to it."""

import asyncio
from typing import Any

import pytest

from app.api.jobs import JobCreate
from app.core.errors import UnauthenticatedError
from app.jobs.batch import Accepted
from app.jobs.intake import JobRequest
from app.jobs.models import Priority
from tests.support.gateway import Gateway
from tests.support.statements import recorded

MOST_STATEMENTS = 8
LIMITS = {
    "submits_per_minute": {"limit": 100},
    "jobs_per_day": {"limit": 100},
    "output_seconds_per_month": {"limit": 1000},
    "concurrent_jobs": {"limit": 2},
    "pending_jobs": {"limit": 100},
}


def accepting(seen: list[list[str]]) -> list[list[str]]:
    return [each for each in seen if any("INSERT INTO jobs " in text for text in each)]


@pytest.mark.parametrize("limits", [{}, LIMITS], ids=["unlimited", "limited"])
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "order-2"}], ids=["plain", "keyed"])
async def test_a_job_is_accepted_in_eight_statements(
    gateway: Gateway, limits: dict[str, Any], headers: dict[str, str]
) -> None:
    await gateway.admin.patch("/v1/admin/users/alice", json={"limits": limits})
    await gateway.submit()
    with recorded(gateway) as seen:
        answer = await gateway.http.post("/v1/jobs", json=gateway.body(), headers=headers)
    assert answer.status_code == 202
    (statements,) = accepting(seen)
    assert len(statements) <= MOST_STATEMENTS, "\n".join(statements)


async def test_those_that_arrive_together_share_the_statements(gateway: Gateway) -> None:
    await gateway.admin.patch("/v1/admin/users/alice", json={"limits": LIMITS})
    await gateway.submit()
    with recorded(gateway) as seen:
        answers = await asyncio.gather(
            *(gateway.http.post("/v1/jobs", json=gateway.body()) for _ in range(50))
        )
    assert {answer.status_code for answer in answers} == {202}
    shared = accepting(seen)
    assert len(shared) < 50
    assert max(len(statements) for statements in shared) <= MOST_STATEMENTS


async def test_who_was_deleted_meanwhile_is_turned_away_and_its_neighbours_are_not(
    gateway: Gateway,
) -> None:
    services = gateway.app.state.services
    doomed = await gateway.client_of("doomed")
    present, gone = [
        (await services.auth.authenticate(client.headers["Authorization"])).principal
        for client in (gateway.http, doomed)
    ]
    assert (await gateway.admin.delete("/v1/admin/users/doomed")).status_code == 204

    async def submit(principal: Any, key: str | None) -> Any:
        create = JobCreate(**gateway.body())
        request = JobRequest(
            model=create.model,
            input=create.input,
            metadata={},
            priority=Priority.NORMAL,
            start_within=None,
        )
        return await services.intake.submit(
            request, principal=principal, idempotency_key=key, fingerprint=create.model
        )

    answers = await asyncio.gather(
        *(
            submit(principal, key)
            for number in range(5)
            for principal in (present, gone)
            for key in (None, f"order-{number}")
        ),
        return_exceptions=True,
    )
    accepted = [answer for answer in answers if isinstance(answer, Accepted)]
    assert {answer.job.user_id for answer in accepted} == {"alice"}
    assert len(accepted) == 10
    refused = [answer for answer in answers if isinstance(answer, UnauthenticatedError)]
    assert len(refused) == 10
    invariants = (await gateway.admin.get("/v1/admin/invariants")).json()
    assert invariants == {"ok": True, "violations": []}


async def test_a_submit_that_races_the_end_of_its_user_never_fails(gateway: Gateway) -> None:
    doomed = await gateway.client_of("doomed")
    *answers, _ = await asyncio.gather(
        *(doomed.post("/v1/jobs", json=gateway.body()) for _ in range(20)),
        gateway.admin.delete("/v1/admin/users/doomed"),
    )
    assert {answer.status_code for answer in answers} <= {202, 401}
