"""What operators do by hand with jobs that are stuck, and what becomes of holds by it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, event
from structlog.testing import capture_logs

from tests.support.answers import problem
from tests.support.gateway import SEEDANCE, Gateway, Sandbox, running
from tests.support.invariants import assert_invariants
from tests.support.rows import change

pytestmark = pytest.mark.either_database

NEVER = "job_" + "0" * 26


async def price(gateway: Gateway) -> None:
    line = {"model": SEEDANCE, "base_price_usd": "0.25", "price_unit": "second"}
    answer = await gateway.admin.put("/v1/admin/prices", json={"prices": [line]})
    assert answer.status_code == 200, answer.text


async def unknown(gateway: Gateway, words: str = "") -> dict[str, Any]:
    """Send a job whose answer is lost: upstream has it, and nobody here knows."""
    job = await gateway.submit(f"sandbox:lost-answer {words}")
    await gateway.dispatch()
    job = await gateway.read(job)
    assert job["status"] == "submit_unknown"
    return job


async def act(gateway: Gateway, job: dict[str, Any], act: str, json: Any = None) -> httpx.Response:
    return await gateway.admin.post(f"/v1/admin/jobs/{job['id']}/{act}", json=json)


async def detail(gateway: Gateway, job: dict[str, Any]) -> dict[str, Any]:
    answer = await gateway.admin.get(f"/v1/admin/jobs/{job['id']}")
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = answer.json()
    return read


async def kinds(gateway: Gateway, job: dict[str, Any]) -> list[str]:
    return [entry["kind"] for entry in (await detail(gateway, job))["ledger"]]


async def used(gateway: Gateway) -> tuple[str, str]:
    (row,) = (await gateway.http.get("/v1/usage")).json()["data"]
    return row["spend_usd"], row["spend_usd_held"]


async def all_is_well(gateway: Gateway, database_url: str) -> None:
    answer = await gateway.admin.get("/v1/admin/invariants")
    assert answer.json() == {"ok": True, "violations": []}
    await assert_invariants(database_url)


async def test_a_job_is_read_from_below(gateway: Gateway) -> None:
    await price(gateway)
    job = await unknown(gateway)
    await gateway.submit()  # another, of which it says nothing
    read = await detail(gateway, job)
    assert {name: read[name] for name in job} == job
    below = {name: value for name, value in read.items() if name not in job}
    assert below.pop("lease_expires_at") == "2026-11-22T10:00:30.000Z"
    assert below.pop("schema_hash").startswith("sha256:")
    assert [event.pop("seq") for event in below["events"]] == [1, 2, 3]
    assert [event["type"] for event in below.pop("events")] == [
        "pending",
        "submitting",
        "submit_unknown",
    ]
    assert below == {
        "user": "alice",
        "account": "default",
        "reported_cost_usd": None,
        "upstream_request_id": None,
        "attempts": 1,
        "due_at": None,
        "ledger": [
            {
                "kind": "hold",
                "at": "2026-11-22T10:00:00.000Z",
                "amount_usd": "0.50",
                "output_seconds": 2,
            }
        ],
    }


async def test_the_events_of_a_job_say_why(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:submit-429 sandbox:instant sandbox:fail")
    job = await gateway.follow(job)
    (_, sent) = await gateway.sandbox.submits(job)
    assert [(event["type"], event["data"]) for event in (await detail(gateway, job))["events"]] == [
        ("pending", None),
        ("submitting", None),
        ("pending", {"reason": "Too many requests"}),
        ("submitting", None),
        ("in_queue", {"upstream_request_id": sent["request_id"]}),
        ("failed", {"code": "failed_upstream"}),
    ]
    lost = await detail(gateway, await unknown(gateway))
    assert lost["events"][-1]["data"]["reason"].startswith("RunComfy's answer was lost")


async def test_what_runcomfy_says_that_a_job_cost_is_kept_beside_its_charge(
    gateway: Gateway,
) -> None:
    await price(gateway)
    said = await gateway.follow(await gateway.submit("sandbox:instant sandbox:cost=0.125"))
    silent = await gateway.follow(await gateway.submit("sandbox:instant sandbox:no-cost"))
    assert [
        (read["cost"]["amount_usd"], read["reported_cost_usd"])
        for read in [await detail(gateway, job) for job in (said, silent)]
    ] == [("0.50", "0.125"), ("0.50", None)]


async def test_all_users_jobs_are_listed(gateway: Gateway) -> None:
    bob = await gateway.client_of("bob")
    jobs = [await gateway.submit() for _ in range(2)]
    jobs.append((await bob.post("/v1/jobs", json=gateway.body())).json())
    ids = [job["id"] for job in reversed(jobs)]
    answer = (await gateway.admin.get("/v1/admin/jobs?limit=2")).json()
    assert [(job["id"], job["user"]) for job in answer["data"]] == [
        (ids[0], "bob"),
        (ids[1], "alice"),
    ]
    rest = await gateway.admin.get("/v1/admin/jobs", params={"cursor": answer["next_cursor"]})
    assert [job["id"] for job in rest.json()["data"]] == ids[2:]
    assert rest.json()["next_cursor"] is None
    of_bob = (await gateway.admin.get("/v1/admin/jobs?user=bob&status=pending")).json()
    assert [job["id"] for job in of_bob["data"]] == ids[:1]
    for query in ("user=b%00b", "limit=0", "cursor=nope", "status=lost", "colour=red"):
        answer = await gateway.admin.get(f"/v1/admin/jobs?{query}")
        assert answer.status_code == 422, query


async def test_settling_charges_the_hold(gateway: Gateway, database_url: str) -> None:
    await price(gateway)
    job = await unknown(gateway)
    gateway.wait(60)
    answer = await act(gateway, job, "settle")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["hold"], body["job"]) == ("settled", await detail(gateway, job))
    assert (body["job"]["status"], body["job"]["cost"]["state"]) == ("failed", "settled")
    assert body["job"]["error"] == {
        "code": "ended_by_operator",
        "message": "An operator ended this job.",
    }
    assert body["job"]["events"][-1]["data"] == {"by": "operator", "action": "job.settle"}
    assert [(entry["kind"], entry["at"]) for entry in body["job"]["ledger"]] == [
        ("hold", "2026-11-22T10:00:00.000Z"),
        ("settle", "2026-11-22T10:01:00.000Z"),
    ]
    assert await used(gateway) == ("0.50", "0.00")
    await all_is_well(gateway, database_url)


async def test_the_log_tells_where_operators_moved_a_job(gateway: Gateway) -> None:
    job = await unknown(gateway)
    with capture_logs() as logs:
        await act(gateway, job, "resubmit")
        await act(gateway, job, "fail")
        await act(gateway, job, "fail")  # it has ended already: nothing moves
    told = [(line["job_id"], line["state"]) for line in logs if line["event"] == "job.advanced"]
    assert told == [(job["id"], "pending"), (job["id"], "failed")]


@pytest.mark.parametrize("how", ["release", "fail"])
async def test_releasing_frees_the_hold(gateway: Gateway, database_url: str, how: str) -> None:
    await price(gateway)
    job = await unknown(gateway)
    body = (await act(gateway, job, how)).json()
    assert (body["hold"], body["job"]["status"]) == ("released", "failed")
    assert await kinds(gateway, job) == ["hold", "release"]
    assert await used(gateway) == ("0.00", "0.00")
    await all_is_well(gateway, database_url)


async def test_what_an_operator_ended_has_no_place_in_upstreams_queue(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:stuck-in-queue")
    job = await gateway.follow(job, lambda read: read["queue_position"] is not None)
    await act(gateway, job, "fail")
    ended = await gateway.read(job)
    assert (ended["status"], ended["queue_position"]) == ("failed", None)


async def test_adopting_follows_the_request_to_its_end(gateway: Gateway, database_url: str) -> None:
    await price(gateway)
    job = await unknown(gateway, "sandbox:queue=1 sandbox:slow=2")
    (sent,) = await gateway.sandbox.submits(job)
    gateway.wait(60)
    body = (await act(gateway, job, "adopt", {"request_id": sent["request_id"]})).json()
    assert (body["hold"], body["job"]["status"]) == ("held", "in_queue")
    assert (job["submitted_at"], body["job"]["submitted_at"]) == (None, "2026-11-22T10:01:00.000Z")
    assert body["job"]["upstream_request_id"] == sent["request_id"]
    ended = await gateway.follow(job)
    assert (ended["status"], ended["cost"]["state"]) == ("completed", "settled")
    assert len(await gateway.sandbox.submits(job)) == 1
    await all_is_well(gateway, database_url)


async def test_a_request_is_adopted_once(gateway: Gateway, database_url: str) -> None:
    one, other = await unknown(gateway), await unknown(gateway)
    (sent,) = await gateway.sandbox.submits(one)
    asked = {"request_id": sent["request_id"]}
    answers = await asyncio.gather(
        act(gateway, one, "adopt", asked), act(gateway, other, "adopt", asked)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    (refused,) = [answer for answer in answers if answer.status_code == 409]
    (holder,) = [answer.json()["job"]["id"] for answer in answers if answer.status_code == 200]
    body = problem(refused)
    assert (body["code"], body["job"]) == ("request_taken", holder)
    await all_is_well(gateway, database_url)


@pytest.mark.parametrize(
    "body", [{}, {"request_id": ""}, {"request_id": "a/b"}, {"request_id": "a\0"}, [], None]
)
async def test_what_is_no_request_is_not_adopted(gateway: Gateway, body: Any) -> None:
    job = await unknown(gateway)
    answer = await act(gateway, job, "adopt", body)
    assert answer.status_code in {400, 422}, answer.text
    assert (await gateway.read(job))["status"] == "submit_unknown"


async def test_resubmitting_sends_once_more(gateway: Gateway, database_url: str) -> None:
    await price(gateway)
    job = await gateway.submit("sandbox:submit-reset sandbox:instant")
    await gateway.dispatch()
    assert (await gateway.read(job))["status"] == "submit_unknown"
    body = (await act(gateway, job, "resubmit")).json()
    assert (body["hold"], body["job"]["status"]) == ("held", "pending")
    assert await used(gateway) == ("0.00", "0.50")
    ended = await gateway.follow(job)
    assert (ended["status"], ended["cost"]["state"]) == ("completed", "settled")
    assert (await detail(gateway, job))["attempts"] == 2
    assert await kinds(gateway, job) == ["hold", "settle"]
    assert await used(gateway) == ("0.50", "0.00")
    await all_is_well(gateway, database_url)


async def test_polling_looks_at_once(gateway: Gateway, database_url: str) -> None:
    job = await gateway.submit("sandbox:queue=0 sandbox:slow=102")
    await gateway.dispatch()
    gateway.wait(100)
    await gateway.poll()
    before = await detail(gateway, job)
    gateway.wait(2)
    body = (await act(gateway, job, "poll")).json()
    now = {"due_at": "2026-11-22T10:01:42.000Z", "eta_seconds": body["job"]["eta_seconds"]}
    assert (body["hold"], body["job"]) == ("held", before | now)
    await gateway.poll()
    assert (await gateway.read(job))["status"] == "completed"
    await all_is_well(gateway, database_url)


@pytest.mark.parametrize("how", ["settle", "release", "fail"])
async def test_a_job_that_hangs_upstream_is_ended(
    gateway: Gateway, database_url: str, how: str
) -> None:
    job = await gateway.submit("sandbox:queue=0 sandbox:stuck")
    await gateway.dispatch()
    await gateway.poll()
    assert (await act(gateway, job, how)).status_code == 200
    for _ in range(3):
        gateway.wait(5)
        await gateway.poll()
    assert (await gateway.read(job))["status"] == "failed"
    await all_is_well(gateway, database_url)


async def test_a_waiting_job_can_be_failed_and_nothing_else(
    gateway: Gateway, database_url: str
) -> None:
    job = await gateway.submit()
    for how in ("poll", "settle", "release", "resubmit"):
        body = problem(await act(gateway, job, how))
        assert (body["status"], body["code"], body["state"]) == (409, "wrong_state", "pending")
    adopted = await act(gateway, job, "adopt", {"request_id": "req-1"})
    assert adopted.json()["code"] == "wrong_state"
    assert (await act(gateway, job, "fail")).json()["hold"] == "released"
    assert await gateway.dispatch() == 0
    assert await gateway.sandbox.submits(job) == []
    await all_is_well(gateway, database_url)


@pytest.mark.parametrize("how", ["poll", "adopt", "settle", "release", "resubmit", "fail"])
async def test_a_job_that_has_ended_stays_as_it_ended(
    gateway: Gateway, database_url: str, how: str
) -> None:
    job = await gateway.follow(await gateway.submit("sandbox:instant"))
    before = await detail(gateway, job)
    body = problem(await act(gateway, job, how, {"request_id": "req-1"}))
    assert (body["status"], body["code"], body["state"]) == (409, "wrong_state", "completed")
    assert await detail(gateway, job) == before
    nobodys = await gateway.admin.post(
        f"/v1/admin/jobs/{NEVER}/{how}", json={"request_id": "req-1"}
    )
    assert (nobodys.status_code, nobodys.json()["code"]) == (404, "job_not_found")
    assert await gateway.audited() == []
    await all_is_well(gateway, database_url)


async def test_rivals_end_a_job_once(gateway: Gateway, database_url: str) -> None:
    await price(gateway)
    job = await unknown(gateway)
    answers = await asyncio.gather(
        *(act(gateway, job, how) for how in ("settle", "release", "fail", "resubmit") * 3)
    )
    ended = [answer for answer in answers if answer.status_code == 200]
    assert all(answer.status_code in {200, 409} for answer in answers)
    final = [answer for answer in ended if answer.json()["hold"] != "held"]
    assert len(final) == 1
    assert (await kinds(gateway, job))[1:] in (["settle"], ["release"])
    await all_is_well(gateway, database_url)


async def test_a_job_that_goes_while_it_is_read_is_not_found_and_ends_no_list(
    gateway: Gateway, database_url: str
) -> None:
    first, *_, newest = [await gateway.submit() for _ in range(4)]
    with erased_in_between(gateway, newest, database_url):
        listed = (await gateway.admin.get("/v1/admin/jobs?limit=3")).json()
    assert listed["next_cursor"] or listed["data"][-1]["id"] == first["id"]
    with erased_in_between(gateway, first, database_url):
        assert (await gateway.admin.get(f"/v1/admin/jobs/{first['id']}")).status_code in {200, 404}


@contextmanager
def erased_in_between(gateway: Gateway, job: dict[str, Any], database_url: str) -> Iterator[None]:
    """Erase the job after the next statement on jobs; a read of SQLite goes on seeing it."""
    left = [job["id"]]

    def erase(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if left and "FROM jobs" in statement:
            change(database_url, f"DELETE FROM jobs WHERE id = '{left.pop()}'")

    reader, _ = gateway.keys._database.watch()  # noqa: SLF001 - all share one
    event.listen(reader, "after_cursor_execute", erase)
    yield
    event.remove(reader, "after_cursor_execute", erase)
    assert not left


async def test_every_act_is_in_the_audit_log_without_inputs(gateway: Gateway) -> None:
    job = await unknown(gateway)
    (sent,) = await gateway.sandbox.submits(job)
    await act(gateway, job, "adopt", {"request_id": sent["request_id"]})
    await act(gateway, job, "poll")
    await act(gateway, job, "settle")
    entries = await gateway.audited()
    assert job["input"]["prompt"] not in str(entries)
    assert {(entry["actor"], entry["target"]) for entry in entries} == {("ops", job["id"])}
    request_id = sent["request_id"]
    lost = {"state": "submit_unknown", "upstream_request_id": None, "hold": "held"}
    followed = {"state": "in_queue", "upstream_request_id": request_id, "hold": "held"}
    ended = {"state": "failed", "upstream_request_id": request_id, "hold": "settled"}
    assert [(entry["action"], entry["before"], entry["after"]) for entry in entries] == [
        ("job.settle", followed, ended),
        ("job.poll", followed, followed),
        ("job.adopt", lost, followed),
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "jobs"),
        ("GET", "jobs/{id}"),
        ("POST", "jobs/{id}/fail"),
        ("POST", "jobs/{id}/adopt"),
        ("PUT", "dispatch"),
        ("GET", "invariants"),
        ("GET", "usage"),
    ],
)
async def test_the_operators_part_needs_an_operator(
    gateway: Gateway, method: str, path: str
) -> None:
    job = await gateway.submit()
    answer = await gateway.http.request(
        method, f"/v1/admin/{path.format(id=job['id'])}", json={"paused": True}
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_admin_token")


@pytest.mark.parametrize(
    ("policy", "state", "sums"),
    [("settle", "settled", ("0.50", "0.00")), ("release", "released", ("0.00", "0.00"))],
)
async def test_what_nobody_settles_ends_after_its_hours(
    database_url: str, sandbox: Sandbox, clock: Any, policy: str, state: str, sums: tuple[str, str]
) -> None:
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        submit_unknown_policy=policy,
        submit_unknown_hours=2,
    ) as gateway:
        await price(gateway)
        job = await unknown(gateway)
        gateway.wait(2 * 3600 - 1)
        await gateway.dispatch()
        assert (await gateway.read(job))["status"] == "submit_unknown"
        gateway.wait(60)
        await gateway.dispatch()
        ended = await gateway.read(job)
        assert (ended["status"], ended["cost"]["state"]) == ("failed", state)
        assert ended["error"]["code"] == "submit_unknown"
        assert await used(gateway) == sums
        assert await gateway.dispatch() == 0
        await all_is_well(gateway, database_url)


async def test_a_job_is_erased_once_it_has_ended(gateway: Gateway, database_url: str) -> None:
    await price(gateway)
    key = {"Idempotency-Key": "order-1"}
    body = gateway.body("sandbox:instant")
    job = (await gateway.http.post("/v1/jobs", json=body, headers=key)).json()
    url = f"/v1/jobs/{job['id']}"
    refused = problem(await gateway.http.delete(url))
    assert (refused["status"], refused["code"], refused["job_status"]) == (
        409,
        "job_not_final",
        "pending",
    )
    ended = await gateway.follow(job)
    assert ended["urls"]["outputs"]
    stranger = await gateway.client_of("bob")
    assert (await stranger.delete(url)).status_code == 404

    erased = await gateway.http.delete(url)
    assert (erased.status_code, erased.content) == (204, b"")
    for call, path in (
        ("GET", url),
        ("DELETE", url),
        ("POST", f"{url}/cancel"),
        ("GET", f"{url}/outputs/0"),
        ("GET", ended["urls"]["outputs"][0]),
    ):
        assert (await gateway.http.request(call, path)).status_code == 404, path
    assert (await gateway.http.get("/v1/jobs")).json()["data"] == []
    assert (await gateway.admin.get(f"/v1/admin/jobs/{job['id']}")).status_code == 404
    assert await used(gateway) == ("0.50", "0.00")
    await all_is_well(gateway, database_url)

    again = await gateway.http.post("/v1/jobs", json=body, headers=key)
    assert problem(again)["code"] == "idempotency_conflict"


async def test_a_job_is_erased_once_however_many_ask(gateway: Gateway) -> None:
    job = await gateway.submit()
    url = f"/v1/jobs/{job['id']}"
    await gateway.http.post(f"{url}/cancel")
    answers = await asyncio.gather(*(gateway.http.delete(url) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404]


@pytest.mark.parametrize("words", ["sandbox:stuck-in-queue", "sandbox:lost-answer"])
async def test_a_job_that_upstream_may_have_is_not_erased(gateway: Gateway, words: str) -> None:
    job = await gateway.submit(words)
    await gateway.dispatch()
    assert (await gateway.http.delete(f"/v1/jobs/{job['id']}")).status_code == 409
    await gateway.admin.post(f"/v1/admin/jobs/{job['id']}/fail")
    assert (await gateway.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204
