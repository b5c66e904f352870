"""/v1/jobs/{id}/outputs/{n}: the file itself, by a key or by a signed link."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.answers import problem
from tests.support.gateway import PUBLIC_URL, Gateway
from tests.support.rows import change
from tests.support.statements import compiled_anew

pytestmark = pytest.mark.either_database

DAY = 24 * 3600


async def finished(gateway: Gateway, words: str = "sandbox:output=image") -> dict[str, Any]:
    job = await gateway.follow(await gateway.submit(f"sandbox:instant {words}"))
    assert job["status"] == "completed"
    return job


@pytest.fixture
def anybody(gateway: Gateway) -> httpx.AsyncClient:
    """Speak to the gateway without a key."""
    transport = httpx.ASGITransport(app=gateway.app)
    return httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL)


async def test_a_link_is_all_that_is_needed(gateway: Gateway, anybody: httpx.AsyncClient) -> None:
    job = await finished(gateway)
    (link,) = job["urls"]["outputs"]
    assert job["output"] == {"image": link}
    assert link.startswith(f"{PUBLIC_URL}/v1/jobs/{job['id']}/outputs/0?expires=")

    answer = await anybody.get(link)
    assert answer.status_code == 200
    assert answer.content.startswith(b"\x89PNG")
    assert {name: answer.headers[name] for name in EXPECTED_HEADERS} == EXPECTED_HEADERS
    assert answer.headers["Content-Disposition"] == f'inline; filename="{job["id"]}-0.png"'
    assert answer.headers["Content-Length"] == str(len(answer.content))
    by_key = await gateway.http.get(link.partition("?")[0])
    assert by_key.content == answer.content


async def test_a_link_is_looked_up_by_statements_that_are_made_once(
    gateway: Gateway, anybody: httpx.AsyncClient
) -> None:
    """A player opens one for each part of a film."""
    (link,) = (await finished(gateway))["urls"]["outputs"]
    with compiled_anew(gateway) as seen:
        assert (await anybody.get(link, headers={"Range": "bytes=0-1"})).status_code == 206
    assert [text for text in seen if "FROM jobs" in text or "FROM users" in text] == []


async def test_a_link_ends_as_the_file_does_at_runcomfy(
    gateway: Gateway, database_url: str
) -> None:
    """Clients tell files by that; what is no ending of a media file is not passed on."""
    job = await finished(gateway)
    for path, name in (
        ("/0.mp4", "0.mp4"),
        ("/a%20b.JPEG?X-Signature=a/b.png", "0.jpg"),
        ("/0.webp#t=1", "0.webp"),
        ("/0.html", None),
        ("/mp4", None),
        ("?0.mp4", None),
    ):
        for host in ("files.runcomfy.net", "["):
            change(
                database_url,
                "UPDATE jobs SET output = :output WHERE id = :id",
                id=job["id"],
                output=f'{{"video": "https://{host}{path}"}}',
            )
            shown = (await gateway.http.get(f"/v1/jobs/{job['id']}")).json()["output"]["video"]
            last = shown.rpartition("&")[2]
            assert last == f"name={name}" if name else "name=" not in shown, (host, path)
            assert parse_qs(urlsplit(shown).query).keys() >= {"expires", "signature"}


EXPECTED_HEADERS = {
    "Content-Type": "image/png",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private",
    "Accept-Ranges": "bytes",
}


async def test_players_may_ask_for_parts_and_for_headers(
    gateway: Gateway, anybody: httpx.AsyncClient
) -> None:
    (link,) = (await finished(gateway))["urls"]["outputs"]
    whole = await anybody.get(link)
    size = len(whole.content)

    for headers in ({}, {"Range": "bytes=1-3"}):  # which only a GET can ask for
        head = await anybody.head(link, headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("Content-Length", "Content-Type", "ETag", "Content-Disposition"):
            assert head.headers[name] == whole.headers[name]

    part = await anybody.get(link, headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")
    assert part.headers["Content-Range"] == f"bytes 1-3/{size}"
    assert part.headers["Content-Length"] == "3"

    same = await anybody.get(link, headers={"If-None-Match": whole.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["ETag"] == whole.headers["ETag"]

    beyond = await anybody.get(link, headers={"Range": f"bytes={size}-"})
    assert problem(beyond)["code"] == "range_not_satisfiable"
    assert beyond.status_code == 416
    assert beyond.headers["Content-Range"].endswith(f"*/{size}")

    for far, expected in (("0-" + "9" * 20, 206), ("-" + "9" * 20, 206), ("9" * 20 + "-", 416)):
        clamped = await anybody.get(link, headers={"Range": f"bytes={far}"})
        assert clamped.status_code == expected, far
        assert expected == 416 or clamped.content == whole.content

    for none in ("bytes=0-1,5-6", "bytes=5-2", "bytes=x", "bytes=-", "items=0-1", "bytes=1-2-3"):
        ignored = await anybody.get(link, headers={"Range": none})
        assert (ignored.status_code, ignored.content) == (200, whole.content), none

    for name in ("If-None-Match", "If-Range", "If-Modified-Since"):
        asked = [(name.encode(), '"été"'.encode("latin-1")), (b"Range", b"bytes=0-1")]
        unknown = await anybody.get(link, headers=asked)
        assert (unknown.status_code, unknown.content) == (200, whole.content), name


async def test_a_link_that_was_changed_opens_nothing(
    gateway: Gateway, anybody: httpx.AsyncClient
) -> None:
    job, other = await finished(gateway, "sandbox:output=images"), await finished(gateway)
    link = job["urls"]["outputs"][0]
    signature = parse_qs(urlsplit(link).query)["signature"][0]
    expires = parse_qs(urlsplit(link).query)["expires"][0]
    path = f"/v1/jobs/{job['id']}/outputs"
    changed = [
        link.replace("/outputs/0", "/outputs/1"),
        link.replace(job["id"], other["id"]),
        link.replace(expires, str(int(expires) + 1)),
        link.replace(expires, f"0{expires}").replace(signature, signature[::-1]),
        link.replace(signature, ""),
        link.replace(signature, signature[:-1]),
        link[:-1],
        link.partition("&name=")[0],
        link.replace(signature, "ключ"),
        f"{path}/0?signature={signature}",
    ]
    for url in changed:
        answer = await anybody.get(url)
        assert problem(answer) == {
            "status": 401,
            "code": "invalid_signature",
            "detail": "The link is invalid or has expired; read the job or the file again for a"
            " new one, or make another client token.",
        }
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert problem(await anybody.get(f"{path}/0"))["code"] == "unauthenticated"
    assert problem(await anybody.get(f"{path}/0?expires={expires}"))["code"] == "unauthenticated"


async def test_a_link_lives_for_a_day_and_stays_the_same_for_an_hour(
    gateway: Gateway, anybody: httpx.AsyncClient
) -> None:
    job = await finished(gateway)
    (link,) = job["urls"]["outputs"]
    gateway.wait(60)
    assert (await gateway.read(job))["urls"]["outputs"] == [link]
    gateway.wait(DAY - 60)
    assert (await anybody.head(link)).status_code == 200
    gateway.wait(3600)
    assert problem(await anybody.get(link))["code"] == "invalid_signature"
    (fresh,) = (await gateway.read(job))["urls"]["outputs"]
    assert (await anybody.head(fresh)).status_code == 200


async def test_there_are_as_many_outputs_as_the_job_has(gateway: Gateway) -> None:
    job = await finished(gateway, "sandbox:output=images")
    links = job["urls"]["outputs"]
    assert job["output"] == {"images": links}
    assert [urlsplit(link).path[-1] for link in links] == ["0", "1"]
    path = f"/v1/jobs/{job['id']}/outputs"
    assert problem(await gateway.http.get(f"{path}/2")) == {
        "status": 404,
        "code": "output_not_found",
        "detail": f"The job {job['id']} has 2 outputs, counted from 0.",
    }
    for n in ("-1", "x", "", "1.5", "0/", "9" * 5000, "%00", "\u06601", "../0"):
        answer = await gateway.http.get(f"{path}/{n}")
        assert answer.status_code == 404, n
        assert problem(answer)["code"] in {"not_found", "output_not_found"}
    waiting = await gateway.submit()
    answer = await gateway.http.get(f"/v1/jobs/{waiting['id']}/outputs/0")
    assert problem(answer)["code"] == "output_not_found"


async def test_what_upstream_no_longer_has_is_gone(gateway: Gateway) -> None:
    job = await finished(gateway, "sandbox:output-gone=60")
    path = f"/v1/jobs/{job['id']}/outputs/0"
    gateway.wait(60)
    answer = await gateway.http.get(path)
    assert problem(answer) == {
        "status": 410,
        "code": "output_gone",
        "detail": "RunComfy no longer has this output; run the job again.",
    }
    assert (await gateway.http.head(path)).status_code == 410


async def test_links_of_a_disabled_user_lead_nowhere(
    gateway: Gateway, anybody: httpx.AsyncClient, database_url: str
) -> None:
    job = await finished(gateway)
    change(database_url, "UPDATE users SET disabled = true WHERE id = 'alice'")
    answer = await anybody.get(job["output"]["image"])
    assert problem(answer)["code"] == "job_not_found"


async def test_a_host_that_is_not_trusted_is_never_asked(
    gateway: Gateway, database_url: str
) -> None:
    job = await finished(gateway)
    for url in (
        "http://169.254.169.254/latest",
        "https://runcomfy.net.evil.example/0.mp4",
        "https://x.runcomfy.net:8443/0.mp4",
        "https://user@evil.example#.runcomfy.net/0.mp4",
        f"{gateway.sandbox.url.replace('127.0.0.1', 'localhost')}/0.mp4",
        "file:///etc/passwd",
        "https://[",
    ):
        change(
            database_url,
            "UPDATE jobs SET output = :output WHERE id = :id",
            id=job["id"],
            output=f'{{"video": "{url}"}}',
        )
        answer = await gateway.http.get(f"/v1/jobs/{job['id']}/outputs/0")
        assert problem(answer) == {
            "status": 503,
            "code": "output_unavailable",
            "detail": "The output is on a host that GATEWAY_OUTPUT_HOSTS does not name.",
        }, url
        assert answer.headers["Retry-After"] == "5"


async def test_a_name_that_nobody_can_look_up_is_unavailable(
    gateway: Gateway, database_url: str
) -> None:
    job = await finished(gateway)
    for host in ("xn--.runcomfy.net", "é..runcomfy.net"):
        change(
            database_url,
            "UPDATE jobs SET output = :output WHERE id = :id",
            id=job["id"],
            output=f'{{"video": "https://{host}/0.mp4"}}',
        )
        answer = await gateway.http.get(f"/v1/jobs/{job['id']}/outputs/0")
        assert (answer.status_code, problem(answer)["code"]) == (503, "output_unavailable"), host


async def test_an_answer_that_is_no_media_is_handed_out_as_a_download(
    gateway: Gateway, database_url: str
) -> None:
    job = await finished(gateway)
    change(
        database_url,
        "UPDATE jobs SET output = :output WHERE id = :id",
        id=job["id"],
        output=f'{{"video": "{gateway.sandbox.url}/sandbox/requests"}}',
    )
    answer = await gateway.http.get(f"/v1/jobs/{job['id']}/outputs/0")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{job["id"]}-0.bin"'
