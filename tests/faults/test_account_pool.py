"""Several accounts of RunComfy: a job stays with the one that has it, come what may to others."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.bootstrap.accounts import require_accounts
from app.core.clock import ManualClock
from app.core.errors import ConfigurationError
from app.settings import Settings, explicit_settings
from tests.support.gateway import SEEDANCE, Gateway, running
from tests.support.gateway import Sandbox as Upstream
from tests.support.invariants import assert_invariants, read_jobs
from tests.support.processes import Server, run
from tests.support.wire_server import Line, answer, wire_server

pytestmark = pytest.mark.either_database

POOL = "a=token-a1,b=token-b1"
_LATER = answer(503, {"error_code": 503001, "error_message": "later"}, Retry_After="200")


@dataclass
class House:
    """A RunComfy of several accounts, each with its own requests and its token of today."""

    url: str = ""
    tokens: dict[str, str] = field(default_factory=lambda: {"token-a1": "a", "token-b1": "b"})
    owners: dict[str, str] = field(default_factory=dict)
    poor: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    ended: str = "in_progress"
    strangers: int = 0
    calls: list[tuple[str, str]] = field(default_factory=list)

    async def serve(self, line: Line) -> None:
        while True:
            request = await line.request()
            token = request.headers["authorization"].removeprefix("Bearer ")
            path = request.target.partition("?")[0].split("/")
            account = self.tokens.get(token)
            is_later = account in self.later
            await line.send(_LATER if is_later else self.answer(account, path))

    def answer(self, account: str | None, path: list[str]) -> bytes:
        if account is None:
            return answer(401, {"error_code": 400004, "error_message": "the token is refused"})
        if path[2] == "models" and len(path) > 3:
            if account in self.poor:
                return answer(402, {"error_code": 400002, "error_message": "no balance"})
            request_id = f"req-{len(self.owners)}"
            self.owners[request_id] = account
            return answer(200, {"request_id": request_id})
        if path[2] == "models":
            entry = {"model_id": SEEDANCE, "input_schema": {"type": "object", "properties": {}}}
            return answer(200, {"models": [entry], "total": 1, "limit": 100, "offset": 0})
        request_id, call = path[3], path[4]
        if self.owners.get(request_id) != account:
            self.strangers += 1
            return answer(403, {"error_code": 403001, "error_message": "of another account"})
        self.calls.append((call, account))
        status = "succeeded" if (call, self.ended) == ("result", "completed") else self.ended
        body: dict[str, Any] = {"request_id": request_id, "status": status}
        if status == "succeeded":
            body["output"] = {"video": f"{self.url}/film.mp4"}
        if call == "cancel":
            body["outcome"] = "cancelled"
            self.ended = "cancelled"
        return answer(200, body)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    async with wire_server(house.serve) as server:
        house.url = server.url
        yield house


def opened(database_url: str, house: House, clock: ManualClock, pool: str, **settings: Any) -> Any:
    upstream = Upstream(url=house.url, http=None)  # type: ignore[arg-type] # nobody looks inside
    return running(database_url, sandbox=upstream, clock=clock, api_token=pool, **settings)


async def accounts_of(database_url: str) -> list[str | None]:
    jobs = await read_jobs(database_url)
    return [row.account for _, (row, _) in sorted(jobs.items())]


async def lanes_of(gateway: Gateway) -> dict[str, int]:
    told = (await gateway.http.get("/metrics")).text
    found = re.findall(r'^gateway_upstream_lane_open\{lane="(.+)"\} ([01])', told, re.MULTILINE)
    return {lane: int(is_open) for lane, is_open in found}


async def polled(gateway: Gateway, times: int = 1) -> None:
    for _ in range(times):
        gateway.wait(61)
        await gateway.poll()


async def test_jobs_are_shared_out_and_stay_with_their_account(
    database_url: str, house: House, clock: ManualClock
) -> None:
    async with opened(database_url, house, clock, POOL) as gateway:
        jobs = [await gateway.submit() for _ in range(6)]
        assert await gateway.dispatch() == 6
        shared = await accounts_of(database_url)
        assert (shared.count("a"), shared.count("b")) == (3, 3)
        assert (await gateway.workers.catalogue.sync()).models == 1
        await polled(gateway)
    # Rotation, and one account that takes no more: the jobs of both go on with today's tokens.
    house.tokens = {"token-a2": "a", "token-b2": "b"}
    async with opened(database_url, house, clock, "b=token-b2;drain,a=token-a2") as gateway:
        late = [await gateway.submit() for _ in range(3)]
        await gateway.dispatch()
        assert (await accounts_of(database_url))[-3:] == ["a"] * 3
        now = (await gateway.admin.get("/v1/admin/dispatch")).json()["accounts"]
        seen = [(each["name"], each["drains"], each["unfinished"]) for each in now]
        assert seen == [("b", True, 3), ("a", False, 6)]
        # A closed lane of one that drains would be opened by nobody.
        assert (await lanes_of(gateway)).keys() == {
            *("submits", "submits/a"),
            *("polls", "polls/a", "polls/b"),
        }
        house.ended = "completed"
        await polled(gateway, 2)
        for job in [*jobs, *late]:
            assert (await gateway.read(job))["status"] == "completed"
        shown = (await gateway.admin.get(f"/v1/admin/jobs/{late[0]['id']}")).text
        assert json.loads(shown)["account"] == "a"
        assert "token-" not in shown
    assert house.strangers == 0
    await assert_invariants(database_url)


@pytest.mark.parametrize("ended_by_hand", [False, True], ids=["adopted", "watched"])
async def test_a_late_request_id_is_followed_with_the_account_that_has_it(
    database_url: str, house: House, clock: ManualClock, *, ended_by_hand: bool
) -> None:
    async with opened(database_url, house, clock, POOL) as gateway:
        dispatcher, job = gateway.workers.dispatcher, await gateway.submit()
        [last] = await dispatcher.claim(1)
        other = "b" if last.lease.account == "a" else "a"
        earlier = replace(last, lease=replace(last.lease, account=other))
        request_id = await dispatcher.send(earlier)
        gateway.wait(31)
        await gateway.dispatch()
        if ended_by_hand:
            await gateway.admin.post(f"/v1/admin/jobs/{job['id']}/release")
        await dispatcher.follow(earlier.lease, request_id)
        house.ended = "completed"
        await polled(gateway)
        assert (await gateway.read(job))["status"] == "completed"
    assert house.strangers == 0
    await assert_invariants(database_url)


async def test_a_cancel_goes_to_the_jobs_own_account(
    database_url: str, house: House, clock: ManualClock
) -> None:
    async with opened(database_url, house, clock, POOL, max_in_flight=2) as gateway:
        await gateway.submit()
        job = await gateway.submit()
        await gateway.dispatch()
        house.ended = "in_queue"
        asked = asyncio.ensure_future(gateway.http.post(f"/v1/jobs/{job['id']}/cancel"))
        while not asked.done():
            gateway.wait(1)
            await gateway.poll()
        assert (await gateway.read(job))["status"] == "cancelled"
    assert ("cancel", "b") in house.calls
    assert ("cancel", "a") not in house.calls
    assert house.strangers == 0


@pytest.mark.parametrize("trouble", ["token", "balance"])
async def test_an_account_that_is_refused_is_passed_over_while_others_work(
    database_url: str, house: House, clock: ManualClock, trouble: str
) -> None:
    if trouble == "token":
        del house.tokens["token-a1"]
    else:
        house.poor.add("a")
    async with opened(database_url, house, clock, POOL) as gateway:
        jobs = [await gateway.submit() for _ in range(4)]
        for _ in range(4):
            await gateway.dispatch()
        assert [(await gateway.read(job))["status"] for job in jobs] == ["in_queue"] * 4
        assert await accounts_of(database_url) == ["b"] * 4
        now = (await gateway.admin.get("/v1/admin/dispatch")).json()
        assert (now["paused"], [each["paused"] for each in now["accounts"]]) == (
            False,
            [True, False],
        )
        assert await lanes_of(gateway) == {
            "submits": 1,
            "submits/a": 0,
            "submits/b": 1,
            "polls": 1,
            "polls/a": 1,
            "polls/b": 1,
        }
        assert (await gateway.http.get("/readyz")).json()["upstream"]["submits"] == "open"
        # Nobody has tried it since, and it works no better.
        gateway.wait(61)
        assert (await lanes_of(gateway))["submits/a"] == 0
        house.tokens["token-a1"] = "a"
        house.poor.clear()
        await gateway.submit()
        await gateway.dispatch()
        assert "a" in await accounts_of(database_url)
        gateway.wait(5)
        assert (await lanes_of(gateway))["submits/a"] == 1
        now = (await gateway.admin.get("/v1/admin/dispatch")).json()
        assert [each["reason"] for each in now["accounts"]] == [None, None]


async def test_when_all_accounts_are_refused_it_is_told_where_health_is(
    database_url: str, house: House, clock: ManualClock
) -> None:
    """One that drains is not asked for submits, and its lane, which stays open, helps nobody."""
    house.tokens.clear()
    async with opened(database_url, house, clock, f"{POOL},c=token-c1;drain") as gateway:
        for _ in range(4):
            await gateway.submit()
        assert (await gateway.http.get("/readyz")).json()["upstream"]["submits"] == "open"
        for _ in range(4):
            await gateway.dispatch()
        ready = await gateway.http.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["upstream"] == {"submits": "token_refused", "polls": "open"}
        lanes = await lanes_of(gateway)
        assert (lanes["submits/a"], lanes["submits/b"], lanes["submits"]) == (0, 0, 1)


@pytest.mark.parametrize("reason", ["token_refused", "retry_after"])
async def test_polls_of_an_account_in_trouble_hold_up_no_others(
    database_url: str, house: House, clock: ManualClock, reason: str
) -> None:
    async with opened(database_url, house, clock, POOL) as gateway:
        for _ in range(10):
            await gateway.submit()
        await gateway.dispatch()
        if reason == "token_refused":
            del house.tokens["token-a1"]
        else:
            house.later.add("a")
        await polled(gateway)
        house.ended = "completed"
        await polled(gateway, 2)
        jobs = await read_jobs(database_url)
        assert {row.account for row, _ in jobs.values() if row.state == "completed"} == {"b"}
        assert {row.account for row, _ in jobs.values() if row.state == "in_queue"} == {"a"}
        now = (await gateway.admin.get("/v1/admin/dispatch")).json()
        assert [each["polling"]["reason"] for each in now["accounts"]] == [reason, None]
        house.tokens["token-a1"] = "a"
        house.later.clear()
        await polled(gateway, 6)
        jobs = await read_jobs(database_url)
        assert {row.state for row, _ in jobs.values()} == {"completed"}


async def test_more_due_jobs_of_a_refused_account_than_may_be_polled_keep_none_from_others(
    database_url: str, house: House, clock: ManualClock
) -> None:
    async with opened(database_url, house, clock, POOL) as gateway:
        jobs = [await gateway.submit() for _ in range(4)]
        await gateway.dispatch()
        del house.tokens["token-a1"]
        for seconds in (2, 2, 2, 2, 20):
            gateway.wait(seconds)
            await gateway.poll()
        gateway.wait(20)
        poller = gateway.workers.poller
        claimed = [lease.account for _ in jobs for lease in await poller.claim(1)]
        assert claimed == ["b", "b"]
        gateway.wait(60)
        claimed = [lease.account for lease in await poller.claim(4)]
        assert sorted(claimed) == ["a", "b", "b"], "one job tries the account"
        assert await poller.claim(4) == []


async def test_an_account_that_was_refused_is_tried_with_one_job(
    database_url: str, house: House, clock: ManualClock
) -> None:
    async with opened(database_url, house, clock, POOL) as gateway:
        for _ in range(2):
            await gateway.submit()
            await gateway.dispatch()
        assert await accounts_of(database_url) == ["a", "b"]
        del house.tokens["token-a1"]
        await gateway.submit()
        for _ in range(2):
            await gateway.dispatch()
        gateway.wait(61)
        for _ in range(2):
            await gateway.submit()
        claimed = [await gateway.workers.dispatcher.claim(1) for _ in range(2)]
        assert [attempt.lease.account for (attempt,) in claimed] == ["a", "b"]


async def test_an_account_that_is_well_again_is_opened_by_whoever_finds_it_so(
    database_url: str, house: House, clock: ManualClock
) -> None:
    del house.tokens["token-a1"]
    async with opened(database_url, house, clock, POOL) as gateway:
        await gateway.submit()
        await gateway.dispatch()
        assert (await lanes_of(gateway))["submits/a"] == 0
    house.tokens["token-a1"] = "a"
    clock.advance(timedelta(seconds=61))
    async with opened(database_url, house, clock, POOL) as another:
        await another.dispatch()
        assert await accounts_of(database_url) == ["a"]
        assert (await lanes_of(another))["submits/a"] == 1


async def test_who_does_not_know_an_account_leaves_its_jobs_alone(
    database_url: str, house: House, clock: ManualClock
) -> None:
    async with opened(database_url, house, clock, "a=token-a1") as gateway:
        await gateway.submit()
        await gateway.dispatch()
    clock.advance(timedelta(seconds=60))
    async with opened(database_url, house, clock, "token-b1") as gateway:
        assert await gateway.poll() == 0
        await gateway.submit()
        await gateway.dispatch()
        assert await accounts_of(database_url) == ["a", "default"]
    assert house.strangers == 0
    with pytest.raises(ConfigurationError, match=r"'a', whose account has 1 job under way"):
        await require_accounts(settings(database_url, house, "token-b1"))
    await require_accounts(settings(database_url, house, "default=token-b1,a=token-a1;drain"))


def settings(database_url: str, house: House, pool: str) -> Settings:
    return explicit_settings(
        api_token=pool, upstream_url=house.url, database_url=database_url, secret_key="k" * 32
    )


async def test_jobs_of_an_account_that_it_does_not_know_keep_no_poller_from_others(
    database_url: str, house: House, clock: ManualClock
) -> None:
    """It was started before that account was added; and there are more of them than it may poll."""
    async with opened(database_url, house, clock, "a=token-a1") as another:
        for _ in range(30):
            await another.submit()
        await another.dispatch()
    gateway_of_b = opened(database_url, house, clock, "b=token-b1", polls_per_second=1)
    async with gateway_of_b as gateway:
        clock.advance(timedelta(seconds=10))
        job = await gateway.submit()
        await gateway.dispatch()
        house.ended = "completed"
        await polled(gateway, 2)
        assert (await gateway.read(job))["status"] == "completed"
    assert {account for _, account in house.calls} == {"b"}


async def test_a_watched_job_keeps_its_account_needed(
    database_url: str, house: House, clock: ManualClock
) -> None:
    async with opened(database_url, house, clock, POOL, job_timeout_seconds=100) as gateway:
        job = await gateway.submit()
        await gateway.dispatch()
        await polled(gateway, 3)
        assert (await gateway.read(job))["error"]["code"] == "timed_out"
        with pytest.raises(ConfigurationError, match="'a'"):
            await require_accounts(settings(database_url, house, "b=token-b1"))
        house.ended = "completed"
        await polled(gateway, 3)
        assert (await gateway.read(job))["status"] == "completed"
    await require_accounts(settings(database_url, house, "b=token-b1"))


async def test_the_missing_account_is_named_at_the_start(
    tmp_path: Path, house: House, clock: ManualClock
) -> None:
    server = Server(("serve",), tmp_path / "g", health="/healthz")
    from app.db import migrate  # noqa: PLC0415 - of this test alone

    database_url = f"sqlite:///{server.folder}/gateway.db"
    migrate.upgrade(database_url)
    async with opened(database_url, house, clock, "old=token-a1") as gateway:
        for _ in range(3):
            await gateway.submit()
        await gateway.dispatch()
    server.environment |= {
        "RUNCOMFY_API_TOKEN": "new=token-b1",
        "GATEWAY_UPSTREAM_URL": house.url,
    }
    code, _, said = await run(server, "worker")
    assert code == 2
    assert "'old', whose account has 3 jobs under way: add old=<its token>;drain" in said
    assert "token-" not in said
