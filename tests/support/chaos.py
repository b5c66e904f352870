"""Clients that spend money while everything is killed, frozen and restarted; then the reckoning."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from app.core.clock import SystemClock
from app.db.migrate import upgrade
from tests.support.gateway import ADMIN_TOKEN, SEEDANCE
from tests.support.keys import make_key
from tests.support.pictures import data_uri, png
from tests.support.postgres import PostgresServer, restartable_postgres
from tests.support.processes import Server, gateway_process, sandbox_process, worker_process
from tests.support.receiver import Receiver, receiving
from tests.support.rows import look
from tests.support.storages import files_below

LEASE_S = 10
REPLICAS = 3
USERS = ("alice", "bob")
MARKER = "planted-prompt-5d1c"
ENDS = {"completed", "failed", "cancelled", "submit_unknown"}
# What upstream may do to a job, each word with how often it is drawn.
SCENARIOS = {
    "": 10,
    "sandbox:instant": 6,
    "sandbox:fail": 2,
    "sandbox:slow=60": 2,
    "sandbox:submit-429": 1,
    "sandbox:submit-503": 1,
    "sandbox:lost-answer": 1,
    "sandbox:lost-answer=hang": 1,
    "sandbox:cut-request": 1,
    "sandbox:poll-504=3": 1,
    "sandbox:poll-reset=2": 1,
    "sandbox:result-html=2": 1,
    "sandbox:lost-cancel": 1,
    "sandbox:cancel-undone=20": 1,
}
# What a job's picture is, and of how many bytes; some take more than one row of Postgres.
PICTURES = {"url": 14, "upload": 3, "data": 3}
PICTURE_BYTES = {2_000: 4, 20_000: 4, 2**20 + 5: 1}
FILE_LIFE_S = 15
_PATIENCE_S = 120
_NO_DATABASE = os.EX_TEMPFAIL  # the exit code of a command when something it needs is away
_CLOCK = SystemClock()


@dataclass
class Tally:
    """All of it must stay empty, except `seen` and `ended`."""

    seen: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, list[str]]:
        named = ("lost", "doubled", "drift", "unheard", "leaked", "strange")
        return {name: found for name in named if (found := getattr(self, name))}


@dataclass
class World:
    """The gateway, its upstream and a receiver; on Postgres three replicas and a worker."""

    postgres: PostgresServer | None
    sandbox: Server
    replicas: list[Server]
    worker: "Worker | None"
    receiver: Receiver
    database: str
    kept: Path | None
    """The folder of uploads and outputs; without one uploads are rows."""
    http: httpx.AsyncClient
    keys: dict[str, str]
    draw: random.Random
    tally: Tally = field(default_factory=Tally)
    accepted: dict[str, str] = field(default_factory=dict)
    """The ids of jobs by prompt."""
    pictures: dict[str, str] = field(default_factory=dict)
    """What upstream must be sent as the picture, by prompt."""
    hooked: set[str] = field(default_factory=set)
    frozen: Counter[str] = field(default_factory=Counter)
    """How often each address was frozen: what was asked of it then may go unanswered."""


@dataclass
class Worker:
    """`gateway worker`, which listens nowhere."""

    beside: Server
    stack: AsyncExitStack
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await self.stack.enter_async_context(worker_process(self.beside))

    async def kill(self) -> None:
        """Kill it, or find that it ended because there was no database when it started."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        code = await self.process.wait()
        assert code in (-signal.SIGKILL, _NO_DATABASE), f"the worker ended with {code}"


@asynccontextmanager
async def world(folder: Path, *, seed: int, on_sqlite: bool = False) -> AsyncIterator[World]:
    """Start everything; on SQLite one process serves and works, and keeps files in a folder."""
    async with AsyncExitStack() as stack:
        postgres = None
        if not on_sqlite:
            # Here the database does crash, and must then have all that it confirmed.
            postgres = stack.enter_context(restartable_postgres(synchronous_commit="on"))
            await asyncio.to_thread(upgrade, postgres.url)
        receiver = await stack.enter_async_context(receiving())
        enter = stack.enter_async_context
        sandbox = await enter(sandbox_process(folder / "sandbox", speed=10))
        settings = {
            "GATEWAY_DATABASE_URL": postgres.url if postgres else "sqlite:///gateway.db",
            "GATEWAY_SECRET_KEY": "planted-secret-" + "k" * 32,
            "GATEWAY_ADMIN_TOKEN": f"ops:{ADMIN_TOKEN}",
            "GATEWAY_LEASE_SECONDS": str(LEASE_S),
            # A job of unknown outcome keeps its slot, and here there are hundreds.
            "GATEWAY_MAX_IN_FLIGHT": "1000",
            "GATEWAY_WEBHOOK_NETWORKS": "127.0.0.0/8",
            "GATEWAY_FILE_DAYS": str(FILE_LIFE_S / 86_400),
        }
        kept = folder / "kept" if on_sqlite else None
        if kept:
            settings["GATEWAY_STORAGE_URL"] = f"file://{kept}"
        replicas = [
            await enter(
                gateway_process(folder / f"replica-{n}", upstream_url=sandbox.url, **settings)
            )
            for n in range(REPLICAS if postgres else 1)
        ]
        worker = Worker(replicas[0], stack) if postgres else None
        if worker:
            await worker.start()
        await asyncio.gather(sandbox.ready(), *(replica.ready() for replica in replicas))
        http = await enter(httpx.AsyncClient(timeout=_PATIENCE_S))
        database = postgres.url if postgres else f"sqlite:///{replicas[0].folder}/gateway.db"
        keys = {user: await make_key(database, user) for user in USERS}
        acting = ("act_as", "jobs:read", "jobs:write", "files")
        keys["shop"] = await make_key(database, "shop", scopes=acting)
        yield World(
            postgres=postgres,
            sandbox=sandbox,
            replicas=replicas,
            worker=worker,
            receiver=receiver,
            database=database,
            kept=kept,
            http=http,
            keys=keys,
            draw=random.Random(seed),
        )


async def rampage(at: World, *, seconds: float, jobs: int, clients: int = 6) -> None:
    """Submit `jobs` while things break, for as long as both last; then restore order."""
    numbers = iter(range(jobs))
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        breaking = group.create_task(_break_things(at, over))
        submitting = [group.create_task(_submit_many(at, numbers, over)) for _ in range(clients)]
        await _wait(over, seconds)
        over.set()
        await asyncio.gather(breaking, *submitting)
    assert await _answers_again(at)


async def reckon(at: World, *, within: float) -> Tally:
    """Wait until all jobs have ended, and compare what each side says of them."""
    tally = at.tally
    ended = await _ended(at, within=within)
    tally.lost += [
        f"the file of {job['id']}"
        for job in await _jobs(at)
        if job["error"] and job["error"]["code"] == "file_lost"
    ]
    for prompt, job_id in at.accepted.items():
        status = ended.get(job_id, "gone")
        tally.ended[status] += 1
        if status not in ENDS:
            tally.lost.append(f"{job_id} is {status}: {prompt}")
    seen = (await at.http.get(f"{at.sandbox.url}/sandbox/requests")).json()["requests"]
    tally.strange += [
        f"not the picture of {prompt}"
        for each in seen
        if (given := each["input"])  # a request that was cut has none
        and given["first_frame_image_url"] != at.pictures[prompt := given["prompt"]]
    ]
    taken = Counter(each["input"]["prompt"] for each in seen if each["accepted"])
    tally.doubled += [f"{times} times: {prompt}" for prompt, times in taken.items() if times > 1]
    tally.lost += [
        f"completed, and never sent: {prompt}"
        for prompt, job_id in at.accepted.items()
        if ended.get(job_id) == "completed" and prompt not in taken
    ]
    invariants = await at.http.get(f"{at.replicas[0].url}/v1/admin/invariants", headers=_operator())
    tally.drift += [str(each) for each in invariants.json()["violations"]]
    tally.unheard += await _unheard(at, ended, within=within)
    tally.leaked += _leaked(at)
    tally.leaked += await _left_over(at)
    return tally


async def _submit_many(at: World, numbers: Any, over: asyncio.Event) -> None:
    for number in numbers:
        if over.is_set():
            return
        await _one_job(at, number)
        await _CLOCK.sleep(timedelta(seconds=at.draw.uniform(0, 0.2)))


async def _one_job(at: World, number: int) -> None:
    draw = at.draw
    words = draw.choices(list(SCENARIOS), list(SCENARIOS.values()))[0]
    prompt = f"{MARKER} {number} {words}".strip()
    user = draw.choice(list(at.keys))
    headers = {"Authorization": f"Bearer {at.keys[user]}"}
    if user == "shop":
        headers["X-Gateway-User"] = f"u{draw.randrange(3)}"
    began_at = _CLOCK.monotonic()
    picture = await _picture(at, prompt, headers)
    if picture is None:
        return
    given = {"prompt": prompt, "first_frame_image_url": picture, "duration": 2}
    if keyed := draw.random() < 0.7:
        headers["Idempotency-Key"] = f"order-{number}"
    shaped = draw.random() < 0.4
    hook = None if shaped or draw.random() < 0.7 else f"{at.receiver.url}?n={number}"
    path = f"/v1/models/{SEEDANCE}" if shaped else "/v1/jobs"
    body: dict[str, Any] = given if shaped else {"model": SEEDANCE, "input": given}
    if hook:
        body["webhook_url"] = hook
    answer = await _insist(at, "POST", path, json=body, headers=headers, again=keyed)
    if answer is None:
        return
    had_time_to_expire = _CLOCK.monotonic() - began_at > FILE_LIFE_S
    if picture.startswith("file_") and answer.status_code == 422 and had_time_to_expire:
        at.tally.seen["expired files"] += 1
        return
    if answer.status_code not in {200, 202}:
        at.tally.strange.append(f"{path} answered {answer.status_code}: {answer.text[:300]}")
        return
    told = answer.json()
    job_id = told["request_id" if shaped else "id"]
    at.accepted[prompt] = job_id
    if hook:
        at.hooked.add(job_id)
    if draw.random() < 0.15:
        headers.pop("Idempotency-Key", None)
        await _cancel(at, f"/v1/{'requests' if shaped else 'jobs'}/{job_id}/cancel", headers)


async def _picture(at: World, prompt: str, headers: dict[str, str]) -> str | None:
    """Return what a job is to name as its picture: a URL, a data URI or an uploaded file."""
    way = at.draw.choices(list(PICTURES), list(PICTURES.values()))[0]
    if way == "url":
        url = "https://example.com/a.png?signature=planted-signature"
        at.pictures[prompt] = url
        return url
    size = at.draw.choices(list(PICTURE_BYTES), list(PICTURE_BYTES.values()))[0]
    content = png(640, 360) + at.draw.randbytes(size)
    at.pictures[prompt] = data_uri(content)  # upstream cannot reach a gateway on loopback
    at.tally.seen[f"pictures as {way}"] += 1
    if way == "data":
        return at.pictures[prompt]
    answer = await _insist(
        at, "POST", "/v1/files", content=content, headers=headers, again=at.draw.random() < 0.7
    )
    if answer is None:
        return None
    if answer.status_code != 201:
        at.tally.strange.append(f"an upload answered {answer.status_code}: {answer.text[:300]}")
        return None
    file_id: str = answer.json()["id"]
    return file_id


async def _cancel(at: World, path: str, headers: dict[str, str]) -> None:
    await _CLOCK.sleep(timedelta(seconds=at.draw.uniform(0, 2)))
    answer = await _insist(at, "POST", path, headers=headers, again=True)
    if answer is not None and answer.status_code not in {200, 202, 409}:
        at.tally.strange.append(f"cancel answered {answer.status_code}: {answer.text[:300]}")
    at.tally.seen["cancels"] += 1


async def _insist(
    at: World, method: str, path: str, *, again: bool, **given: Any
) -> httpx.Response | None:
    """Ask any replica; if `again`, ask others until one gives a definite answer."""
    while True:
        server = at.draw.choice(at.replicas)
        frozen = at.frozen[server.url]
        try:
            answer = await at.http.request(method, server.url + path, **given)
        except httpx.TimeoutException:
            if at.frozen[server.url] == frozen:
                at.tally.strange.append(f"{path} hung for {_PATIENCE_S} s")
        except httpx.TransportError:
            at.tally.seen["broken connections"] += 1
        else:
            if answer.status_code != 503:
                return answer
            at.tally.seen["503"] += 1
            if "Retry-After" not in answer.headers:
                at.tally.strange.append(f"503 without Retry-After: {answer.text[:300]}")
        if not again:
            return None
        await _CLOCK.sleep(timedelta(seconds=0.2))


async def _break_things(at: World, over: asyncio.Event) -> None:
    ways: dict[Callable[[World], Coroutine[Any, Any, None]], int] = {
        _kill_replica: 5,
        _stop_replica: 2,
        _freeze_replica: 2,
        _kill_sandbox: 2,
    }
    if at.postgres:
        ways |= {_kill_worker: 3, _restart_database: 2, _kill_all: 1}
    # Each way is taken once before any is taken again at random.
    todo = at.draw.sample(list(ways), len(ways))
    while True:
        await _wait(over, at.draw.uniform(0.2, 3))
        if over.is_set():
            return
        way = todo.pop() if todo else at.draw.choices(list(ways), list(ways.values()))[0]
        await way(at)
        at.tally.seen[way.__name__.strip("_").replace("_", " ")] += 1


async def _kill_replica(at: World) -> None:
    victim = at.draw.choice(at.replicas)
    await victim.kill()
    await _CLOCK.sleep(timedelta(seconds=at.draw.uniform(0, 1)))
    await _revive(victim)


async def _stop_replica(at: World) -> None:
    victim = at.draw.choice(at.replicas)
    took = await victim.stop()
    at.tally.seen["longest stop, ms"] = max(at.tally.seen["longest stop, ms"], int(took * 1000))
    await _revive(victim)


async def _freeze_replica(at: World) -> None:
    victim = at.draw.choice(at.replicas)
    assert victim.process is not None
    at.frozen[victim.url] += 1
    victim.process.send_signal(signal.SIGSTOP)
    await _CLOCK.sleep(timedelta(seconds=LEASE_S + at.draw.uniform(0.5, 3)))
    victim.process.send_signal(signal.SIGCONT)


async def _kill_worker(at: World) -> None:
    assert at.worker is not None
    await at.worker.kill()
    await at.worker.start()


async def _kill_sandbox(at: World) -> None:
    await at.sandbox.kill()
    await _CLOCK.sleep(timedelta(seconds=at.draw.uniform(0, 2)))
    await _revive(at.sandbox)


async def _restart_database(at: World) -> None:
    assert at.postgres is not None
    how = at.draw.choice([signal.SIGINT, signal.SIGQUIT])
    await asyncio.to_thread(at.postgres.stop, how)
    await _CLOCK.sleep(timedelta(seconds=at.draw.uniform(0, 4)))
    await asyncio.to_thread(at.postgres.start)


async def _kill_all(at: World) -> None:
    assert at.worker is not None
    victims = [*at.replicas, at.worker]
    await asyncio.gather(*(victim.kill() for victim in victims))
    await asyncio.gather(*(victim.start() for victim in victims))
    await asyncio.gather(*(replica.ready() for replica in at.replicas))


async def _revive(server: Server) -> None:
    await server.start()
    await server.ready()


async def _wait(over: asyncio.Event, seconds: float) -> None:
    waiting = asyncio.ensure_future(over.wait())
    await asyncio.wait({waiting}, timeout=seconds)
    waiting.cancel()


async def _answers_again(at: World) -> bool:
    """Return whether every replica serves from the database by itself."""
    headers = {"Authorization": f"Bearer {at.keys['alice']}"}
    for replica in at.replicas:
        for _ in range(_PATIENCE_S):
            answer = await at.http.get(f"{replica.url}/v1/jobs?limit=1", headers=headers)
            if answer.status_code == 200:
                break
            await _CLOCK.sleep(timedelta(seconds=1))
        else:
            return False
    return True


def _operator() -> dict[str, str]:
    return {"Authorization": f"Bearer {ADMIN_TOKEN}"}


async def _jobs(at: World) -> list[dict[str, Any]]:
    """Read all jobs as an operator pages through them."""
    url = f"{at.replicas[0].url}/v1/admin/jobs"
    jobs: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await at.http.get(url, params={"limit": "100", **cursor}, headers=_operator())
        assert answer.status_code == 200, answer.text
        page = answer.json()
        jobs += page["data"]
        if page["next_cursor"] is None:
            return jobs
        cursor = {"cursor": page["next_cursor"]}


async def _ended(at: World, *, within: float) -> dict[str, str]:
    """Return every job's status by id, once all have ended or time is up."""
    give_up_at = _CLOCK.monotonic() + within
    while True:
        seen = {job["id"]: job["status"] for job in await _jobs(at)}
        if set(seen.values()) <= ENDS or _CLOCK.monotonic() > give_up_at:
            return seen
        await _CLOCK.sleep(timedelta(seconds=0.5))


async def _unheard(at: World, ended: dict[str, str], *, within: float) -> list[str]:
    """List the jobs whose end the receiver has not heard of, though it always listened."""
    give_up_at = _CLOCK.monotonic() + within
    while True:
        heard = {message.payload["data"]["id"] for message in at.receiver.messages}
        missing = [job for job in at.hooked if ended.get(job) in ENDS and job not in heard]
        if not missing or _CLOCK.monotonic() > give_up_at:
            at.tally.strange += [
                f"a message leads to {link}"
                for message in at.receiver.messages
                if not (link := message.payload["data"]["urls"]["self"]).startswith(
                    tuple(replica.url for replica in at.replicas)
                )
            ]
            return missing
        await _CLOCK.sleep(timedelta(seconds=0.5))


async def _left_over(at: World) -> list[str]:
    """List files that should have been deleted by now, and bytes that nothing refers to."""
    await _CLOCK.sleep(timedelta(seconds=FILE_LIFE_S))
    await at.replicas[0].stop()
    await _revive(at.replicas[0])  # what has expired is deleted at the start
    give_up_at = _CLOCK.monotonic() + _PATIENCE_S
    while (left := await asyncio.to_thread(_unused, at)) and _CLOCK.monotonic() < give_up_at:
        await _CLOCK.sleep(timedelta(seconds=0.5))
    return left


def _unused(at: World) -> list[str]:
    """What broke off is deleted hours later; until then it must be known where it is."""
    if at.kept:
        found = {str(path.relative_to(at.kept)).partition("#")[0] for path in files_below(at.kept)}
    else:
        found = {key for (key,) in look(at.database, "SELECT storage_key FROM file_parts")}
    known = {
        key
        for table in ("files", "outputs", "discards")
        for (key,) in look(at.database, f"SELECT storage_key FROM {table}")
    }
    over = look(
        at.database,
        "SELECT id FROM files WHERE state = 'ready' AND NOT EXISTS (SELECT 1 FROM job_files"
        " JOIN jobs ON jobs.id = job_files.job_id"
        " WHERE job_files.file_id = files.id AND jobs.finished_at IS NULL)",
    )
    return [
        *(f"{key} belongs to nothing" for key in sorted(found - known)),
        *(f"{file_id} is not deleted" for (file_id,) in over),
    ]


def _leaked(at: World) -> list[str]:
    """Search every log for what must be in none."""
    planted = [MARKER, "planted-", ADMIN_TOKEN, "upstream-token", *at.keys.values()]
    return [
        f"{word[:20]} is in the log of {replica.folder.name}"
        for replica in at.replicas
        for word in planted
        if word in (replica.folder / "log").read_text()
    ]
