"""Every way in which RunComfy may answer a submit, and what becomes of the job and the money."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.clock import ManualClock
from app.sandbox.scenarios import FAULTS
from tests.support.gateway import Gateway, Sandbox, running, sandboxed
from tests.support.invariants import assert_invariants, event_types
from tests.support.wire_server import full_backlog, refused_port
from tests.support.workbench import workbench

pytestmark = pytest.mark.either_database

ACCOUNT = {"400002", "400004", "401", "402", "403"}  # these pause dispatch instead
REFUSED = {"400001", "403001", "404", "404001", "422"}
TRY_LATER = {"429"}
UNKNOWN = set(FAULTS) - REFUSED - TRY_LATER - ACCOUNT
SHORTEST_LEASE = 3  # so that an answer that never comes is waited for during 2 s


async def statuses(gateway: Gateway, jobs: Mapping[str, dict]) -> dict[str, str]:
    return {fault: (await gateway.read(job))["status"] for fault, job in jobs.items()}


async def posts(sandbox: Sandbox, jobs: Mapping[str, dict]) -> dict[str, int]:
    return {fault: len(await sandbox.submits(job)) for fault, job in jobs.items()}


async def work_for_a_while(gateway: Gateway) -> None:
    for _ in range(6):
        while await gateway.dispatch():
            pass
        await gateway.poll()
        gateway.wait(20)


async def test_each_fault_on_a_submit_means_one_thing(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    async with running(
        database_url, sandbox=sandbox, clock=clock, lease_seconds=SHORTEST_LEASE
    ) as gateway:
        jobs = {
            fault: await gateway.submit(f"sandbox:instant sandbox:submit-{fault}")
            for fault in FAULTS
            if fault not in ACCOUNT
        }
        while await gateway.dispatch():
            pass
        first = (
            dict.fromkeys(REFUSED, "failed")
            | dict.fromkeys(TRY_LATER, "pending")
            | dict.fromkeys(UNKNOWN, "submit_unknown")
        )
        assert await statuses(gateway, jobs) == first
        assert await posts(sandbox, jobs) == dict.fromkeys(jobs, 1)

        await work_for_a_while(gateway)
        assert await statuses(gateway, jobs) == first | dict.fromkeys(TRY_LATER, "completed")
        assert await posts(sandbox, jobs) == dict.fromkeys(jobs, 1) | dict.fromkeys(TRY_LATER, 2)
        for fault in REFUSED:
            failed = await gateway.read(jobs[fault])
            assert failed["error"]["code"] == "refused_upstream"
            assert failed["output"] is None
    await assert_invariants(database_url)


async def test_a_lost_answer_is_never_asked_for_a_second_time(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    async with running(
        database_url, sandbox=sandbox, clock=clock, lease_seconds=SHORTEST_LEASE
    ) as gateway:
        jobs = {
            fault: await gateway.submit(f"sandbox:instant sandbox:lost-answer={fault}")
            for fault in sorted(UNKNOWN)
        } | {"cut": await gateway.submit("sandbox:cut-request")}
        await work_for_a_while(gateway)
        assert await statuses(gateway, jobs) == dict.fromkeys(jobs, "submit_unknown")
        assert len((await sandbox.http.get("/sandbox/requests")).json()["requests"]) == len(jobs)
        del jobs["cut"]  # what was cut off is not legible
        assert await posts(sandbox, jobs) == dict.fromkeys(jobs, 1)
        for job in jobs.values():
            types = await event_types(database_url, job)
            assert types == ["pending", "submitting", "submit_unknown"]
    await assert_invariants(database_url)


async def test_a_submit_comes_back_when_it_was_told_to(gateway: Gateway, sandbox: Sandbox) -> None:
    job = await gateway.submit("sandbox:submit-429=1 sandbox:retry-after=7")
    assert await gateway.dispatch() == 1
    gateway.wait(6.99)
    assert await gateway.dispatch() == 0
    gateway.wait(0.01)
    assert await gateway.dispatch() == 1
    assert (await gateway.read(job))["status"] == "in_queue"
    assert len(await sandbox.submits(job)) == 2


async def test_a_submit_refused_again_and_again_is_tried_ever_more_rarely(
    gateway: Gateway, sandbox: Sandbox
) -> None:
    job = await gateway.submit("sandbox:submit-429=1000 sandbox:retry-after=none")
    for _ in range(120):
        await gateway.dispatch()
        gateway.wait(5)
    assert (await gateway.read(job))["status"] == "pending"
    assert 9 <= len(await sandbox.submits(job)) <= 25


async def test_jobs_wait_for_an_upstream_that_is_down(
    database_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    """Nothing listens, so nothing was sent: the job is sent once somebody does."""
    with refused_port() as nobody:
        down = Sandbox(url=nobody, http=None)  # type: ignore[arg-type]
        async with running(database_url, sandbox=down, clock=clock) as gateway:
            job = await gateway.submit()
            for _ in range(3):
                assert await gateway.dispatch() == 1
                assert (await gateway.read(job))["status"] == "pending"
                clock.advance(timedelta(seconds=90))
    async with (
        sandboxed(tmp_path / "sandbox", clock=clock) as up,
        running(database_url, sandbox=up, clock=clock) as gateway,
    ):
        done = await gateway.follow(job)
        assert done["status"] == "completed"
        assert len(await up.submits(job)) == 1
    assert (await event_types(database_url, job)).count("submitting") == 4
    await assert_invariants(database_url)


async def test_a_worker_that_is_told_to_go_takes_back_what_it_did_not_send(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    """A connection that never comes is no submit: the next process sends the job."""
    with full_backlog() as url:
        silent = replace(sandbox, url=url)
        async with running(database_url, sandbox=silent, clock=clock) as gateway:
            job = await gateway.submit("sandbox:instant")
            [attempt] = await gateway.workers.dispatcher.claim(32)
            sending = asyncio.create_task(gateway.workers.dispatcher.dispatch(attempt))
            done, _ = await asyncio.wait({sending}, timeout=0.05)
            assert not done
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            assert (await gateway.read(job))["status"] == "pending"
    async with running(database_url, sandbox=sandbox, clock=clock) as gateway:
        gateway.wait(30)
        assert await gateway.dispatch() == 1
    assert len(await sandbox.submits(job)) == 1
    assert await event_types(database_url, job) == [
        *("pending", "submitting", "pending", "submitting", "in_queue")
    ]
    await assert_invariants(database_url)


async def test_a_job_whose_files_cannot_be_read_here_was_surely_not_sent(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> None:
    """It waits for who has a storage, for that and the database, and for the next process."""
    async with (
        running(
            database_url, sandbox=sandbox, clock=clock, storage_url=f"file://{tmp_path}/kept"
        ) as gateway,
        workbench(database_url, upstream_url=sandbox.url, clock=clock) as bench,
    ):
        png = b"\x89PNG\r\n\x1a\n" + bytes(300)
        file = (await gateway.http.post("/v1/files", content=png)).json()
        job = await gateway.submit(first_frame_image_url=file["id"])
        await bench.dispatcher.loop.run_once()
        for trouble in ("database", "stop"):
            gateway.wait(60)
            [attempt] = await bench.dispatcher.claim(32)
            bench.database.away = trouble == "database"
            dispatching = asyncio.ensure_future(bench.dispatcher.dispatch(attempt))
            await asyncio.sleep(0)  # noqa: TID251 - it begins to read
            if trouble == "stop":
                dispatching.cancel()
            bench.database.away = False
            while not dispatching.done():
                await asyncio.sleep(0)  # noqa: TID251 - yields, waits for nothing
                gateway.wait(0.001)
            assert (await gateway.read(job))["status"] == "pending", trouble
        files = tmp_path / "kept" / "files"
        aside = files.rename(tmp_path / "aside")
        files.symlink_to(files)  # a folder that nobody can look into
        gateway.wait(60)
        assert await gateway.dispatch() == 1
        files.unlink()
        aside.rename(files)
        assert await event_types(database_url, job) == [*(("pending", "submitting") * 4), "pending"]
        gateway.wait(60)
        assert (await gateway.follow(job))["status"] == "completed"
