"""/v1/files: what may be uploaded, who sees it, and how jobs use it."""

import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.clock import ManualClock
from app.core.errors import DatabaseUnavailableError, UserGoneError
from app.db.engine import Database, open_database, opened_database
from app.db.work import Done, Work
from app.storage.discards import Sweeper, discard
from app.storage.errors import FileTooLargeError, StorageUnavailableError
from app.storage.objects import ObjectStorage
from app.storage.opening import open_folder
from app.storage.rows import RowStorage
from app.storage.store import Stored, new_key
from app.storage.uploads import Uploads, UploadsConfig
from tests.support.answers import faults, problem
from tests.support.asgi import in_chunks
from tests.support.gateway import PUBLIC_URL, Gateway, Sandbox, running
from tests.support.invariants import assert_invariants
from tests.support.rows import look
from tests.support.storages import files_below

pytestmark = pytest.mark.either_database

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\x90\0\0\1\x90\x08\2\0\0\0" + bytes(range(256)) * 40
MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + bytes(5000)
DAY = 24 * 3600


@pytest.fixture
async def inland(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Gateway]:
    """Open a gateway that keeps files in a folder and has no address RunComfy could reach."""
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        public_url="http://127.0.0.1:8000",
        storage_url=f"file://{tmp_path}/kept",
        archive_outputs=False,
    ) as gateway:
        yield gateway


@pytest.fixture
async def public(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Gateway]:
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        storage_url=f"file://{tmp_path}/kept",
        archive_outputs=False,
    ) as gateway:
        yield gateway


async def upload(gateway: Gateway, data: bytes = PNG, **headers: str) -> dict[str, Any]:
    answer = await gateway.http.post("/v1/files", content=data, headers=headers)
    assert answer.status_code == 201, answer.text
    file: dict[str, Any] = answer.json()
    return file


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


async def sent_frame(gateway: Gateway, job: dict[str, Any]) -> str:
    (request,) = await gateway.sandbox.submits(job)
    frame: str = request["input"]["first_frame_image_url"]
    return frame


async def test_a_file_lives_as_long_as_the_operator_says(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> None:
    settings = {"storage_url": f"file://{tmp_path}/kept", "file_days": 1.5}
    async with running(database_url, sandbox=sandbox, clock=clock, **settings) as gateway:
        assert (await upload(gateway))["expires_at"] == "2026-11-23T22:00:00.000Z"


async def test_a_file_is_uploaded_raw_or_by_form_and_read_back(public: Gateway) -> None:
    raw = await upload(public, **{"Content-Type": "text/html"})
    assert raw == {
        "id": raw["id"],
        "object": "file",
        "size": len(PNG),
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "media_type": "image/png",
        "created_at": "2026-11-22T10:00:00.000Z",
        "expires_at": "2026-11-29T10:00:00.000Z",
        "urls": {
            "self": f"{PUBLIC_URL}/v1/files/{raw['id']}",
            "content": raw["urls"]["content"],
        },
    }
    form = {"note": (None, "x" * 3000), "file": ("../../etc/passwd\r\n<x>", MP4, "image/svg+xml")}
    formed = await public.http.post("/v1/files", files=form)
    assert formed.status_code == 201, formed.text
    assert (formed.json()["media_type"], formed.json()["size"]) == ("video/mp4", len(MP4))
    assert formed.headers["Location"] == f"/v1/files/{formed.json()['id']}"
    assert (await public.http.get(formed.headers["Location"])).json() == formed.json()

    anybody = httpx.AsyncClient(transport=httpx.ASGITransport(app=public.app), base_url=PUBLIC_URL)
    link = raw["urls"]["content"]
    whole = await anybody.get(link)
    assert (whole.status_code, whole.content) == (200, PNG)
    assert {name: whole.headers[name] for name in EXPECTED_HEADERS} == EXPECTED_HEADERS
    assert whole.headers["Content-Disposition"] == f'inline; filename="{raw["id"]}.png"'
    part = await anybody.get(link, headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")
    assert part.headers["Content-Range"] == f"bytes 1-3/{len(PNG)}"
    assert (await anybody.get(link, headers={"Range": "bytes=-2"})).content == PNG[-2:]
    stale = {"Range": "bytes=1-3", "If-Range": '"other"'}
    assert (await anybody.get(link, headers=stale)).content == PNG
    beyond = await anybody.get(link, headers={"Range": f"bytes={len(PNG)}-"})
    assert problem(beyond)["code"] == "range_not_satisfiable"
    same = await anybody.get(link, headers={"If-None-Match": whole.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    for headers in ({}, {"Range": "bytes=1-3"}, {"Range": f"bytes={len(PNG)}-"}):
        head = await anybody.head(link, headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(PNG))
    for bad in (link[:-1], link.replace(raw["id"], formed.json()["id"]), link + "x"):
        assert problem(await anybody.get(bad))["code"] == "invalid_signature"
    public.wait(26 * 3600)
    assert problem(await anybody.get(link))["code"] == "invalid_signature"
    by_key = await public.http.get(link.partition("?")[0])
    assert by_key.content == PNG


async def test_a_file_whose_bytes_are_gone_is_not_begun(inland: Gateway, tmp_path: Path) -> None:
    made = await inland.http.post("/v1/files", content=PNG)
    (stored,) = files_below(tmp_path / "kept")
    link = made.json()["urls"]["content"]
    stored.write_bytes(PNG[:-1])
    for change in (lambda: None, stored.unlink):
        change()
        assert problem(await inland.http.get(link))["code"] == "file_not_found"
        assert (await inland.http.head(link)).status_code == 404
    stored.parent.rmdir()
    stored.parent.write_bytes(b"no folder")
    away = await inland.http.get(link)
    assert (away.status_code, problem(away)["code"]) == (503, "storage_unavailable")


EXPECTED_HEADERS = {
    "Content-Type": "image/png",
    "Content-Length": str(len(PNG)),
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private",
    "Accept-Ranges": "bytes",
}


async def test_what_is_no_image_or_video_is_refused_and_nothing_stays(
    public: Gateway, tmp_path: Path
) -> None:
    for data in (b"", b"<!doctype html><script>alert(1)</script>", b"%PDF-1.7", b"\0" * 5000):
        headers = {"Content-Type": "image/png"}
        answer = await public.http.post("/v1/files", content=data, headers=headers)
        assert faults(answer) == [("/file", "unsupported_file")]
    empty = await public.http.post("/v1/files", files={"other": ("a.png", PNG)})
    assert faults(empty) == [("/file", "required")]
    two = await public.http.post("/v1/files", files=[("file", PNG), ("file", PNG)])
    assert faults(two) == [("/file", "max_items")]
    for content_type, body in (
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"no form at all"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"'),
        ("multipart/form-data; boundary=b", b"--b\r\nX: " + b"y" * 99_999 + b"\r\n\r\nx\r\n--b--"),
        (f"multipart/form-data; boundary={'b' * 9999}", b"--b--"),
    ):
        headers = {"Content-Type": content_type}
        broken = await public.http.post("/v1/files", content=body, headers=headers)
        assert broken.status_code in (400, 422), broken.text
        assert problem(broken)["code"] in ("malformed_body", "invalid_request")
    half = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + PNG
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    cut = await public.http.post("/v1/files", content=half, headers=headers)
    assert problem(cut)["code"] == "malformed_body"
    assert files_below(tmp_path / "kept") == []


async def test_a_form_is_read_in_whatever_pieces_it_comes(public: Gateway) -> None:
    file = PNG[:200] + b"\r\n--\r\n" * 9  # looks like the end: it is passed on in parts
    form = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + file + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for size in (1, 3, 7, len(form)):
        pieces = in_chunks(*(form[at : at + size] for at in range(0, len(form), size)))
        made = await public.http.post("/v1/files", content=pieces, headers=headers)
        assert made.status_code == 201, made.text
        assert made.json()["sha256"] == hashlib.sha256(file).hexdigest()


async def test_a_header_of_a_form_is_not_gathered_without_end(public: Gateway) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for header in (b"X: " + b"y" * 2**15, b"y" * 2**15 + b": x"):
        disposition = b'Content-Disposition: form-data; name="file"\r\n\r\n'
        form = b"--b\r\n" + header + b"\r\n" + disposition + PNG + b"\r\n--b--"
        refused = await public.http.post("/v1/files", content=form, headers=headers)
        assert (refused.status_code, problem(refused)["code"]) == (400, "malformed_body")


async def test_a_form_has_a_hundred_fields_at_most(public: Gateway) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    other = b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\n\r\n'
    file = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + PNG + b"\r\n--b--\r\n"
    taken = await public.http.post("/v1/files", content=other * 99 + file, headers=headers)
    assert (taken.status_code, taken.json()["size"]) == (201, len(PNG))
    refused = await public.http.post("/v1/files", content=other * 100 + file, headers=headers)
    assert (refused.status_code, problem(refused)["code"]) == (400, "malformed_body")


@pytest.mark.parametrize("behind", ["type", "disposition"])
async def test_a_header_of_a_form_has_a_hundred_options_at_most(
    public: Gateway, behind: str
) -> None:
    async def upload(options: int) -> httpx.Response:
        given = {behind: "; a=b" * options}
        content_type = f"multipart/form-data; boundary=b{given.get('type', '')}"
        disposition = f'form-data; name="file"{given.get("disposition", "")}'
        form = f"--b\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + PNG + b"\r\n--b--"
        headers = {"Content-Type": content_type}
        return await public.http.post("/v1/files", content=form, headers=headers)

    assert (await upload(99)).status_code == 201
    refused = await upload(100)
    assert (refused.status_code, problem(refused)["code"]) == (400, "malformed_body")


async def test_a_body_that_never_ends_is_refused_early(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield PNG[:64]
        while True:
            sent += 2**16
            yield bytes(2**16)

    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        storage_url=f"file://{tmp_path}/kept",
        max_body_bytes=2**20,
    ) as small:
        answer = await small.http.post("/v1/files", content=endless())
        assert problem(answer)["code"] == "payload_too_large"
        assert sent < 2**21
    assert files_below(tmp_path / "kept") == []
    sent = 0
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        storage_url=f"file://{tmp_path}/kept",
        max_body_bytes=2**30,
    ) as large:
        answer = await large.http.post("/v1/files", content=endless())
        assert problem(answer)["code"] == "file_too_large"
        assert sent < 52 * 2**20
    assert files_below(tmp_path / "kept") == []


async def test_sound_is_taken_and_named_among_what_is(public: Gateway) -> None:
    taken = await public.http.post("/v1/files", content=b"ID3\4" + bytes(300))
    assert (taken.status_code, taken.json()["media_type"]) == (201, "audio/mpeg")
    refused = await public.http.post("/v1/files", content=b"%PDF-1.7")
    assert "MP3" in problem(refused)["detail"]


async def test_nobody_sees_or_uses_another_users_file(public: Gateway) -> None:
    file = await upload(public)
    mallory = await public.client_of("mallory")
    for path in (f"/v1/files/{file['id']}", f"/v1/files/{file['id']}/content", "/v1/files/x%00"):
        assert problem(await mallory.get(path))["code"] == "file_not_found"
    body = public.body(first_frame_image_url=file["id"])
    refused = await mallory.post("/v1/jobs", json=body)
    unknown = await public.http.post(
        "/v1/jobs", json=public.body(first_frame_image_url="file_" + "0" * 26)
    )
    expected = [("/input/first_frame_image_url", "unknown_file")]
    assert faults(refused) == faults(unknown) == expected
    film = await upload(public, MP4)
    wrong = await public.http.post("/v1/jobs", json=public.body(first_frame_image_url=film["id"]))
    assert faults(wrong) == [("/input/first_frame_image_url", "media_type")]
    checked = await mallory.post("/v1/jobs/validate", json=body)
    assert [error["code"] for error in checked.json()["errors"]] == ["unknown_file"]
    public.wait(8 * DAY)
    assert problem(await public.http.get(f"/v1/files/{file['id']}"))["code"] == "file_not_found"
    late = await public.http.post("/v1/jobs", json=body)
    assert faults(late) == expected


async def test_links_of_a_disabled_services_users_lead_nowhere(public: Gateway) -> None:
    await public.admin.post("/v1/admin/users", json={"id": "shop"})
    key = {"user": "shop", "scopes": ["jobs:read", "jobs:write", "files", "act_as"]}
    service = public.client_with(
        (await public.admin.post("/v1/admin/keys", json=key)).json()["key"]
    )
    service.headers["X-Gateway-User"] = "u1"
    shop = replace(public, http=service)
    job = await shop.follow(await shop.submit("sandbox:instant sandbox:output=image"))
    file = await upload(shop)
    links = [job["output"]["image"], file["urls"]["content"]]
    anybody = public.client_with("")
    assert [(await anybody.get(link)).status_code for link in links] == [200, 200]
    await public.admin.patch("/v1/admin/users/shop", json={"disabled": True})
    told = [problem(await anybody.get(link))["code"] for link in links]
    assert told == ["job_not_found", "file_not_found"]


async def test_uploads_count_as_submits_and_need_their_scope(public: Gateway) -> None:
    limits = {"submits_per_minute": {"limit": 1}}
    await public.admin.post("/v1/admin/users", json={"id": "bob", "limits": limits})
    bob = await public.client_of("bob")
    assert (await bob.post("/v1/files", content=PNG)).status_code == 201
    refused = await bob.post("/v1/files", content=PNG)
    assert problem(refused)["limit"] == "submits_per_minute"
    reader = {"user": "bob", "scopes": ["jobs:read"]}
    key = (await public.admin.post("/v1/admin/keys", json=reader)).json()["key"]
    answer = await public.client_with(key).post("/v1/files", content=PNG)
    assert problem(answer)["code"] == "missing_scope"
    nobody = await public.client_with("none").post("/v1/files", content=PNG)
    assert nobody.status_code == 401


async def test_runcomfy_gets_a_link_that_lives_as_long_as_the_job_may(public: Gateway) -> None:
    file = await upload(public)
    job = await public.submit("sandbox:slow=60", first_frame_image_url=file["id"])
    assert job["input"]["first_frame_image_url"] == file["id"]
    public.wait(8 * DAY)
    await public.dispatch()
    link = await sent_frame(public, job)
    assert link.startswith(f"{PUBLIC_URL}/v1/files/{file['id']}/content?expires=")
    runcomfy = httpx.AsyncClient(transport=httpx.ASGITransport(app=public.app), base_url=PUBLIC_URL)
    assert (await runcomfy.get(link)).content == PNG
    public.wait(3602)
    assert problem(await runcomfy.get(link))["code"] == "invalid_signature"
    shown = await public.http.get(f"/v1/jobs/{job['id']}")
    assert "signature" not in shown.text.replace("outputs", "")


async def test_no_link_is_sent_to_a_file_that_was_lost(public: Gateway, tmp_path: Path) -> None:
    job = await public.submit(first_frame_image_url=(await upload(public))["id"])
    (stored,) = files_below(tmp_path / "kept")
    stored.unlink()
    await public.dispatch()
    assert (await public.read(job))["error"]["code"] == "file_lost"
    assert await public.sandbox.submits(job) == []


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


async def test_what_becomes_of_other_files_is_nothing_to_one_that_arrives(inland: Gateway) -> None:
    limits = {"pending_jobs": {"limit": 0}}
    await inland.admin.post("/v1/admin/users", json={"id": "carol", "limits": limits})
    bob, carol = [await inland.client_of(user) for user in ("bob", "carol")]
    framed = {"first_frame_image_url": data_uri(PNG)}

    async def breaks_off() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + PNG

    async def body() -> AsyncIterator[bytes]:
        yield PNG[:-1]
        await inland.submit(**framed)
        refused = await carol.post("/v1/jobs", json=inland.body(**framed))
        assert problem(refused)["code"] == "quota_exceeded"
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        broken = await inland.http.post("/v1/files", content=breaks_off(), headers=headers)
        assert problem(broken)["code"] == "malformed_body"
        yield PNG[-1:]

    answer = await bob.post("/v1/files", content=body())
    assert answer.status_code == 201, answer.text
    assert (await bob.get(f"/v1/files/{answer.json()['id']}/content")).content == PNG


async def test_a_file_that_takes_too_long_to_arrive_is_given_up(
    inland: Gateway, tmp_path: Path
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield PNG[:-1]
        inland.wait(6 * 3600)
        await inland.workers.pruner.run_once()
        yield PNG[-1:]

    answer = await inland.http.post("/v1/files", content=body())
    assert problem(answer)["code"] == "storage_unavailable"
    assert files_below(tmp_path / "kept") == []


async def test_a_user_may_be_deleted_while_a_file_of_theirs_arrives(
    inland: Gateway, tmp_path: Path
) -> None:
    """Before its row is written, and before its bytes are; nothing of it stays."""
    for number, first in enumerate((8, len(PNG) - 1)):
        user = f"doomed-{number}"
        leaving = await inland.client_of(user)

        async def body(user: str = user, first: int = first) -> AsyncIterator[bytes]:
            yield PNG[:first]
            erased = await inland.admin.delete(f"/v1/admin/users/{user}")
            assert erased.status_code == 204
            yield PNG[first:]

        told = problem(await leaving.post("/v1/files", content=body()))
        assert (told["status"], told["code"]) == (401, "unauthenticated")
        assert "deleted just now" in told["detail"]
        assert (await leaving.get("/v1/me")).status_code == 401
        assert files_below(tmp_path / "kept") == []
    services = inland.app.state.parts.services
    with pytest.raises(UserGoneError):
        await services.uploads.keep(PNG, declared="image/png", user_id=user, made_for="job_x")
    for asking in (
        services.webhooks.create(user_id=user, url="https://example.com/", events=[]),
        services.webhooks.secret(user),
        services.webhooks.rotate_secret(user, overlap=timedelta()),
    ):
        with pytest.raises(UserGoneError):
            await asking


class Reluctant(ObjectStorage):
    """A folder that takes and gives, but deletes nothing just now."""

    async def delete(self, key: str) -> None:
        raise StorageUnavailableError


async def test_what_cannot_be_taken_back_now_hides_no_refusal_and_goes_later(
    gateway: Gateway, database_url: str, tmp_path: Path
) -> None:
    clock = gateway.clock
    sound = open_folder(tmp_path / "kept")
    reluctant = Reluctant(sound._opened, folder=sound._folder)  # noqa: SLF001 - it takes its place
    database = open_database(database_url)
    uploads = Uploads(
        database=database,
        storage=reluctant,
        sweeper=Sweeper(database=database, storage=reluctant, clock=clock),
        config=UploadsConfig(largest_image=1000),
        clock=clock,
    )

    async def body() -> AsyncIterator[bytes]:
        yield PNG

    try:
        with pytest.raises(FileTooLargeError):
            await uploads.receive(body(), user_id="alice")
        kept = await uploads.keep(PNG, declared="image/png", user_id="alice", made_for="job_x")
        await uploads.drop([kept.id])
        sweeper = Sweeper(database=database, storage=reluctant, clock=clock)
        assert [await sweeper.prune() for _ in range(2)] == [1, 0], "not again at once"
        assert len(files_below(tmp_path / "kept")) == 1
        gateway.wait(3600)
        await Sweeper(database=database, storage=sound, clock=clock).prune()
        assert files_below(tmp_path / "kept") == []
    finally:
        await database.close()


async def test_nobody_waits_long_for_a_storage_that_is_away(
    gateway: Gateway, database_url: str
) -> None:
    class Away(ObjectStorage):
        async def delete(self, key: str) -> None:
            gateway.wait(3)
            raise StorageUnavailableError

    began = gateway.clock.monotonic()
    async with opened_database(database_url) as database:
        away = Away(dict, folder=None)
        sweeper = Sweeper(database=database, storage=away, clock=gateway.clock)
        await sweeper.delete([new_key("outputs") for _ in range(9)])
    assert gateway.clock.monotonic() - began == 6


async def test_a_process_that_lacks_the_storage_leaves_deleting_to_those_that_have_it(
    gateway: Gateway, database_url: str, tmp_path: Path
) -> None:
    """Without GATEWAY_STORAGE_URL a worker would forget what it cannot delete."""
    clock, storage, key = gateway.clock, open_folder(tmp_path / "kept"), new_key("files")

    async def body() -> AsyncIterator[bytes]:
        yield PNG

    async def work(tx: AsyncConnection) -> None:
        await discard(tx, [key], due_at=clock.now())

    async with opened_database(database_url) as database:
        await storage.put(key, body())
        await database.transact(work)
        lacking = RowStorage(database)
        assert await Sweeper(database=database, storage=lacking, clock=clock).prune() == 0
        assert len(files_below(tmp_path / "kept")) == 1
        assert await Sweeper(database=database, storage=storage, clock=clock).prune() == 1
        assert files_below(tmp_path / "kept") == []


class Broken(ObjectStorage):
    """Gives up a writer that goes on all the same; `key` is the one it is at."""

    key = ""

    async def put(self, key: str, source: AsyncIterator[bytes]) -> Stored:
        self.key = key
        raise StorageUnavailableError


async def test_what_a_writer_stores_after_it_was_given_up_goes_too(
    gateway: Gateway, database_url: str, tmp_path: Path
) -> None:
    """Who was cancelled has a thread that may just be moving the object to its place."""
    sound = open_folder(tmp_path / "kept")
    broken = Broken(sound._opened, folder=sound._folder)  # noqa: SLF001 - it takes its place
    database = open_database(database_url)
    sweeper = Sweeper(database=database, storage=sound, clock=gateway.clock)
    uploads = Uploads(
        database=database,
        storage=broken,
        sweeper=sweeper,
        config=UploadsConfig(),
        clock=gateway.clock,
    )

    async def body() -> AsyncIterator[bytes]:
        yield PNG

    try:
        with pytest.raises(StorageUnavailableError):
            await uploads.receive(body(), user_id="alice")
        await sweeper.prune()
        await sound.put(broken.key, body())
        gateway.wait(3600)
        await sweeper.prune()
        assert files_below(tmp_path / "kept") == []
    finally:
        await database.close()
