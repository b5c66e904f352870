"""Any order of submits, ends, hours and new limits, beside a dict that does the sums itself.

Nothing here is borrowed from the gateway: windows, sums and refusals are worked out anew.
"""

import asyncio
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import httpx
import pytest
import uvloop
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from hypothesis.stateful import run_state_machine_as_test as run_machine

from app.core.clock import ManualClock
from tests.support.databases import Databases
from tests.support.gateway import SEEDANCE, Gateway, running, sandboxed

Answer = TypeVar("Answer")
Ending = Literal["held", "settled", "released"]

HOUR = 3600
MAX_IN_FLIGHT = 12
USERS = ("alice", "bob")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")
# The last two begin a few hours before clocks in Berlin and New York go back.
STARTS = (
    datetime(2026, 11, 22, 10, tzinfo=UTC),
    datetime(2026, 10, 24, 19, tzinfo=UTC),
    datetime(2026, 10, 31, 20, tzinfo=UTC),
)
WORDS = (
    *("sandbox:instant", "sandbox:queue=3 sandbox:slow=4", "sandbox:instant sandbox:fail"),
    *("sandbox:stuck", "sandbox:stuck-in-queue", "sandbox:lost-answer", "sandbox:submit-422"),
    *("sandbox:submit-429=2 sandbox:instant", "sandbox:instant sandbox:output=none"),
)
MEASURES = {"jobs": "jobs", "output_seconds": "seconds", "spend_usd": "usd"}
WINDOWED = {f"{what}_per_{period}" for what in MEASURES for period in ("day", "month")}
AT_ONCE = {"pending_jobs", "concurrent_jobs"}
IN_FLIGHT = {"in_queue", "in_progress", "submit_unknown"}
FINAL: dict[str, Ending] = {"completed": "settled", "failed": "released", "cancelled": "released"}

limit_values = {
    "jobs": st.integers(0, 8),
    "output_seconds": st.integers(0, 40),
    "spend_usd": st.decimals(0, 4, places=2),
}
limit_sets = st.dictionaries(
    st.sampled_from(sorted(WINDOWED | AT_ONCE)),
    st.sampled_from(["enforce", "enforce", "shadow"]),
    max_size=4,
)


@dataclass
class Entry:
    """A job as its owner's bill sees it: in the windows `at` its accept or, late, at its end."""

    job_id: str
    user: str
    at: datetime
    seconds: Decimal
    usd: Decimal | None
    status: str = "pending"
    cost: Ending = "held"
    is_late: bool = False

    @property
    def rows(self) -> list[str]:
        """What the ledger has of it: one hold, and one end once it ended."""
        if self.is_late:
            return ["hold", "release", "late_charge"]
        return ["hold", *{"held": [], "settled": ["settle"], "released": ["release"]}[self.cost]]


@dataclass
class Bill:
    """Who owes what, and what each may yet ask for."""

    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    limits: dict[str, dict[str, tuple[Decimal, str]]] = field(
        default_factory=lambda: {user: {} for user in USERS}
    )
    price: Decimal | None = Decimal("0.10")
    entries: dict[str, Entry] = field(default_factory=dict)

    def of(self, user: str) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.user == user]

    def tally(self, user: str, name: str, *, now: datetime) -> tuple[Decimal, Decimal]:
        """Return what a limit counts as used and as held."""
        if name == "pending_jobs":
            return Decimal(sum(entry.status == "pending" for entry in self.of(user))), Decimal(0)
        if name == "concurrent_jobs":
            return Decimal(sum(entry.status in IN_FLIGHT for entry in self.of(user))), Decimal(0)
        what, period = name.rsplit("_per_", 1)
        start = self._start(period, now)
        sums = {"held": Decimal(0), "settled": Decimal(0), "released": Decimal(0)}
        for entry in self.of(user):
            if entry.at >= start:
                sums[entry.cost] += _amount(what, entry.seconds, entry.usd)
        return sums["settled"], sums["held"]

    def in_the_way(self, user: str, seconds: int, *, now: datetime) -> Iterator[str]:
        """Name the limits that one more job of so many seconds would exceed."""
        usd = None if self.price is None else self.price * seconds
        for name, (limit, mode) in self.limits[user].items():
            if mode == "shadow" or name == "concurrent_jobs":
                continue
            wanted = Decimal(1)
            if name in WINDOWED:
                wanted = _amount(name.rsplit("_per_", 1)[0], Decimal(seconds), usd)
            if sum(self.tally(user, name, now=now)) + wanted > limit:
                yield name

    def needs_price(self, user: str) -> bool:
        mine = self.limits[user].items()
        return any("usd" in name and mode == "enforce" for name, (_, mode) in mine)

    def _start(self, period: str, now: datetime) -> datetime:
        day = now.astimezone(self.zone).date()
        first = day.replace(day=1) if period == "month" else day
        return datetime.combine(first, time(), tzinfo=self.zone).astimezone(UTC)


def _amount(what: str, seconds: Decimal, usd: Decimal | None) -> Decimal:
    match what:
        case "jobs":
            return Decimal(1)
        case "output_seconds":
            return seconds
        case _:
            return usd or Decimal(0)


class LimitsLife(RuleBasedStateMachine):
    def __init__(self, databases: Databases) -> None:
        super().__init__()
        self.bill = Bill()
        self.restarts = 0
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.stack = AsyncExitStack()
        self.database_url = self.stack.enter_context(databases.fresh())

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(work)

    @initialize(start=st.sampled_from(STARTS))
    def open(self, start: datetime) -> None:
        self.clock = ManualClock(start)
        self.run(self._open())

    async def _open(self) -> None:
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        sandbox = sandboxed(Path(folder), clock=self.clock)
        self.sandbox = await self.stack.enter_async_context(sandbox)
        self.gateway = await self._start()
        bob = await self.gateway.client_of("bob")
        self.clients = {"alice": self.gateway.http, "bob": bob}
        await self._tell("post", "plans", {"name": "p", "timezone": "UTC", "limits": {}})
        for user in USERS:
            await self._tell("patch", f"users/{user}", {"plan": "p"})
        await self._set_price()

    async def _start(self) -> Gateway:
        # The longest time-out: until then an unknown submit is in flight.
        started = running(
            self.database_url,
            sandbox=self.sandbox,
            clock=self.clock,
            max_in_flight=MAX_IN_FLIGHT,
            job_timeout_seconds=30 * 24 * HOUR,
        )
        return await self.stack.enter_async_context(started)

    @rule(user=st.sampled_from(USERS), words=st.sampled_from(WORDS), seconds=st.integers(2, 12))
    def submit(self, user: str, words: str, seconds: int) -> None:
        now = self.clock.now()
        in_the_way = set(self.bill.in_the_way(user, seconds, now=now))
        body = self.gateway.body(words, duration=seconds)
        answer = self.run(self.clients[user].post("/v1/jobs", json=body))
        told = answer.json()
        if self.bill.price is None and self.bill.needs_price(user):
            assert (answer.status_code, told["code"]) == (422, "price_unknown")
        elif in_the_way:
            assert (answer.status_code, told["code"]) == (429, "quota_exceeded"), told
            assert told["limit"] in in_the_way
            used, held = self.bill.tally(user, told["limit"], now=now)
            assert (Decimal(told["used"]), Decimal(told["held"])) == (used, held)
        else:
            assert answer.status_code == 202, told
            usd = None if self.bill.price is None else self.bill.price * seconds
            self.bill.entries[told["id"]] = Entry(told["id"], user, now, Decimal(seconds), usd)
            assert told["cost"]["state"] == "held"
            assert _money(told["cost"]["amount_usd"]) == usd

    @rule(user=st.sampled_from(USERS), at_once=st.integers(2, 5))
    def submit_at_once(self, user: str, at_once: int) -> None:
        """However many fit are accepted: jobs alike, so it does not matter which."""
        now, seconds = self.clock.now(), 4
        bodies = [self.gateway.body("sandbox:instant", duration=seconds) for _ in range(at_once)]
        answers = self.run(self._post_all(user, bodies))
        accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        fitting = 0
        for job_id in [*accepted, *(f"none-{n}" for n in range(at_once))]:
            if self.bill.price is None and self.bill.needs_price(user):
                break
            if fitting == at_once or list(self.bill.in_the_way(user, seconds, now=now)):
                break
            usd = None if self.bill.price is None else self.bill.price * seconds
            self.bill.entries[job_id] = Entry(job_id, user, now, Decimal(seconds), usd)
            fitting += 1
        assert fitting == len(accepted)

    async def _post_all(self, user: str, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
        posts = (self.clients[user].post("/v1/jobs", json=body) for body in bodies)
        return await asyncio.gather(*posts)

    @precondition(lambda self: self.bill.entries)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.bill.entries)))
        entry = self.bill.entries[job_id]
        if entry.status in {"in_queue", "in_progress"}:
            return  # would wait for a worker
        path = f"/v1/jobs/{job_id}/cancel"
        answer = self.run(self.clients[entry.user].post(path))
        assert answer.status_code == (200 if entry.status in {"pending", "cancelled"} else 409)

    @rule()
    def dispatch(self) -> None:
        flying = {user: self._in_flight(user) for user in USERS}
        self.run(self.gateway.dispatch())
        self._learn()
        assert sum(self._in_flight(user) for user in USERS) <= MAX_IN_FLIGHT
        for user, before in flying.items():
            limit, mode = self.bill.limits[user].get("concurrent_jobs", (Decimal(99), "enforce"))
            assert mode == "shadow" or self._in_flight(user) <= max(limit, before)

    @rule()
    def poll(self) -> None:
        self.run(self.gateway.poll())

    @rule(seconds=st.sampled_from([1, 8, 31, HOUR, 6 * HOUR, 9 * 24 * HOUR]))
    def wait(self, seconds: int) -> None:
        self.gateway.wait(seconds)

    @rule(period=st.sampled_from(["day", "month"]), beyond=st.sampled_from([-1, 0, 1]))
    def wait_for_the_edge_of_a_window(self, period: str, beyond: int) -> None:
        """Go to the second before, at or after the next local midnight of that kind."""
        local = self.clock.now().astimezone(self.bill.zone).date()
        days = 1 if period == "day" else 32 - (local + timedelta(days=0)).day
        edge = local + timedelta(days=days)
        if period == "month":
            edge = edge.replace(day=1)
        midnight = datetime.combine(edge, time(), tzinfo=self.bill.zone)
        target = midnight.astimezone(UTC) + timedelta(seconds=beyond)
        if target > self.clock.now():
            self.clock.advance(target - self.clock.now())

    @rule(user=st.sampled_from(USERS), names=limit_sets, data=st.data())
    def change_limits(self, user: str, names: dict[str, str], data: st.DataObject) -> None:
        self.limit(user, {name: (data.draw(_value_of(name)), mode) for name, mode in names.items()})

    def limit(self, user: str, chosen: dict[str, tuple[Decimal, str]]) -> None:
        """Put a user under other limits, by way of overrides; the plan has none of its own."""
        gone = dict.fromkeys(self.bill.limits[user])
        body = {
            name: {"limit": str(limit) if "usd" in name else int(limit), "mode": mode}
            for name, (limit, mode) in chosen.items()
        }
        self.run(self._tell("patch", f"users/{user}", {"limits": gone | body}))
        self.bill.limits[user] = chosen

    @rule(user=st.sampled_from(USERS), places=st.integers(0, 3))
    def crowd(self, user: str, places: int) -> None:
        """Let more jobs wait than have places, and the dispatcher choose."""
        self.limit(user, {"concurrent_jobs": (Decimal(places), "enforce")})
        self.submit_at_once(user=user, at_once=places + 2)
        self.dispatch()

    @rule(zone=st.sampled_from(ZONES))
    def move_the_plan(self, zone: str) -> None:
        self.run(self._tell("patch", "plans/p", {"timezone": zone}))
        self.bill.zone = ZoneInfo(zone)

    @rule(price=st.sampled_from([None, Decimal("0.10"), Decimal("0.07")]))
    def change_the_price(self, price: Decimal | None) -> None:
        self.bill.price = price
        self.run(self._set_price())

    @precondition(lambda self: self.restarts < 2)
    @rule()
    def crash_and_restart(self) -> None:
        self.restarts += 1
        self.gateway = self.run(self._start())
        key = self.clients["bob"].headers["Authorization"].removeprefix("Bearer ")
        self.clients = {"alice": self.gateway.http, "bob": self.gateway.client_with(key)}

    @invariant()
    def every_limit_stands_as_the_bill_says(self) -> None:
        self._learn()
        now = self.clock.now()
        for user in USERS:
            me = self.run(self.clients[user].get("/v1/me")).json()
            told = {limit["name"]: limit for limit in me["limits"]}
            assert told.keys() == self.bill.limits[user].keys()
            for name, (limit, mode) in self.bill.limits[user].items():
                used, held = self.bill.tally(user, name, now=now)
                shown = told[name]
                numbers = [Decimal(shown[n]) for n in ("limit", "used", "held", "remaining")]
                assert numbers == [limit, used, held, max(Decimal(0), limit - used - held)], shown
                assert shown["mode"] == mode

    @invariant()
    def the_ledger_adds_up(self) -> None:
        checked = self.run(self.gateway.admin.get("/v1/admin/invariants")).json()
        assert checked == {"ok": True, "violations": []}
        for user in USERS:
            asked = {"from": "2026-10-01", "to": "2027-09-30", "group_by": "model"}
            rows = self.run(self.clients[user].get("/v1/usage", params=asked)).json()["data"]
            entries = self.bill.of(user)
            assert sum(row["jobs"] for row in rows) == len(entries)
            for state, seconds, usd in (
                ("settled", "output_seconds", "spend_usd"),
                ("held", "output_seconds_held", "spend_usd_held"),
            ):
                mine = [entry for entry in entries if entry.cost == state]
                assert sum(row[seconds] for row in rows) == sum(entry.seconds for entry in mine)
                billed = sum((entry.usd or Decimal(0) for entry in mine), Decimal(0))
                assert sum((Decimal(row[usd]) for row in rows), Decimal(0)) == billed

    def teardown(self) -> None:
        try:
            if hasattr(self, "gateway"):
                self.run(self._look_at_every_bill())
        finally:
            self.run(self.stack.aclose())
            self.runner.close()

    async def _look_at_every_bill(self) -> None:
        for entry in self.bill.entries.values():
            detail = (await self.gateway.admin.get(f"/v1/admin/jobs/{entry.job_id}")).json()
            assert [row["kind"] for row in detail["ledger"]] == entry.rows
            assert {_money(row["amount_usd"]) for row in detail["ledger"]} == {entry.usd}

    def late_jobs(self) -> list[str]:
        return [entry.job_id for entry in self.bill.entries.values() if entry.is_late]

    def _in_flight(self, user: str) -> int:
        return sum(entry.status in IN_FLIGHT for entry in self.bill.of(user))

    def _learn(self) -> None:
        """Read how far each job is; what that means for its hold is for the bill to say."""
        for user in USERS:
            cursor: str | None = ""
            while cursor is not None:
                asked = {"limit": 100} | ({"cursor": cursor} if cursor else {})
                page = self.run(self.clients[user].get("/v1/jobs", params=asked)).json()
                for job in page["data"]:
                    entry = self.bill.entries[job["id"]]
                    entry.status = job["status"]
                    entry.cost = FINAL.get(job["status"], "held")
                    if job["late"] and not entry.is_late:
                        entry.is_late, entry.at = True, datetime.fromisoformat(job["finished_at"])
                    if (job["error"] or {}).get("code") == "submit_unknown":
                        entry.cost = "settled"  # nobody knows, so it counts as spent
                    assert job["cost"]["state"] == entry.cost
                cursor = page["next_cursor"]

    async def _set_price(self) -> None:
        line = {"model": SEEDANCE, "price_unit": "second"}
        prices = [line | {"base_price_usd": str(self.bill.price)}] if self.bill.price else []
        await self._tell("put", "prices", {"prices": prices})
        self.gateway.wait(2)  # a price may be a second old

    async def _tell(self, method: str, path: str, body: dict[str, Any]) -> None:
        answer = await self.gateway.admin.request(method, f"/v1/admin/{path}", json=body)
        assert answer.is_success, answer.text


def _value_of(name: str) -> st.SearchStrategy[Decimal]:
    if name in AT_ONCE:
        return st.integers(0, 5).map(Decimal)
    return limit_values[name.rsplit("_per_", 1)[0]].map(Decimal)


def _money(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


@pytest.mark.either_database
def test_what_succeeds_after_its_time_counts_when_it_does(databases: Databases) -> None:
    life = LimitsLife(databases)
    try:
        life.open(datetime(2026, 11, 1, tzinfo=UTC))
        life.crowd(user="alice", places=2)
        life.limit("alice", dict.fromkeys(WINDOWED, (Decimal(50), "enforce")))
        for _ in range(2):
            life.wait_for_the_edge_of_a_window(period="month", beyond=0)
        for _ in range(3):  # it ends what was sent, since nobody looks at it for a lease
            life.dispatch()
            life.wait(20)
        life.every_limit_stands_as_the_bill_says()
        assert not life.late_jobs()
        life.poll()
        life.every_limit_stands_as_the_bill_says()
        life.the_ledger_adds_up()
        assert life.late_jobs()
    finally:
        life.teardown()


@pytest.mark.timeout(600)
def test_no_order_of_events_bends_a_limit(databases: Databases) -> None:
    run_machine(
        lambda: LimitsLife(databases),
        settings=settings(
            # Shrinking over a database takes minutes; a failure is short enough to be read.
            phases=[Phase.generate],
            max_examples=settings().max_examples // 25,
            stateful_step_count=30,
        ),
    )
