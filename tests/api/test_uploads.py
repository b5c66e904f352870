"""How the bytes of an upload arrive, and what may happen meanwhile."""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from app.core.clock import ManualClock
from app.core.errors import UserGoneError
from tests.support.answers import problem
from tests.support.asgi import in_chunks
from tests.support.files import PNG
from tests.support.gateway import Gateway, Sandbox, running
from tests.support.pictures import data_uri
from tests.support.storages import files_below

pytestmark = pytest.mark.either_database


async def test_a_form_is_read_in_whatever_pieces_it_comes(filing: Gateway) -> None:
    file = PNG[:200] + b"\r\n--\r\n" * 9  # looks like the end: it is passed on in parts
    form = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + file + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for size in (1, 3, 7, len(form)):
        pieces = in_chunks(*(form[at : at + size] for at in range(0, len(form), size)))
        made = await filing.http.post("/v1/files", content=pieces, headers=headers)
        assert made.status_code == 201, made.text
        assert made.json()["sha256"] == hashlib.sha256(file).hexdigest()


async def test_a_header_of_a_form_is_not_gathered_without_end(filing: Gateway) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for header in (b"X: " + b"y" * 2**15, b"y" * 2**15 + b": x"):
        disposition = b'Content-Disposition: form-data; name="file"\r\n\r\n'
        form = b"--b\r\n" + header + b"\r\n" + disposition + PNG + b"\r\n--b--"
        refused = await filing.http.post("/v1/files", content=form, headers=headers)
        assert (refused.status_code, problem(refused)["code"]) == (400, "malformed_body")


async def test_a_form_has_a_hundred_fields_at_most(filing: Gateway) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    other = b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\n\r\n'
    file = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + PNG + b"\r\n--b--\r\n"
    taken = await filing.http.post("/v1/files", content=other * 99 + file, headers=headers)
    assert (taken.status_code, taken.json()["size"]) == (201, len(PNG))
    refused = await filing.http.post("/v1/files", content=other * 100 + file, headers=headers)
    assert (refused.status_code, problem(refused)["code"]) == (400, "malformed_body")


@pytest.mark.parametrize("behind", ["type", "disposition"])
async def test_a_header_of_a_form_has_a_hundred_options_at_most(
    filing: Gateway, behind: str
) -> None:
    async def upload(options: int) -> httpx.Response:
        given = {behind: "; a=b" * options}
        content_type = f"multipart/form-data; boundary=b{given.get('type', '')}"
        disposition = f'form-data; name="file"{given.get("disposition", "")}'
        form = f"--b\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + PNG + b"\r\n--b--"
        headers = {"Content-Type": content_type}
        return await filing.http.post("/v1/files", content=form, headers=headers)

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


async def test_what_becomes_of_other_files_is_nothing_to_one_that_arrives(filing: Gateway) -> None:
    limits = {"pending_jobs": {"limit": 0}}
    await filing.admin.post("/v1/admin/users", json={"id": "carol", "limits": limits})
    bob, carol = [await filing.client_of(user) for user in ("bob", "carol")]
    framed = {"first_frame_image_url": data_uri(PNG)}

    async def breaks_off() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + PNG

    async def body() -> AsyncIterator[bytes]:
        yield PNG[:-1]
        await filing.submit(**framed)
        refused = await carol.post("/v1/jobs", json=filing.body(**framed))
        assert problem(refused)["code"] == "quota_exceeded"
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        broken = await filing.http.post("/v1/files", content=breaks_off(), headers=headers)
        assert problem(broken)["code"] == "malformed_body"
        yield PNG[-1:]

    answer = await bob.post("/v1/files", content=body())
    assert answer.status_code == 201, answer.text
    assert (await bob.get(f"/v1/files/{answer.json()['id']}/content")).content == PNG


async def test_a_file_that_takes_too_long_to_arrive_is_given_up(
    filing: Gateway, tmp_path: Path
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield PNG[:-1]
        filing.wait(6 * 3600)
        await filing.workers.pruner.run_once()
        yield PNG[-1:]

    answer = await filing.http.post("/v1/files", content=body())
    assert problem(answer)["code"] == "storage_unavailable"
    assert files_below(tmp_path / "kept") == []


async def test_a_user_may_be_deleted_while_a_file_of_theirs_arrives(
    filing: Gateway, tmp_path: Path
) -> None:
    """Before its row is written, and before its bytes are; nothing of it stays."""
    for number, first in enumerate((8, len(PNG) - 1)):
        user = f"doomed-{number}"
        leaving = await filing.client_of(user)

        async def body(user: str = user, first: int = first) -> AsyncIterator[bytes]:
            yield PNG[:first]
            erased = await filing.admin.delete(f"/v1/admin/users/{user}")
            assert erased.status_code == 204
            yield PNG[first:]

        told = problem(await leaving.post("/v1/files", content=body()))
        assert (told["status"], told["code"]) == (401, "unauthenticated")
        assert "deleted just now" in told["detail"]
        assert (await leaving.get("/v1/me")).status_code == 401
        assert files_below(tmp_path / "kept") == []
    services = filing.app.state.parts.services
    with pytest.raises(UserGoneError):
        await services.uploads.keep(PNG, declared="image/png", user_id=user, made_for="job_x")
    for asking in (
        services.webhooks.create(user_id=user, url="https://example.com/", events=[]),
        services.webhooks.secret(user),
        services.webhooks.rotate_secret(user, overlap=timedelta()),
    ):
        with pytest.raises(UserGoneError):
            await asking
