"""The gateway beside its peers, all in one run: `make bench`, or `make bench quick=1` in a minute.

What it measures, and how to read it, is in bench/README.md; bench/results.md keeps the last run.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Literal

import uvloop

from app.core.clock import SystemClock
from app.core.logging import configure_logging
from bench import poller, streams
from bench.gateways import Gateway, gateway, libraries_kb, postgres
from bench.load import (
    ROOT,
    Connection,
    Figures,
    Turn,
    ask_again_and_again,
    drive,
    resident_kb,
    stub,
)
from bench.peers import Missing, Subject, peers
from bench.report import Report, machine, versions
from bench.targets import LITELLM, Measured, Whole, targets

RESULTS = ROOT / "bench" / "results.md"
CONNECTIONS = (1, 16, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    rounds: int
    seconds: float
    submit_seconds: float
    in_flight: tuple[int, int]
    poll_seconds: float
    streams: int
    stream_seconds: float


FULL = Scale(
    rounds=6,
    seconds=1,
    submit_seconds=4,
    in_flight=(10_000, 100_000),
    poll_seconds=6,
    streams=5000,
    stream_seconds=10,
)
QUICK = Scale(
    rounds=1,
    seconds=0.5,
    submit_seconds=1,
    in_flight=(1000, 10_000),
    poll_seconds=2,
    streams=300,
    stream_seconds=2,
)


async def main(scale: Scale, out: Path) -> None:
    report = Report()
    began = time.monotonic()
    at = datetime.now(UTC)  # noqa: TID251 - the date of a report
    report.say("# What was measured\n")
    report.say(f"{at:%Y-%m-%d %H:%M} UTC, {machine()}; {versions()}.")
    report.say("Only ratios within one run mean anything; see bench/README.md for what is what.")
    busy = os.getloadavg()[0]
    report.say(
        f"Before it began {busy:.1f} processes wanted to run: more than 0.5 blur all of it.\n"
    )
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        upstream = stack.enter_context(stub(ending=1))
        found = await stack.enter_async_context(peers(folder, upstream=upstream))
        beside = [each for each in found if isinstance(each, Subject)]
        gateways = []
        for name, url in (("SQLite", ""), ("Postgres", stack.enter_context(postgres()))):
            entered = await stack.enter_async_context(
                gateway(
                    folder / name,
                    name=f"gateway, {name}",
                    upstream=upstream,
                    database_url=url,
                    GATEWAY_MAX_IN_FLIGHT="100000",
                    GATEWAY_POLLS_PER_SECOND="100000",
                )
            )
            await entered.pause(paused=True)
            gateways.append(entered)
        running: list[Subject | Gateway] = [*beside, *gateways]
        memory = {each.name: resident_kb(each.pid) for each in running}
        subjects = [*beside, *[await each.subject() for each in gateways]]

        for subject in subjects:
            await _warm_up(subject)
        submits, per_accept = await _rounds("submit", subjects, gateways, scale)
        _show(report, "Submit", submits, per_accept)
        for peer in found:
            if isinstance(peer, Missing):
                report.say(f"{peer.name} is missing: {peer.why}.\n")
        for entered in gateways:
            entered.empty()  # else the position of the job that is read depends on earlier submits
        subjects = [*beside, *[await each.subject() for each in gateways]]
        reads, per_read = await _rounds("read", subjects, gateways, scale)
        _show(report, "Read a job", reads, per_read)
        _show(report, "Long poll", await _waits("wait", gateways, scale), {})
        _show(report, "Stream of a job's events", await _waits("stream", gateways, scale), {})
        report.say("Both: a job is submitted, waited for and cancelled; the times are those from")
        report.say("sending the cancel to the end of the waiter's answer.\n")
        litellm = next((each for each in beside if each.name.startswith(LITELLM)), None)
        whole = await _whole_rounds(gateways, litellm, scale)
        report.table(
            "whole jobs, and requests of LiteLLM beside them | per second | CPU us each",
            [
                f"{name} | {median(each.per_second for each in rounds):.0f}"
                f" | {median(each.cpu_us for each in rounds):.0f}"
                for name, rounds in whole.items()
            ],
        )
    polls = _polls(report, scale)
    held = await streams.measure(
        scale.streams, changes=50, idle=timedelta(seconds=scale.stream_seconds)
    )
    report.table("streams, one replica of two on Postgres | ", held.rows())

    table = targets(
        submits, reads, per_accept=per_accept, whole=whole, polls=polls, held=held, memory=memory
    )
    report.table(
        "resident at rest | MB",
        [
            *(f"{name} | {kb / 1024:.0f}" for name, kb in memory.items()),
            *(
                f"the gateway's libraries for {name}, imported and no more | {kb / 1024:.0f}"
                for name, kb in libraries_kb().items()
            ),
        ],
    )
    report.table(
        "# | metric | SQLite / Postgres | must | goal | ",
        [target.row() for target in table],
    )
    report.say(f"The whole run took {(time.monotonic() - began) / 60:.1f} minutes.")
    report.keep(out)


async def _warm_up(subject: Subject) -> None:
    """Have connections opened, statements compiled and modules imported before it counts."""
    for request, expects in ((subject.submit, subject.accepts_with), (subject.read, 200)):
        if request is not None:
            await ask_again_and_again(
                subject.port,
                request,
                expects=expects,
                connections=CONNECTIONS[-1],
                seconds=0.5,
                pid=subject.pid,
            )


async def _rounds(
    what: Literal["submit", "read"],
    subjects: Sequence[Subject],
    gateways: Sequence[Gateway],
    scale: Scale,
) -> tuple[Measured, Mapping[tuple[str, int], float]]:
    """Measure all in turn, again and again, so that other load on the machine affects all alike."""
    found: dict[tuple[str, int], list[Figures]] = defaultdict(list)
    statements: dict[tuple[str, int], list[float]] = defaultdict(list)
    by_name = {each.name: each for each in gateways}
    for _ in range(scale.rounds):
        for subject in subjects:
            request = subject.submit if what == "submit" else subject.read
            if request is None:
                continue
            of_gateway = by_name.get(subject.name)
            for connections in CONNECTIONS:
                if of_gateway and what == "submit":
                    of_gateway.empty()
                before = of_gateway.statements() if of_gateway else 0
                figures = await ask_again_and_again(
                    subject.port,
                    request,
                    expects=subject.accepts_with if what == "submit" else 200,
                    connections=connections,
                    seconds=scale.seconds,
                    pid=subject.pid,
                )
                found[subject.name, connections].append(figures)
                if of_gateway:
                    asked = of_gateway.statements() - before
                    statements[subject.name, connections].append(asked / figures.times)
    return found, {key: median(rounds) for key, rounds in statements.items()}


async def _waits(
    way: Literal["wait", "stream"], gateways: Sequence[Gateway], scale: Scale
) -> Measured:
    found = {}
    for each in gateways:
        for connections in CONNECTIONS:
            each.empty()
            pairs = [
                (await Connection.open(each.server.port), await Connection.open(each.server.port))
                for _ in range(connections)
            ]
            turns = [_waiting(way, each, waiter, other) for waiter, other in pairs]
            found[each.name, connections] = [
                await drive(turns, seconds=2 * scale.seconds, pid=each.pid)
            ]
            for waiter, other in pairs:
                waiter.close()
                other.close()
    return found


def _waiting(
    way: Literal["wait", "stream"], of: Gateway, waiter: Connection, other: Connection
) -> Turn:
    clock, submit = SystemClock(), of.submit()

    async def turn() -> float:
        status, body = await waiter.ask(submit)
        assert status == 202, body
        path = f"/v1/jobs/{body[7:37].decode()}"
        if way == "wait":
            answer = waiter.ask(of.request("GET", path, prefer="wait=30"))
        else:
            answer = waiter.ask(of.request("GET", f"{path}/events"))
        await clock.sleep(timedelta(milliseconds=10))  # by then it waits
        began = time.perf_counter()
        status, body = await other.ask(of.request("POST", f"{path}/cancel"))
        assert status == 200, body
        status, body = await answer
        assert status == 200, body
        assert b"cancelled" in body, body
        return time.perf_counter() - began

    return turn


async def _whole_rounds(
    gateways: Sequence[Gateway], litellm: Subject | None, scale: Scale
) -> Mapping[str, Sequence[Whole]]:
    found: dict[str, list[Whole]] = defaultdict(list)
    for _ in range(scale.rounds // 2 or 1):
        if litellm and litellm.submit:
            figures = await ask_again_and_again(
                litellm.port,
                litellm.submit,
                expects=litellm.accepts_with,
                connections=16,
                seconds=2 * scale.seconds,
                pid=litellm.pid,
            )
            passed = Whole(per_second=figures.per_second, cpu_us=figures.cpu_us)
            found[litellm.name].append(passed)
        for each in gateways:
            found[each.name].append(await _whole_jobs(each, scale.submit_seconds))
    return found


async def _whole_jobs(of: Gateway, seconds: float) -> Whole:
    """Submit jobs for so long, and wait until all are sent, polled, read and settled.

    The longer it takes, the less the last job's wait for its first poll weighs.
    """
    clock, sample = SystemClock(), 'gateway_job_moves_total{state="completed"}'
    of.empty()
    submit, jobs = of.submit(), 0

    async def send() -> None:
        nonlocal jobs
        connection = await Connection.open(of.server.port)
        while time.perf_counter() < began + seconds:
            status, body = await connection.ask(submit)
            assert status == 202, body
            jobs += 1
        connection.close()

    await of.pause(paused=False)
    cpu, began, before = of.cpu_s(), time.perf_counter(), await of.metric(sample)
    await asyncio.gather(*(send() for _ in range(16)))
    async with asyncio.timeout(300):
        while await of.metric(sample) < before + jobs:
            await clock.sleep(timedelta(milliseconds=200))
    passed, cpu = time.perf_counter() - began, of.cpu_s() - cpu
    await of.pause(paused=True)
    return Whole(per_second=jobs / passed, cpu_us=cpu / jobs * 1e6)


def _polls(report: Report, scale: Scale) -> Mapping[str, Sequence[poller.Figures]]:
    with postgres() as url:
        found = {
            name: list(poller.measured(database, scale.in_flight, seconds=scale.poll_seconds))
            for name, database in (("SQLite", ""), ("Postgres", url))
        }
    report.table(
        f"poller | {poller.HEAD}",
        [f"{name} | {each.row()}" for name, rows in found.items() for each in rows],
    )
    return found


def _show(
    report: Report,
    title: str,
    measured: Measured,
    statements: Mapping[tuple[str, int], float],
) -> None:
    rows = []
    for name in dict.fromkeys(name for name, _ in measured):
        each = [Figures.median(measured[name, connections]) for connections in CONNECTIONS]
        asked = [statements.get((name, connections)) for connections in CONNECTIONS]
        columns = (
            [f"{one.per_second:.0f}" for one in each],
            [f"{one.p50_ms:.2f}" for one in each],
            [f"{one.p99_ms:.1f}" for one in each],
            [f"{one.cpu_us:.0f}" for one in each],
            ["-" if one is None else f"{one:.2f}" for one in asked],
        )
        rows.append(" | ".join([name, *map(" / ".join, columns)]))
    report.table(
        f"{title}, at 1 / 16 / 64 connections | per second | p50 ms | p99 ms"
        " | CPU us each | statements each",
        rows,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="in a minute, and kept nowhere")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    configure_logging(format="console", level="warning")
    scale = QUICK if given.quick else FULL
    kept = given.out or (Path("/dev/null") if given.quick else RESULTS)
    uvloop.run(main(scale, kept))
