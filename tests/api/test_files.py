"""/v1/files: what may be uploaded, who sees it, and how it is read back."""

import hashlib
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.core.clock import ManualClock
from tests.support.answers import faults, problem
from tests.support.files import PNG, upload
from tests.support.gateway import PUBLIC_URL, Gateway, Sandbox, running
from tests.support.storages import files_below

pytestmark = pytest.mark.either_database

MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + bytes(5000)
DAY = 24 * 3600
EXPECTED_HEADERS = {
    "Content-Type": "image/png",
    "Content-Length": str(len(PNG)),
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private",
    "Accept-Ranges": "bytes",
}


async def test_a_file_lives_as_long_as_the_operator_says(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> None:
    settings = {"storage_url": f"file://{tmp_path}/kept", "file_days": 1.5}
    async with running(database_url, sandbox=sandbox, clock=clock, **settings) as gateway:
        assert (await upload(gateway))["expires_at"] == "2026-11-23T22:00:00.000Z"


async def test_a_file_is_uploaded_raw_or_by_form_and_read_back(filing: Gateway) -> None:
    raw = await upload(filing, **{"Content-Type": "text/html"})
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
    formed = await filing.http.post("/v1/files", files=form)
    assert formed.status_code == 201, formed.text
    assert (formed.json()["media_type"], formed.json()["size"]) == ("video/mp4", len(MP4))
    assert formed.headers["Location"] == f"/v1/files/{formed.json()['id']}"
    assert (await filing.http.get(formed.headers["Location"])).json() == formed.json()

    anybody = httpx.AsyncClient(transport=httpx.ASGITransport(app=filing.app), base_url=PUBLIC_URL)
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
    filing.wait(26 * 3600)
    assert problem(await anybody.get(link))["code"] == "invalid_signature"
    by_key = await filing.http.get(link.partition("?")[0])
    assert by_key.content == PNG


async def test_a_file_whose_bytes_are_gone_is_not_begun(filing: Gateway, tmp_path: Path) -> None:
    made = await filing.http.post("/v1/files", content=PNG)
    (stored,) = files_below(tmp_path / "kept")
    link = made.json()["urls"]["content"]
    stored.write_bytes(PNG[:-1])
    for change in (lambda: None, stored.unlink):
        change()
        assert problem(await filing.http.get(link))["code"] == "file_not_found"
        assert (await filing.http.head(link)).status_code == 404
    stored.parent.rmdir()
    stored.parent.write_bytes(b"no folder")
    away = await filing.http.get(link)
    assert (away.status_code, problem(away)["code"]) == (503, "storage_unavailable")


async def test_what_is_no_image_or_video_is_refused_and_nothing_stays(
    filing: Gateway, tmp_path: Path
) -> None:
    for data in (b"", b"<!doctype html><script>alert(1)</script>", b"%PDF-1.7", b"\0" * 5000):
        headers = {"Content-Type": "image/png"}
        answer = await filing.http.post("/v1/files", content=data, headers=headers)
        assert faults(answer) == [("/file", "unsupported_file")]
    empty = await filing.http.post("/v1/files", files={"other": ("a.png", PNG)})
    assert faults(empty) == [("/file", "required")]
    two = await filing.http.post("/v1/files", files=[("file", PNG), ("file", PNG)])
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
        broken = await filing.http.post("/v1/files", content=body, headers=headers)
        assert broken.status_code in (400, 422), broken.text
        assert problem(broken)["code"] in ("malformed_body", "invalid_request")
    half = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + PNG
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    cut = await filing.http.post("/v1/files", content=half, headers=headers)
    assert problem(cut)["code"] == "malformed_body"
    assert files_below(tmp_path / "kept") == []


async def test_sound_is_taken_and_named_among_what_is(filing: Gateway) -> None:
    taken = await filing.http.post("/v1/files", content=b"ID3\4" + bytes(300))
    assert (taken.status_code, taken.json()["media_type"]) == (201, "audio/mpeg")
    refused = await filing.http.post("/v1/files", content=b"%PDF-1.7")
    assert "MP3" in problem(refused)["detail"]


async def test_nobody_sees_or_uses_another_users_file(filing: Gateway) -> None:
    file = await upload(filing)
    mallory = await filing.client_of("mallory")
    for path in (f"/v1/files/{file['id']}", f"/v1/files/{file['id']}/content", "/v1/files/x%00"):
        assert problem(await mallory.get(path))["code"] == "file_not_found"
    body = filing.body(first_frame_image_url=file["id"])
    refused = await mallory.post("/v1/jobs", json=body)
    unknown = await filing.http.post(
        "/v1/jobs", json=filing.body(first_frame_image_url="file_" + "0" * 26)
    )
    expected = [("/input/first_frame_image_url", "unknown_file")]
    assert faults(refused) == faults(unknown) == expected
    film = await upload(filing, MP4)
    wrong = await filing.http.post("/v1/jobs", json=filing.body(first_frame_image_url=film["id"]))
    assert faults(wrong) == [("/input/first_frame_image_url", "media_type")]
    checked = await mallory.post("/v1/jobs/validate", json=body)
    assert [error["code"] for error in checked.json()["errors"]] == ["unknown_file"]
    filing.wait(8 * DAY)
    assert problem(await filing.http.get(f"/v1/files/{file['id']}"))["code"] == "file_not_found"
    late = await filing.http.post("/v1/jobs", json=body)
    assert faults(late) == expected


async def test_links_of_a_disabled_services_users_lead_nowhere(filing: Gateway) -> None:
    await filing.admin.post("/v1/admin/users", json={"id": "shop"})
    key = {"user": "shop", "scopes": ["jobs:read", "jobs:write", "files", "act_as"]}
    service = filing.client_with(
        (await filing.admin.post("/v1/admin/keys", json=key)).json()["key"]
    )
    service.headers["X-Gateway-User"] = "u1"
    shop = replace(filing, http=service)
    job = await shop.follow(await shop.submit("sandbox:instant sandbox:output=image"))
    file = await upload(shop)
    links = [job["output"]["image"], file["urls"]["content"]]
    anybody = filing.client_with("")
    assert [(await anybody.get(link)).status_code for link in links] == [200, 200]
    await filing.admin.patch("/v1/admin/users/shop", json={"disabled": True})
    told = [problem(await anybody.get(link))["code"] for link in links]
    assert told == ["job_not_found", "file_not_found"]


async def test_uploads_count_as_submits_and_need_their_scope(filing: Gateway) -> None:
    limits = {"submits_per_minute": {"limit": 1}}
    await filing.admin.post("/v1/admin/users", json={"id": "bob", "limits": limits})
    bob = await filing.client_of("bob")
    assert (await bob.post("/v1/files", content=PNG)).status_code == 201
    refused = await bob.post("/v1/files", content=PNG)
    assert problem(refused)["limit"] == "submits_per_minute"
    reader = {"user": "bob", "scopes": ["jobs:read"]}
    key = (await filing.admin.post("/v1/admin/keys", json=reader)).json()["key"]
    answer = await filing.client_with(key).post("/v1/files", content=PNG)
    assert problem(answer)["code"] == "missing_scope"
    nobody = await filing.client_with("none").post("/v1/files", content=PNG)
    assert nobody.status_code == 401
