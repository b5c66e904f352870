"""Outputs are copied, and come from the copy once it is there."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app.core.clock import ManualClock
from app.core.doorbell import Doorbell
from app.core.metrics import Metrics
from app.db.engine import open_database
from app.storage.copies import CopyQueue
from app.storage.opening import open_storage
from app.upstream.outputs import OutputClient
from app.worker.archiver import Archiver, ArchiverConfig
from tests.support.answers import problem
from tests.support.gateway import PUBLIC_URL, Gateway, Sandbox, running
from tests.support.rows import change
from tests.support.storages import files_below, point_at, running_s3
from tests.support.switched_database import SwitchedDatabase
from tests.support.wire_server import Line, answer, answers, wire_server

pytestmark = pytest.mark.either_database

LEASE = timedelta(seconds=30)
RISK_HOURS = 4
FILM = b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + bytes(range(256)) * 4000


@pytest.fixture
async def kept(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Gateway]:
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        storage_url=f"file://{tmp_path}/kept",
        output_risk_hours=RISK_HOURS,
    ) as gateway:
        yield gateway


@pytest.fixture
async def queue(database_url: str, clock: ManualClock) -> AsyncIterator[CopyQueue]:
    """Open the queue as the archiver of another process has it."""
    database = open_database(database_url)
    yield CopyQueue(database=database, lease=LEASE, clock=clock)
    await database.close()


@asynccontextmanager
async def archiving(
    copies: CopyQueue, host: str, *, folder: Path, clock: ManualClock, **config: Any
) -> AsyncIterator[Archiver]:
    """Open an archiver alone, that takes outputs from one host."""
    async with httpx.AsyncClient(timeout=None) as client:
        yield Archiver(
            copies=copies,
            storage=open_storage(f"file://{folder}"),
            outputs=OutputClient(client=client, hosts=(), upstream=host),
            config=ArchiverConfig(**config),
            metrics=Metrics(),
            clock=clock,
            doorbell=Doorbell(clock=clock),
        )


async def copy(gateway: Gateway) -> int:
    assert gateway.workers.archiver is not None
    return await gateway.workers.archiver.loop.run_once()


async def finished(gateway: Gateway, words: str = "sandbox:output=image") -> dict[str, Any]:
    job = await gateway.follow(await gateway.submit(f"sandbox:instant {words}"))
    assert job["status"] == "completed"
    return job


def path_of(job: dict[str, Any], n: int = 0) -> str:
    return f"/v1/jobs/{job['id']}/outputs/{n}"


async def rows(gateway: Gateway, query: str = "") -> list[dict[str, Any]]:
    answered = await gateway.admin.get(f"/v1/admin/outputs{query}")
    assert answered.status_code == 200, answered.text
    data: list[dict[str, Any]] = answered.json()["data"]
    return data


async def test_a_copy_is_byte_identical_after_upstream_forgot(
    kept: Gateway, tmp_path: Path
) -> None:
    job = await finished(kept, "sandbox:output=images sandbox:output-gone=60")
    before = [(await kept.http.get(path_of(job, n))).content for n in (0, 1)]
    assert [row["state"] for row in await rows(kept)] == ["waiting", "waiting"]
    assert await copy(kept) == 2
    assert await copy(kept) == 0
    kept.wait(3600)
    for n, whole in enumerate(before):
        after = await kept.http.get(path_of(job, n))
        assert (after.status_code, after.content) == (200, whole)
        assert after.headers["Content-Type"] == "image/png"
        assert after.headers["Content-Disposition"] == f'inline; filename="{job["id"]}-{n}.png"'
        part = await kept.http.get(path_of(job, n), headers={"Range": "bytes=5-"})
        assert (part.status_code, part.content) == (206, whole[5:])
        for span, expected in (
            ("0-" + "9" * 40, 206),
            ("-" + "9" * 40, 206),
            ("9" * 40 + "-", 416),
        ):
            far = await kept.http.get(path_of(job, n), headers={"Range": f"bytes={span}"})
            assert far.status_code == expected, span
            assert expected == 416 or far.content == whole
    read = await kept.read(job)
    anybody = httpx.AsyncClient(transport=httpx.ASGITransport(app=kept.app), base_url=PUBLIC_URL)
    assert (await anybody.get(read["urls"]["outputs"][0])).content == before[0]
    second, first = await rows(kept)
    assert first == first | {
        "job": job["id"],
        "n": 0,
        "state": "archived",
        "at_risk": False,
        "attempts": 1,
        "reason": None,
        "size": len(before[0]),
        "sha256": hashlib.sha256(before[0]).hexdigest(),
        "media_type": "image/png",
        "duration_seconds": None,
        "codec": None,
    }
    assert second["n"] == 1
    page = (await kept.admin.get("/v1/admin/outputs?limit=1")).json()
    rest = (await kept.admin.get(f"/v1/admin/outputs?cursor={page['next_cursor']}")).json()
    assert [row["n"] for row in page["data"] + rest["data"]] == [1, 0]
    assert (await kept.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204
    assert files_below(tmp_path / "kept") == []
    assert problem(await kept.http.get(path_of(job)))["code"] == "job_not_found"


async def test_what_an_erased_job_makes_late_is_not_copied(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> None:
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        storage_url=f"file://{tmp_path}/kept",
        job_timeout_seconds=5,
    ) as gateway:
        job = await gateway.follow(await gateway.submit("sandbox:queue=0 sandbox:slow=20"))
        assert job["error"]["code"] == "timed_out"
        assert (await gateway.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204
        for _ in range(30):
            gateway.wait(1)
            await gateway.poll()
        [day] = (await gateway.http.get("/v1/usage")).json()["data"]
        assert day["jobs"] == 1, "it succeeded late"
        assert await copy(gateway) == 0
        assert files_below(tmp_path / "kept") == []


async def test_what_a_writer_stores_after_its_job_was_erased_goes_too(
    kept: Gateway, tmp_path: Path
) -> None:
    job = await finished(kept)
    await copy(kept)
    [path] = files_below(tmp_path / "kept")
    assert (await kept.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204
    assert files_below(tmp_path / "kept") == []
    await kept.workers.pruner.run_once()
    path.write_bytes(b"of a copy that was under way")
    kept.wait(3600)
    await kept.workers.pruner.run_once()
    assert files_below(tmp_path / "kept") == []


async def test_nothing_that_was_kept_for_a_user_outlives_it(kept: Gateway, tmp_path: Path) -> None:
    await finished(kept)
    await copy(kept)
    [image] = files_below(tmp_path / "kept")
    uploaded = await kept.http.post("/v1/files", content=image.read_bytes())
    assert uploaded.status_code == 201
    assert len(files_below(tmp_path / "kept")) == 2
    assert (await kept.admin.delete("/v1/admin/users/alice")).status_code == 204
    await kept.workers.pruner.run_once()
    assert files_below(tmp_path / "kept") == []


async def test_a_copy_that_was_under_way_when_its_user_was_erased_goes_too(
    kept: Gateway, queue: CopyQueue, tmp_path: Path
) -> None:
    await finished(kept)
    [lease] = await queue.claim(1)
    assert (await kept.admin.delete("/v1/admin/users/alice")).status_code == 204
    await kept.workers.pruner.run_once()
    assert kept.workers.archiver is not None
    await kept.workers.archiver.copy(lease)
    assert len(files_below(tmp_path / "kept")) == 1, "before the archiver learned of it"
    kept.wait(3600)
    await kept.workers.pruner.run_once()
    assert files_below(tmp_path / "kept") == []


async def test_a_film_tells_its_length_and_codec(kept: Gateway) -> None:
    job = await finished(kept, "")
    assert await copy(kept) == 1
    (row,) = await rows(kept)
    assert (row["media_type"], row["codec"]) == ("video/mp4", "avc1")
    assert row["duration_seconds"] == pytest.approx(2, abs=0.2)
    assert (await kept.http.head(path_of(job))).headers["Content-Length"] == str(row["size"])


async def test_what_fails_is_tried_again_later_and_shown_at_risk(
    kept: Gateway, database_url: str, tmp_path: Path
) -> None:
    job = await finished(kept)

    async with wire_server(answers(answer(503))) as host:
        _point(database_url, job, f"{kept.sandbox.url}/nothing")
        for _ in range(6):
            assert await copy(kept) == 1
            assert await copy(kept) == 0
            kept.wait(700)
        assert files_below(tmp_path / "kept") == []
        (row,) = await rows(kept)
        assert (row["state"], row["attempts"]) == ("waiting", 6)
        assert row["reason"] == "The output's host answered 404."
        _point(database_url, job, f"{host.url}/0.mp4")
        assert await copy(kept) == 1
        assert host.received == []  # it is on no trusted host
        assert (await rows(kept))[0]["reason"].startswith("The output is on a host")
    assert await rows(kept, "?at_risk=true") == []
    assert "gateway_outputs_at_risk 0.0" in (await kept.http.get("/metrics")).text
    kept.wait(RISK_HOURS * 3600)
    assert "gateway_outputs_at_risk 1.0" in (await kept.http.get("/metrics")).text
    assert [row["job"] for row in await rows(kept, "?at_risk=true")] == [job["id"]]
    assert await rows(kept, "?at_risk=false") == []
    for url, state in (
        (f"{kept.sandbox.url}/nothing", "waiting"),
        (f"{host.url}/0.mp4", "waiting"),
        (f"{kept.sandbox.url}/nothing", "gone"),
    ):
        _point(database_url, job, url)
        assert await copy(kept) == 1
        assert (await rows(kept))[0]["state"] == state, "only denials count"
        kept.wait(700)
    assert await copy(kept) == 0
    assert problem(await kept.http.get(path_of(job)))["code"] == "output_gone"


async def test_each_output_is_copied_or_fails_by_itself(
    kept: Gateway, queue: CopyQueue, database_url: str
) -> None:
    copied, failing = [await finished(kept) for _ in range(2)]
    _point(database_url, failing, f"{kept.sandbox.url}/nothing")
    assert len(await queue.claim(1)) == 1, "and no more than it was asked for"
    kept.wait(31)
    assert await copy(kept) == 2
    states = {row["job"]: row["state"] for row in await rows(kept)}
    assert states == {copied["id"]: "archived", failing["id"]: "waiting"}
    assert problem(await kept.http.get(path_of(failing)))["code"] == "output_gone"


async def test_what_cannot_be_had_for_a_week_is_given_up(kept: Gateway, database_url: str) -> None:
    job = await finished(kept)
    _point(database_url, job, "https://elsewhere.example/0.png")
    for seconds in (0, 7 * 86_400, 601):
        assert (await rows(kept))[0]["state"] == "waiting"
        kept.wait(seconds)
        assert await copy(kept) == 1
    assert (await rows(kept))[0]["state"] == "gone"
    metrics = (await kept.http.get("/metrics")).text
    assert 'gateway_output_copies_total{outcome="lost"} 1.0' in metrics


async def test_what_is_empty_or_cannot_be_stored_is_asked_for_again(
    kept: Gateway, queue: CopyQueue, database_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    job = await finished(kept)
    film = answer(raw=FILM, Connection="close")
    async with (
        wire_server(*map(answers, (answer(raw=b"", Connection="close"), film, film))) as host,
        archiving(queue, host.url, folder=tmp_path / "kept", clock=clock) as archiver,
    ):
        _point(database_url, job, f"{host.url}/0.mp4")
        assert await archiver.loop.run_once() == 1
        assert (await rows(kept))[0]["reason"] == "The output is empty."
        assert files_below(tmp_path / "kept") == []
        (tmp_path / "kept" / "outputs").rmdir()
        (tmp_path / "kept" / "outputs").write_text("in the way")
        kept.wait(5)
        assert await archiver.loop.run_once() == 1
        assert (await rows(kept))[0]["reason"] == "The storage does not answer."
        (tmp_path / "kept" / "outputs").unlink()
        kept.wait(10)
        assert await archiver.loop.run_once() == 1
    assert (await kept.http.get(path_of(job))).content == FILM


async def test_while_the_storage_is_away_outputs_come_from_upstream(
    kept: Gateway, tmp_path: Path
) -> None:
    job = await finished(kept, "sandbox:output=image sandbox:output-gone=60")
    before = await kept.http.get(path_of(job))
    assert await copy(kept) == 1
    (tmp_path / "kept" / "outputs").rename(tmp_path / "elsewhere")
    (tmp_path / "kept" / "outputs").write_text("in the way")
    again = await kept.http.get(path_of(job))
    assert (again.status_code, again.content) == (200, before.content)
    kept.wait(61)
    later = await kept.http.get(path_of(job))
    assert problem(later)["code"] == "storage_unavailable", "nobody need make it again"
    assert later.headers["Retry-After"] == "5"


async def test_a_copy_that_does_not_end_is_broken_off(
    kept: Gateway, queue: CopyQueue, database_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    """After an hour, or once its job is erased and nobody wants it any more."""
    asked = asyncio.Event()

    async def stalls(line: Line) -> None:
        await line.request()
        await line.send(answer(raw=FILM)[:-1])
        asked.set()
        await line.wait_for_the_other_end()

    job = await finished(kept)
    soon = timedelta(milliseconds=50)
    async with (
        wire_server(stalls) as host,
        archiving(queue, host.url, folder=tmp_path / "kept", clock=clock) as archiver,
        archiving(
            queue, host.url, folder=tmp_path / "kept", clock=clock, longest_copy=soon
        ) as hasty,
    ):
        _point(database_url, job, f"{host.url}/0.mp4")
        assert await hasty.loop.run_once() == 1
        assert (await rows(kept))[0]["reason"] == "The copy took too long."
        kept.wait(5)
        asked.clear()
        copying = asyncio.ensure_future(archiver.loop.run_once())
        await asked.wait()
        assert (await kept.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204
        kept.wait(10)
        async with asyncio.timeout(60):
            assert await copying == 1
    assert files_below(tmp_path / "kept") == []


async def test_a_page_that_is_sent_for_a_moment_is_not_kept_as_the_film(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> None:
    pages = [
        answer(raw=content, Content_Type=media_type, Connection="close")
        for content, media_type in (
            (b"<!doctype html><title>Just a moment...</title>", "text/html"),
            (b'{"error_code": 500000}', "Application/JSON; charset=utf-8"),
        )
    ]
    folder = f"file://{tmp_path}/kept"
    async with running(database_url, sandbox=sandbox, clock=clock, storage_url=folder) as gateway:
        job = await finished(gateway)
    async with wire_server(*map(answers, pages), answers(answer(raw=FILM))) as host:
        _point(database_url, job, f"{host.url}/0.mp4")
        elsewhere = Sandbox(url=host.url, http=sandbox.http)
        async with running(
            database_url, sandbox=elsewhere, clock=clock, storage_url=folder
        ) as gateway:
            for _ in pages:
                assert await copy(gateway) == 1
                (row,) = await rows(gateway)
                assert (row["state"], row["reason"]) == (
                    "waiting",
                    "The output's host sent a page, not the file.",
                )
                assert files_below(tmp_path / "kept") == []
                gateway.wait(60)
            assert await copy(gateway) == 1
            assert (await gateway.http.get(path_of(job))).content == FILM


async def test_an_upstream_that_breaks_off_is_asked_again(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> None:
    half = answer(raw=FILM)[: len(FILM) // 2]

    async def breaks_off(line: Line) -> None:
        await line.request()
        await line.send(half)
        line.hang_up()

    async with running(database_url, sandbox=sandbox, clock=clock) as plain:
        job = await finished(plain)
    packed = answer(raw=b"\x1f\x8b", Content_Encoding="gzip", Connection="close")
    lying = answers(answer(raw=FILM, Content_Type="text/html; charset=utf-8"))

    async def redirects(line: Line) -> None:
        await line.request()
        await line.send(answer(302, Location="http://169.254.169.254/", Connection="close"))
        line.hang_up()

    async with (
        wire_server(breaks_off, redirects, answers(packed), breaks_off, lying, lying) as host,
        running(
            database_url,
            sandbox=Sandbox(url=host.url, http=sandbox.http),
            clock=clock,
            storage_url=f"file://{tmp_path}/kept",
        ) as gateway,
    ):
        _point(database_url, job, f"{host.url}/0.html")
        change(
            database_url,
            "INSERT INTO outputs (job_id, n, storage_key, state, attempts, due_at, created_at)"
            " SELECT id, 0, :key, 'waiting', 0, finished_at, finished_at FROM jobs",
            key="outputs/" + "0" * 32,
        )
        for reason in (
            "The output broke off (",
            "The output's host answered 302.",
            "The output's host sent it compressed, by a Content-Encoding.",
        ):
            assert await copy(gateway) == 1
            assert files_below(tmp_path / "kept") == []
            assert (await rows(gateway))[0]["reason"].startswith(reason)
            gateway.wait(60)
        with pytest.raises(AssertionError), capture_logs() as logs:  # of httpx: it has no end
            await gateway.http.get(path_of(job))
        assert (logs[-1]["event"], logs[-1]["kind"]) == ("download.broken_off", "TryLaterError")
        whole = await gateway.http.get(path_of(job))
        assert await copy(gateway) == 1
        again = await gateway.http.get(path_of(job))
        assert (again.content, again.headers["Content-Type"]) == (FILM, "video/mp4")
        etag = whole.headers["ETag"]  # of a host's file and of its copy nothing is put together
        for headers in ({"If-None-Match": etag}, {"If-Range": etag, "Range": "bytes=0-9"}):
            switched = await gateway.http.get(path_of(job), headers=headers)
            assert (switched.status_code, switched.content) == (200, FILM)
        assert {request.headers.get("authorization") for request in host.received} == {None}


async def test_a_dead_archivers_work_is_taken_over_after_its_lease(
    kept: Gateway, queue: CopyQueue
) -> None:
    await finished(kept)
    (lease,) = await queue.claim(4)
    assert await queue.claim(4) == []
    kept.wait(20)
    assert await queue.renew(lease)
    kept.wait(20)
    assert await queue.claim(4) == []
    kept.wait(11)
    (second,) = await queue.claim(4)
    assert second.key == lease.key
    assert not await queue.renew(lease)
    late = timedelta(seconds=1)
    assert not await queue.postpone(lease, reason="late", wait=late)
    assert await queue.postpone(second, reason="mine", wait=late)


async def test_who_starts_alone_takes_a_dead_archivers_work_over_at_once(
    kept: Gateway, queue: CopyQueue
) -> None:
    await finished(kept)
    assert len(await queue.claim(4)) == 1
    assert await copy(kept) == 0
    await kept.app.state.parts.free_leases()
    assert await copy(kept) == 1


async def test_a_copy_that_a_rival_has_made_is_not_said_to_wait(
    kept: Gateway, queue: CopyQueue
) -> None:
    assert kept.workers.archiver is not None
    await finished(kept, "sandbox:output=image sandbox:output-gone=60")
    [lease] = await queue.claim(4)
    kept.wait(31)
    assert await copy(kept) == 1
    kept.wait(60)
    await kept.workers.archiver.copy(lease)
    assert [row["state"] for row in await rows(kept)] == ["archived"]
    metrics = (await kept.http.get("/metrics")).text
    assert 'gateway_output_copies_total{outcome="archived"} 1.0' in metrics
    assert 'gateway_output_copies_total{outcome="postponed"}' not in metrics


@pytest.mark.parametrize("in_time", [True, False])
async def test_a_copy_is_made_though_the_database_goes_away_meanwhile(
    kept: Gateway,
    queue: CopyQueue,
    database_url: str,
    clock: ManualClock,
    tmp_path: Path,
    *,
    in_time: bool,
) -> None:
    asked, sent = asyncio.Event(), asyncio.Event()

    async def waits(line: Line) -> None:
        await line.request()
        asked.set()
        await sent.wait()
        await line.send(answer(raw=FILM, Connection="close"))
        line.hang_up()

    job = await finished(kept)
    database = SwitchedDatabase(database_url)
    copies = CopyQueue(database=database, lease=LEASE, clock=clock)
    async with (
        wire_server(waits, answers(answer(raw=FILM))) as host,
        archiving(copies, host.url, folder=tmp_path / "kept", clock=clock) as archiver,
    ):
        _point(database_url, job, f"{host.url}/0.mp4")
        [lease] = await queue.claim(4)
        copying = asyncio.ensure_future(archiver.copy(lease))
        await asked.wait()
        database.away = True
        while not database.refused:
            clock.advance(timedelta(seconds=1))
            await asyncio.sleep(0)  # noqa: TID251 - yields, waits for nothing
        database.away = not in_time
        sent.set()
        await copying
        database.away = False
        clock.advance(timedelta(seconds=31))
        assert await archiver.loop.run_once() == (0 if in_time else 1)
        assert [row["state"] for row in await rows(kept)] == ["archived"]
    await database.close()


async def test_copies_go_to_s3_too(
    database_url: str, sandbox: Sandbox, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_s3() as s3:
        url = point_at(s3, monkeypatch)
        async with running(database_url, sandbox=sandbox, clock=clock, storage_url=url) as gateway:
            job = await finished(gateway, "sandbox:output=image sandbox:output-gone=9")
            before = (await gateway.http.get(path_of(job))).content
            assert await copy(gateway) == 1
            gateway.wait(60)
            assert (await gateway.http.get(path_of(job))).content == before
            await gateway.http.delete(f"/v1/jobs/{job['id']}")
    assert before


async def test_without_a_chosen_storage_nothing_is_copied(gateway: Gateway) -> None:
    await finished(gateway)
    assert gateway.workers.archiver is None
    assert await rows(gateway) == []


def _point(database_url: str, job: dict[str, Any], url: str) -> None:
    change(
        database_url,
        "UPDATE jobs SET output = :output WHERE id = :id",
        id=job["id"],
        output=f'{{"image": "{url}"}}',
    )
