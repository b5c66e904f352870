"""The files of jobs: how RunComfy gets them, and how long they stay."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app.core.clock import ManualClock
from app.core.errors import DatabaseUnavailableError
from app.db.engine import Database, open_database
from app.db.work import Done, Work
from app.storage.files import File, FileService
from tests.support.answers import faults, problem
from tests.support.files import PNG, upload
from tests.support.gateway import PUBLIC_URL, Gateway, Sandbox, running
from tests.support.invariants import assert_invariants
from tests.support.pictures import data_uri
from tests.support.rows import look
from tests.support.storages import files_below

pytestmark = pytest.mark.either_database

DAY = 24 * 3600


@pytest.fixture
async def inland(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """Open a gateway that RunComfy cannot reach."""
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        public_url="http://127.0.0.1:8000",
        storage_url=f"file://{tmp_path}/kept",
        archive_outputs=False,
    ) as gateway:
        yield gateway


async def sent_frame(gateway: Gateway, job: dict[str, Any]) -> str:
    (request,) = await gateway.sandbox.submits(job)
    frame: str = request["input"]["first_frame_image_url"]
    return frame


async def test_runcomfy_gets_a_link_that_lives_as_long_as_the_job_may(filing: Gateway) -> None:
    file = await upload(filing)
    job = await filing.submit("sandbox:slow=60", first_frame_image_url=file["id"])
    assert job["input"]["first_frame_image_url"] == file["id"]
    filing.wait(8 * DAY)
    await filing.dispatch()
    link = await sent_frame(filing, job)
    assert link.startswith(f"{PUBLIC_URL}/v1/files/{file['id']}/content?expires=")
    runcomfy = httpx.AsyncClient(transport=httpx.ASGITransport(app=filing.app), base_url=PUBLIC_URL)
    assert (await runcomfy.get(link)).content == PNG
    filing.wait(3602)
    assert problem(await runcomfy.get(link))["code"] == "invalid_signature"
    shown = await filing.http.get(f"/v1/jobs/{job['id']}")
    assert "signature" not in shown.text.replace("outputs", "")


async def test_no_link_is_sent_to_a_file_that_was_lost(filing: Gateway, tmp_path: Path) -> None:
    job = await filing.submit(first_frame_image_url=(await upload(filing))["id"])
    (stored,) = files_below(tmp_path / "kept")
    stored.unlink()
    await filing.dispatch()
    assert (await filing.read(job))["error"]["code"] == "file_lost"
    assert await filing.sandbox.submits(job) == []


async def test_without_a_public_address_files_travel_inside(inland: Gateway) -> None:
    file = await upload(inland)
    prompt_that_names_it = inland.body(file["id"], first_frame_image_url=file["id"])
    job = (await inland.http.post("/v1/jobs", json=prompt_that_names_it)).json()
    await inland.dispatch()
    assert await sent_frame(inland, job) == data_uri(PNG)
    (request,) = await inland.sandbox.submits(job)
    assert file["id"] in request["input"]["prompt"]

    large = await upload(inland, PNG + bytes(50 * 2**20 - len(PNG)))
    answer = await inland.http.post("/v1/jobs", json=inland.body(first_frame_image_url=large["id"]))
    assert faults(answer) == [("/input/first_frame_image_url", "media_too_large")]


async def test_a_result_is_read_though_it_repeats_the_files_of_its_input(inland: Gateway) -> None:
    large = await upload(inland, PNG + bytes(8 * 2**20))
    asked = "sandbox:instant sandbox:echo-input"
    job = await inland.submit(asked, first_frame_image_url=large["id"])
    assert (await inland.follow(job))["status"] == "completed"


class Hanging(FileService):
    """The real thing, but for a storage that never answers."""

    async def require_content(self, file: File) -> None:
        await asyncio.Event().wait()


async def test_a_storage_that_hangs_makes_no_submit_unknown(inland: Gateway) -> None:
    """The wait ends while its lease still holds, and the job waits again as if never begun."""
    job = await inland.submit(first_frame_image_url=(await upload(inland))["id"])
    inland.app.state.parts.services.files.__class__ = Hanging
    [attempt] = await inland.workers.dispatcher.claim(32)
    inland.wait(9.9)  # of the 30 s, 20 s are for the submit itself
    with capture_logs() as logs:
        async with asyncio.timeout(20) as patience:
            await inland.workers.dispatcher.dispatch(attempt)
    assert not patience.expired()
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert warnings == [
        {"log_level": "warning", "event": "job.files_not_read_in_time", "job_id": job["id"]}
    ]
    assert (await inland.read(job))["status"] == "pending"
    assert await inland.sandbox.submits(job) == []
    inland.app.state.parts.services.files.__class__ = FileService
    assert (await inland.follow(job))["status"] == "completed"


async def test_a_job_whose_file_was_lost_fails_by_that_name_and_asks_runcomfy_nothing(
    inland: Gateway, database_url: str, tmp_path: Path
) -> None:
    refused = await inland.submit("sandbox:submit-402=1")
    await inland.dispatch()
    await inland.http.post(f"/v1/jobs/{refused['id']}/cancel")
    for damage in (lambda path: path.write_bytes(PNG[:-1]), Path.unlink):
        file = await upload(inland)
        job = await inland.submit(first_frame_image_url=file["id"])
        (stored,) = files_below(tmp_path / "kept")
        damage(stored)
        inland.wait(61)
        await inland.dispatch()
        failed = await inland.read(job)
        assert (failed["status"], failed["cost"]["state"]) == ("failed", "released")
        assert failed["error"] == {
            "code": "file_lost",
            "message": f"The file {file['id']} is gone from the gateway's storage; send it again.",
        }
        assert await inland.sandbox.submits(job) == []
        traffic = (await inland.admin.get("/v1/admin/dispatch")).json()
        assert traffic["reason"] == "no_balance", "nobody heard anything new of the account"
        stored.unlink(missing_ok=True)
    await assert_invariants(database_url)


async def test_a_data_uri_becomes_a_file_of_its_job(inland: Gateway, tmp_path: Path) -> None:
    small, uri = data_uri(PNG[:64]), data_uri(PNG)
    kept_inline = await inland.submit(first_frame_image_url=small)
    assert kept_inline["input"]["first_frame_image_url"] == small
    assert files_below(tmp_path / "kept") == []

    body = inland.body("sandbox:instant", first_frame_image_url=uri)
    key = {"Idempotency-Key": "once"}
    job = (await inland.http.post("/v1/jobs", json=body, headers=key)).json()
    file_id = job["input"]["first_frame_image_url"]
    assert file_id.startswith("file_")
    assert (await inland.http.get(f"/v1/files/{file_id}")).json()["size"] == len(PNG)
    again = await inland.http.post("/v1/jobs", json=body, headers=key)
    assert (again.status_code, again.json()["id"]) == (200, job["id"])
    assert len(files_below(tmp_path / "kept")) == 1
    checked = await inland.http.post("/v1/jobs/validate", json=body)
    assert checked.json()["valid"]
    assert len(files_below(tmp_path / "kept")) == 1

    ended = await inland.follow(job)
    assert await sent_frame(inland, job) == uri
    assert ended["input"]["first_frame_image_url"] == file_id
    again = await inland.submit("sandbox:queue=0 sandbox:slow=2", first_frame_image_url=file_id)
    assert (await inland.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204
    await inland.dispatch()
    assert await sent_frame(inland, again) == uri, "a live job still names it"
    await inland.follow(again)
    assert (await inland.http.delete(f"/v1/jobs/{again['id']}")).status_code == 204


async def test_the_letters_of_a_data_uris_head_may_be_of_either_case(inland: Gateway) -> None:
    shouted = data_uri(PNG).replace("data:image/png;base64", "DATA:Image/PNG;BASE64")
    job = await inland.submit(first_frame_image_url=shouted)
    file = await inland.http.get(f"/v1/files/{job['input']['first_frame_image_url']}")
    assert file.json()["media_type"] == "image/png"
    await inland.dispatch()
    assert await sent_frame(inland, job) == data_uri(PNG)


async def test_what_is_erased_with_its_job_is_gone_at_once(inland: Gateway, tmp_path: Path) -> None:
    job = await inland.submit("sandbox:instant", first_frame_image_url=data_uri(PNG))
    await inland.follow(job)
    uploaded = await upload(inland)
    other = await inland.submit("sandbox:instant", first_frame_image_url=uploaded["id"])
    await inland.follow(other)
    assert len(files_below(tmp_path / "kept")) == 2
    for each in (job, other):
        assert (await inland.http.delete(f"/v1/jobs/{each['id']}")).status_code == 204
    assert len(files_below(tmp_path / "kept")) == 1
    file_id = job["input"]["first_frame_image_url"]
    assert problem(await inland.http.get(f"/v1/files/{file_id}"))["code"] == "file_not_found"
    assert (await inland.http.get(f"/v1/files/{uploaded['id']}")).status_code == 200
    erased = await inland.admin.delete("/v1/admin/users/alice")
    assert erased.status_code in (200, 204), erased.text
    await inland.workers.pruner.run_once()
    assert files_below(tmp_path / "kept") == []


async def test_a_file_of_an_erased_job_stays_while_another_needs_it(
    inland: Gateway, tmp_path: Path
) -> None:
    first = await inland.follow(
        await inland.submit("sandbox:instant", first_frame_image_url=data_uri(PNG))
    )
    file_id = first["input"]["first_frame_image_url"]
    second = await inland.submit("sandbox:instant", first_frame_image_url=file_id)
    assert (await inland.http.delete(f"/v1/jobs/{first['id']}")).status_code == 204
    await inland.workers.pruner.run_once()
    assert (await inland.http.get(f"/v1/files/{file_id}")).status_code == 200
    await inland.follow(second)
    assert await sent_frame(inland, second) == data_uri(PNG)
    assert problem(await inland.http.get(f"/v1/files/{file_id}"))["code"] == "file_not_found"
    await inland.workers.pruner.run_once()
    assert files_below(tmp_path / "kept") == []


async def test_a_refused_job_leaves_no_file(inland: Gateway, tmp_path: Path) -> None:
    limits = {"pending_jobs": {"limit": 0}}
    await inland.admin.post("/v1/admin/users", json={"id": "bob", "limits": limits})
    bob = await inland.client_of("bob")
    body = inland.body(first_frame_image_url=data_uri(PNG))
    refused = await bob.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
    assert problem(refused)["code"] == "quota_exceeded"
    assert files_below(tmp_path / "kept") == []


class Faltering(Database):
    """Loses the answer to the third commit, the job's after two of its file, and is away."""

    def __init__(self, url: str) -> None:
        super().__init__(open_database(url)._connections)  # noqa: SLF001 - it takes their place
        self.commits = 0

    async def transact(self, work: Work[Done], *, is_long: bool = False) -> Done:
        if self.commits == 3:
            raise DatabaseUnavailableError
        done = await super().transact(work, is_long=is_long)
        self.commits += 1
        if self.commits == 3:
            raise DatabaseUnavailableError(is_unsure=True)
        return done


async def test_nobody_is_told_that_a_job_was_not_accepted_which_may_have_been(
    inland: Gateway, database_url: str
) -> None:
    """Its files cannot be taken back at that moment either; that is no answer to the submit."""
    intake = inland.app.state.services.intake
    faltering = Faltering(database_url)
    for part in (intake._batch, intake._inputs._uploads):  # noqa: SLF001 - it takes their place
        part._database = faltering  # noqa: SLF001
    try:
        body = inland.body(first_frame_image_url=data_uri(PNG))
        told = problem(await inland.http.post("/v1/jobs", json=body))
        assert (told["status"], told["code"]) == (503, "database_unavailable")
        assert "may have been accepted" in told["detail"]
        (job,) = (await inland.http.get("/v1/jobs")).json()["data"]
        file = await inland.http.get(f"/v1/files/{job['input']['first_frame_image_url']}")
        assert file.status_code == 200, "the job was accepted, with its file"
    finally:
        await faltering.close()


async def test_files_go_when_they_expire_but_never_from_a_live_job(
    inland: Gateway, tmp_path: Path
) -> None:
    used, unused = await upload(inland), await upload(inland)
    job = await inland.submit("sandbox:instant", first_frame_image_url=used["id"])
    inland.wait(7 * DAY + 1)
    young = await upload(inland)
    assert await inland.workers.pruner.run_once() > 0
    assert len(files_below(tmp_path / "kept")) == 2
    assert (await inland.http.get(f"/v1/files/{unused['id']}")).status_code == 404
    assert (await inland.http.get(f"/v1/files/{used['id']}")).status_code == 200
    other = await inland.submit("sandbox:instant", first_frame_image_url=used["id"])
    for each in (job, other):
        await inland.follow(each)
        assert await sent_frame(inland, each) == data_uri(PNG)
    assert (await inland.http.get(f"/v1/files/{used['id']}")).status_code == 404
    late = inland.body(first_frame_image_url=used["id"])
    refused = problem(await inland.http.post("/v1/jobs", json=late))
    assert [error["code"] for error in refused["errors"]] == ["unknown_file"]
    await inland.workers.pruner.run_once()
    assert len(files_below(tmp_path / "kept")) == 1
    assert (await inland.http.get(f"/v1/files/{young['id']}/content")).content == PNG
    assert await inland.workers.pruner.run_once() == 0


async def test_without_a_storage_files_are_kept_beside_the_database_or_in_it(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    async with running(
        database_url, sandbox=sandbox, clock=clock, public_url="http://127.0.0.1:8000"
    ) as gateway:
        file = await upload(gateway)
        job = await gateway.submit("sandbox:instant", first_frame_image_url=data_uri(PNG))
        frame = job["input"]["first_frame_image_url"]
        assert frame.startswith("file_")
        for file_id in (file["id"], frame):
            content = await gateway.http.get(f"/v1/files/{file_id}/content")
            assert content.content == PNG
        assert len(kept_without_storage(database_url)) == 2
        await gateway.follow(job)
        assert await sent_frame(gateway, job) == data_uri(PNG)
        assert (await gateway.http.delete(f"/v1/jobs/{job['id']}")).status_code == 204
        assert len(kept_without_storage(database_url)) == 1
        gateway.wait(7 * DAY)
        await gateway.workers.pruner.run_once()
        assert kept_without_storage(database_url) == []


def kept_without_storage(database_url: str) -> list[Any]:
    if database_url.startswith("sqlite"):
        return files_below(Path(database_url.removeprefix("sqlite:///") + ".files"))
    return look(database_url, "SELECT DISTINCT storage_key FROM file_parts")
