"""While RunComfy is away or refuses us nobody storms it, no job fails, and then all goes on."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.core.clock import ManualClock
from app.db.engine import opened_database
from app.jobs.lanes.gate import Gate, GateConfig
from app.jobs.lanes.repository import LaneRepository
from app.upstream.errors import TryLaterError
from tests.support.gateway import Gateway, Sandbox, running, sandboxed
from tests.support.invariants import assert_invariants, read_jobs
from tests.support.wire_server import refused_port

pytestmark = pytest.mark.either_database


async def traffic(gateway: Gateway) -> dict[str, Any]:
    read: dict[str, Any] = (await gateway.admin.get("/v1/admin/dispatch")).json()
    return read


async def many(gateway: Gateway, number: int, words: str = "") -> list[dict[str, Any]]:
    return list(await asyncio.gather(*(gateway.submit(words) for _ in range(number))))


async def statuses(gateway: Gateway, jobs: list[dict[str, Any]]) -> set[str]:
    return {(await gateway.read(job))["status"] for job in jobs}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("400002", "no_balance"),
        ("402", "no_balance"),
        ("400004", "token_refused"),
        ("401", "token_refused"),
        ("403", "token_refused"),
    ],
)
async def test_an_account_that_is_refused_pauses_dispatch_and_fails_no_job(
    gateway: Gateway, sandbox: Sandbox, database_url: str, fault: str, reason: str
) -> None:
    first = await gateway.submit(f"sandbox:instant sandbox:submit-{fault}=2")
    with capture_logs() as logs:
        await gateway.dispatch()
    (alarm,) = [line for line in logs if line["event"] == "upstream.lane_closed"]
    assert (alarm["log_level"], alarm["lane"], alarm["reason"]) == ("error", "dispatch", reason)
    others = await many(gateway, 3, "sandbox:instant")
    assert await gateway.dispatch() == 0
    now = await traffic(gateway)
    assert (now["paused"], now["reason"], now["polling"]["paused"]) == (True, reason, False)
    assert await statuses(gateway, [first, *others]) == {"pending"}

    gateway.wait(60)
    assert await gateway.dispatch() == 1, "one job probes"
    assert (await traffic(gateway))["paused"] is False
    for _ in range(5):
        gateway.wait(30)
        await gateway.dispatch()
        gateway.wait(60)
        await gateway.dispatch()
        await gateway.poll()
    assert await statuses(gateway, [first, *others]) == {"completed"}
    assert len(await sandbox.submits(first)) == 3
    await assert_invariants(database_url)


async def test_operators_resume_what_was_refused_at_once(
    gateway: Gateway, sandbox: Sandbox
) -> None:
    job = await gateway.submit("sandbox:instant sandbox:submit-402=1")
    await gateway.dispatch()
    assert await gateway.dispatch() == 0
    await gateway.admin.put("/v1/admin/dispatch", json={"paused": False})
    assert (await traffic(gateway))["reason"] is None
    assert await gateway.dispatch() == 1
    assert (await gateway.read(job))["status"] == "in_queue"
    assert len(await sandbox.submits(job)) == 2


async def test_a_job_that_alone_is_forbidden_fails_in_the_end(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:submit-403=1000")
    for _ in range(12):
        await gateway.submit("sandbox:instant")
        await gateway.dispatch()
        gateway.wait(20)
    assert (await gateway.read(job))["error"]["code"] == "refused_upstream"
    assert (await traffic(gateway))["reason"] is None


async def test_a_job_that_alone_is_forbidden_holds_up_no_others(gateway: Gateway) -> None:
    await gateway.submit()
    await gateway.dispatch()
    await gateway.submit("sandbox:submit-403=1000")
    assert await gateway.dispatch() == 1
    await many(gateway, 3)
    assert await gateway.dispatch() == 3
    assert (await traffic(gateway))["paused"] is False


async def test_an_account_that_is_forbidden_after_it_served_fails_no_job(gateway: Gateway) -> None:
    await gateway.submit()
    await gateway.dispatch()
    job = await gateway.submit("sandbox:instant sandbox:submit-403=5")
    reasons = set()
    for _ in range(30):
        await gateway.dispatch()
        reasons.add((await traffic(gateway))["reason"])
        gateway.wait(31)
    await gateway.poll()
    assert reasons == {None, "token_refused"}
    assert (await gateway.read(job))["status"] == "completed"


@pytest.mark.parametrize(("fault", "times"), [("402", 3), ("403", 1)])
async def test_what_an_account_is_refused_is_not_held_against_the_job_that_probes_it(
    gateway: Gateway, fault: str, times: int
) -> None:
    """Nor is a refusal that only the account can cause, even if others were let in each time."""
    job = await gateway.submit(f"sandbox:submit-{fault}={3 + times}")
    for _ in range(2):
        assert await gateway.dispatch() == 1
        gateway.wait(61)
    assert await gateway.dispatch() == 1
    for _ in range(times):
        gateway.wait(60)
        other = await gateway.submit()
        assert await gateway.dispatch() == 1
        assert (await gateway.read(other))["status"] == "in_queue"
        gateway.wait(1)
        assert await gateway.dispatch() == 1
    gateway.wait(61)
    assert await gateway.dispatch() == 1
    assert (await gateway.read(job))["status"] == "in_queue"


async def test_a_token_refused_on_polls_pauses_them_and_ends_no_job(gateway: Gateway) -> None:
    job = await gateway.submit("sandbox:instant sandbox:poll-401=4")
    await gateway.dispatch()
    for _ in range(10):
        gateway.wait(2)
        await gateway.poll()
    now = await traffic(gateway)
    assert (now["paused"], now["polling"]["reason"]) == (False, "token_refused")
    gateway.wait(60)
    assert await gateway.poll() == 1
    assert (await traffic(gateway))["polling"]["paused"] is True
    gateway.wait(60)
    assert await gateway.poll() == 1
    assert (await gateway.read(job))["status"] == "completed"
    assert (await traffic(gateway))["polling"]["paused"] is False


async def test_a_job_whose_polls_alone_are_forbidden_holds_up_no_others(gateway: Gateway) -> None:
    await gateway.submit("sandbox:stuck sandbox:poll-403=1000")
    await gateway.dispatch()
    for _ in range(10):
        gateway.wait(2)
        await gateway.poll()
    assert (await traffic(gateway))["polling"]["paused"] is False
    job = await gateway.follow(await gateway.submit("sandbox:instant"), seconds=5)
    assert job["status"] == "completed"


async def test_a_retry_after_holds_for_all_replicas_and_both_lanes_alone(
    gateway: Gateway, database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    async with running(database_url, sandbox=sandbox, clock=clock) as rival:
        early = await gateway.submit("sandbox:stuck")
        await gateway.dispatch()
        await gateway.submit("sandbox:submit-429=1 sandbox:retry-after=100")
        with capture_logs() as logs:
            await gateway.dispatch()
        (told,) = [line for line in logs if line["event"] == "upstream.lane_closed"]
        assert told["log_level"] == "warning", "nobody needs to do anything"
        await many(gateway, 5)
        await gateway.admin.put("/v1/admin/dispatch", json={"paused": False})  # ends no such wait
        for _ in range(99):
            clock.advance(timedelta(seconds=1))
            assert await gateway.dispatch() == await rival.dispatch() == 0
        assert (await traffic(gateway))["reason"] == "retry_after"
        assert (await gateway.admin.post(f"/v1/admin/jobs/{early['id']}/poll")).status_code == 200
        assert await gateway.poll() == 1, "polls were not asked to wait"
        clock.advance(timedelta(seconds=1))
        sent = [await gateway.dispatch(), await rival.dispatch()]
        assert sent == [2, 0], "gradually"
        for _ in range(4):
            clock.advance(timedelta(seconds=1))
            sent += [await rival.dispatch()]
        assert sum(sent) == 6


async def test_a_429_that_names_no_time_is_met_by_few_submits_at_a_time(
    gateway: Gateway, database_url: str
) -> None:
    """RunComfy takes no more jobs now, however many wait here; what it takes again, it gets."""
    refused = await many(gateway, 60, "sandbox:submit-429=1000 sandbox:retry-after=none")
    await gateway.dispatch()
    sent = []
    for _ in range(60):
        gateway.wait(1)
        sent.append(await gateway.dispatch())
    assert max(sent) <= 4
    assert sum(sent) >= 60
    assert await statuses(gateway, refused) == {"pending"}
    assert (await traffic(gateway))["paused"] is False
    await gateway.follow(await gateway.submit("sandbox:instant"))
    await assert_invariants(database_url)


async def test_jobs_that_are_sent_back_take_no_turns_from_other_users(gateway: Gateway) -> None:
    """What is busy may be a model alone; bob has nothing in flight, however often he is tried."""
    bob = await gateway.client_of("bob")
    for _ in range(40):
        busy = gateway.body("sandbox:submit-429=1000 sandbox:retry-after=none")
        assert (await bob.post("/v1/jobs", json=busy)).status_code == 202
    for _ in range(8):
        job = await gateway.submit("sandbox:stuck")
        for _ in range(10):
            await gateway.dispatch()
            gateway.wait(0.5)
        assert (await gateway.read(job))["status"] == "in_queue"


async def test_a_429_now_and_then_holds_nobody_else(gateway: Gateway) -> None:
    for _ in range(5):
        await many(gateway, 4, "sandbox:submit-429=1 sandbox:retry-after=none")
        assert await gateway.dispatch() == 4
        await gateway.submit("sandbox:stuck")
        assert await gateway.dispatch() == 1
    await many(gateway, 20, "sandbox:stuck")
    assert await gateway.dispatch() == 20


async def test_an_upstream_that_is_away_is_probed_and_then_filled_gradually(
    database_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    """Jobs are accepted all the time, and each is sent once in the end."""
    tried = []
    with refused_port() as nobody:
        down = Sandbox(url=nobody, http=None)  # type: ignore[arg-type]
        async with running(database_url, sandbox=down, clock=clock) as gateway:
            jobs = await many(gateway, 40, "sandbox:instant")
            for _ in range(300):
                tried.append(await gateway.dispatch())
                clock.advance(timedelta(seconds=1))
            assert sum(tried[:2]) <= 40
            assert sum(tried[5:]) <= 12
            assert max(tried[5:]) == 1
            assert (await traffic(gateway))["reason"] == "upstream_unavailable"
            jobs += await many(gateway, 20, "sandbox:instant")
            assert await statuses(gateway, jobs) == {"pending"}
    async with (
        sandboxed(tmp_path / "sandbox", clock=clock) as up,
        running(database_url, sandbox=up, clock=clock) as gateway,
    ):
        sent = []
        for _ in range(100):
            sent.append(await gateway.dispatch())
            await gateway.poll()
            clock.advance(timedelta(seconds=1))
        began = next(n for n, number in enumerate(sent) if number)
        assert sent[began] == 1
        assert all(number <= 2 ** (2 + n // 2) for n, number in enumerate(sent[began:]))
        assert sum(sent) == 60
        assert await statuses(gateway, jobs) == {"completed"}
        for job in jobs:
            assert len(await up.submits(job)) == 1
    await assert_invariants(database_url)


async def test_who_alone_does_not_reach_upstream_holds_up_nobody_else(
    gateway: Gateway, database_url: str, clock: ManualClock
) -> None:
    """As a replica whose network is broken: the others go on, and it tries now and then."""
    with refused_port() as nobody:
        down = Sandbox(url=nobody, http=None)  # type: ignore[arg-type]
        async with running(database_url, sandbox=down, clock=clock) as cut_off:
            jobs = await many(gateway, 6, "sandbox:instant")
            tried, sent = [], []
            for _ in range(40):
                jobs.append(await gateway.submit("sandbox:instant"))
                tried.append(await cut_off.dispatch())
                sent.append(await gateway.dispatch())
                clock.advance(timedelta(seconds=1))
            assert sum(tried[10:]) <= 2
            assert sum(sent[10:]) >= 28
            assert (await traffic(gateway))["reason"] is None
    for _ in range(10):
        clock.advance(timedelta(seconds=4))
        await gateway.dispatch()
        await gateway.poll()
    assert await statuses(gateway, jobs) == {"completed"}


async def test_who_alone_does_not_reach_upstream_leaves_its_jobs_to_others(
    gateway: Gateway, database_url: str, clock: ManualClock
) -> None:
    """Soon after the lease, and those that it tries with, too."""
    jobs = await many(gateway, 30, "sandbox:instant")
    await gateway.dispatch()
    clock.advance(timedelta(seconds=31))  # until they are free for another poller
    with refused_port() as nobody:
        down = Sandbox(url=nobody, http=None)  # type: ignore[arg-type]
        async with running(database_url, sandbox=down, clock=clock) as cut_off:
            assert await cut_off.poll() == 30
            await gateway.submit("sandbox:stuck")
            await gateway.dispatch()
            for _ in range(45):
                await cut_off.poll()
                await gateway.poll()
                clock.advance(timedelta(seconds=1))
    assert await statuses(gateway, jobs) == {"completed"}


async def test_an_operator_who_resumes_is_believed_by_who_alone_was_not_well(
    gateway: Gateway, database_url: str, clock: ManualClock
) -> None:
    with refused_port() as nobody:
        down = Sandbox(url=nobody, http=None)  # type: ignore[arg-type]
        async with running(database_url, sandbox=down, clock=clock) as cut_off:
            await many(gateway, 6)
            for _ in range(30):
                await cut_off.dispatch()
                clock.advance(timedelta(seconds=1))
            await gateway.submit()
            assert await cut_off.dispatch() == 0
            await gateway.admin.put("/v1/admin/dispatch", json={"paused": False})
            assert await cut_off.dispatch() > 0


async def test_polls_that_fail_for_a_moment_pause_nobody(gateway: Gateway) -> None:
    gateway.wait(60)
    jobs = await many(gateway, 20, "sandbox:instant sandbox:poll-502=1")
    await gateway.dispatch()
    for _ in range(9):
        gateway.wait(1)
        await gateway.poll()
        assert (await traffic(gateway))["polling"]["paused"] is False
    assert await statuses(gateway, jobs) == {"completed"}


async def test_polls_of_an_upstream_that_fails_wait_and_end_nothing(
    gateway: Gateway, database_url: str
) -> None:
    jobs = await many(gateway, 8, "sandbox:instant sandbox:poll-502=8")
    await gateway.dispatch()
    polls = []
    for _ in range(240):
        gateway.wait(1)
        polls.append(await gateway.poll())
    assert sum(polls[:10]) <= 40
    assert sum(polls[10:60]) <= 20, "five probe, after 2, 4, 8 and 16 seconds"
    assert await statuses(gateway, jobs) == {"completed"}
    rows = await read_jobs(database_url)
    assert {row.lost_polls for row, _ in rows.values()} == {0}
    await many(gateway, 30, "sandbox:stuck")
    await gateway.dispatch()
    gateway.wait(10)
    assert await gateway.poll() == 30, "no five at a time any more"
    await assert_invariants(database_url)


async def test_a_few_jobs_whose_own_polls_fail_pause_nobody(gateway: Gateway) -> None:
    await many(gateway, 4, "sandbox:stuck sandbox:poll-500=1000")
    await gateway.dispatch()
    for _ in range(120):
        gateway.wait(1)
        await gateway.poll()
        assert (await traffic(gateway))["polling"]["paused"] is False


async def test_jobs_whose_own_polls_fail_do_not_speak_for_the_others(gateway: Gateway) -> None:
    """They are those that are left: all others end, and are asked about no more."""
    failing = await many(gateway, 8, "sandbox:stuck sandbox:poll-500=1000")
    await gateway.dispatch()
    for _ in range(60):
        gateway.wait(1)
        await gateway.poll()
    well = await many(gateway, 3, "sandbox:instant")
    await gateway.dispatch()
    for _ in range(90):
        gateway.wait(1)
        await gateway.poll()
    assert await statuses(gateway, well) == {"completed"}
    assert await statuses(gateway, failing) == {"in_queue"}


async def test_many_running_jobs_that_a_cdn_says_504_of_hide_no_end(gateway: Gateway) -> None:
    await many(gateway, 60, "sandbox:stuck sandbox:poll-504=1000")
    while await gateway.dispatch():
        pass
    for _ in range(20):
        gateway.wait(1)
        await gateway.poll()
    job = await gateway.follow(await gateway.submit("sandbox:instant"), seconds=8)
    assert job["status"] == "completed"


async def test_a_lane_closes_again_once_all_five_probes_have_failed(
    database_url: str, clock: ManualClock
) -> None:
    """One whose own polls fail may be among them."""
    failure = TryLaterError("RunComfy is away.", outage=True)
    async with opened_database(database_url) as database:
        config = GateConfig(refusals=3, probes=5)
        gate = Gate("polls", config=config, database=database, clock=clock)

        async def trips_after(sources: str) -> int:
            for source in sources:
                await gate.heard(failure, source=source, began_at=clock.now())
            clock.advance(timedelta(seconds=10))
            return (await database.read(lambda tx: LaneRepository(tx).find("polls"))).trips

        assert [await trips_after(each) for each in ("abcd", "e", "abcd", "e")] == [0, 1, 1, 2]
