"""Files that inputs name are looked at before any hold; what RunComfy would refuse stops here."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api.problems import FieldErrorRead
from app.core.clock import ManualClock
from tests.support.gateway import SEEDANCE, Gateway, Sandbox, running
from tests.support.pictures import data_uri, hosting, jpeg, png, tiff
from tests.support.storages import files_below
from tests.support.wire_server import Line, answer, refused_port, wire_server

pytestmark = pytest.mark.either_database

FIRST_LAST = "bytedance/seedance-2.5/first-last-frame/480p"
POINTER = "/input/first_frame_image_url"
DOCUMENTED = set(re.findall(r"`(\w+)`", FieldErrorRead.model_fields["code"].description or ""))
WIDE = "The uploaded image width and height must not exceed 6000 pixels."
SMALL = "The uploaded image width and height must not be less than 300 pixels."
RATIO = "The aspect ratio range should be between 0.4 and 2.5."
HEAVY = "File size must be less than 30 MB."
BROKEN = {
    "/wide": (png(6001, 4000), WIDE),
    "/tall": (png(4000, 6001), WIDE),
    "/narrow": (png(299, 400), SMALL),
    "/flat": (png(400, 299), SMALL),
    "/upright": (png(399, 1000), RATIO),
    "/lying": (png(2501, 1000), RATIO),
    "/heavy": (png(1000, 1000, size=30 * 2**20 + 1), HEAVY),
}
EDGES = {
    "/largest": png(6000, 6000),
    "/smallest": png(300, 300),
    "/uprightest": png(400, 1000),
    "/flattest": png(2500, 1000),
    "/heaviest": png(1000, 1000, size=30 * 2**20),
    "/camera": jpeg(1000, 800, before=300_000),
    "/scan": tiff(1000, 800, before=400_000),
}


@pytest.fixture
async def looking(
    database_url: str, sandbox: Sandbox, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Gateway]:
    async with running(
        database_url,
        sandbox=sandbox,
        clock=clock,
        inspect_media="require",
        allow_private_networks=True,
        storage_url=f"file://{tmp_path}/storage",
    ) as gateway:
        yield gateway


async def errors_of(gateway: Gateway, picture: str) -> list[dict[str, Any]]:
    body = gateway.body(first_frame_image_url=picture)
    checked = (await gateway.http.post("/v1/jobs/validate", json=body)).json()
    assert checked["valid"] == (not checked["errors"])
    errors: list[dict[str, Any]] = checked["errors"]
    assert {error["code"] for error in errors} <= DOCUMENTED
    return errors


async def code_of(gateway: Gateway, picture: str) -> str | None:
    errors = await errors_of(gateway, picture)
    assert {error["pointer"] for error in errors} <= {POINTER}
    assert len(errors) < 2
    return str(errors[0]["code"]) if errors else None


async def uploaded(gateway: Gateway, content: bytes) -> str:
    kind = {"Content-Type": "application/octet-stream"}
    answered = await gateway.http.post("/v1/files", content=content, headers=kind)
    assert answered.status_code == 201, answered.text
    return str(answered.json()["id"])


async def test_seeds_seven_rules_refuse_by_url_data_uri_and_upload(looking: Gateway) -> None:
    sent: dict[str, bytes | str | int] = {path: file for path, (file, _) in BROKEN.items()}
    async with hosting(sent | EDGES) as pictures:
        for path, (file, message) in BROKEN.items():
            places = [pictures.url + path, await uploaded(looking, file)]
            if path != "/heavy":
                places.append(data_uri(file))
            for place in places:
                (error,) = await errors_of(looking, place)
                assert error["pointer"] == POINTER
                assert error["detail"].startswith(f"{message} `first_frame_image_url` ")
        for path, file in EDGES.items():
            assert await errors_of(looking, pictures.url + path) == []
            assert await errors_of(looking, await uploaded(looking, file)) == []
            if path != "/heaviest":
                assert await errors_of(looking, data_uri(file)) == []


async def test_refused_picture_holds_nothing_and_reaches_nobody(looking: Gateway) -> None:
    body = looking.body(first_frame_image_url=data_uri(png(6001, 4000)))
    refused = await looking.http.post("/v1/jobs", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")
    (error,) = refused.json()["errors"]
    assert (error["pointer"], error["code"]) == (POINTER, "width_pixels")
    assert error["detail"] == f"{WIDE} `first_frame_image_url` is 6001 x 4000 pixels."
    shaped = await looking.http.post(f"/v1/models/{SEEDANCE}", json=body["input"])
    assert (shaped.status_code, shaped.json()["error_code"]) == (422, 422001)
    assert shaped.json()["detail"][0]["msg"] == error["detail"]
    assert (await looking.http.get("/v1/jobs")).json()["data"] == []
    me = (await looking.http.get("/v1/me")).json()
    assert not any(limit["held"] for limit in me["limits"])
    assert await looking.sandbox.submits({"input": body["input"]}) == []


async def test_of_a_list_that_is_refused_no_file_is_looked_at(looking: Gateway) -> None:
    model = "wan-ai/wan-2.7/edit"  # takes four images
    async with hosting({f"/{n}.png": png(800, 600) for n in range(5)}) as pictures:
        named = [f"{pictures.url}/{n}.png" for n in range(5)]
        given = {"prompt": "a fox", "image_urls": named}
        body = {"model": model, "input": given}
        checked = (await looking.http.post("/v1/jobs/validate", json=body)).json()
        assert [error["code"] for error in checked["errors"]] == ["max_items"]
        assert pictures.received == []
        given["image_urls"] = named[:4]
        assert (await looking.http.post("/v1/jobs/validate", json=body)).json()["errors"] == []
        assert len(pictures.received) == 4


async def test_a_sound_picture_is_accepted_and_sent_as_it_was_named(looking: Gateway) -> None:
    async with hosting({"/a.png": png(800, 600), "/b.png": "/a.png"}) as pictures:
        job = await looking.submit(first_frame_image_url=f"{pictures.url}/b.png")
        assert job["input"]["first_frame_image_url"] == f"{pictures.url}/b.png"
        assert [each.headers["accept-encoding"] for each in pictures.received] == ["identity"] * 2
        assert {each.method for each in pictures.received} == {"GET"}


async def test_what_is_no_image_is_told_by_its_bytes(looking: Gateway) -> None:
    files: dict[str, bytes | str | int] = {
        "/page.png": b"<!doctype html><title>Not found</title>",
        "/film.png": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
        "/empty.png": b"",
        "/damaged.png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "/endless.jpg": jpeg(800, 600, before=2_000_000),
        "/image.html": png(800, 600),
    }
    told = {
        "/page.png": ("media_type", "by its first bytes the file is none."),
        "/film.png": ("media_type", "by its first bytes the file is MP4."),
        "/empty.png": ("media_type", "but the file is empty."),
        "/damaged.png": ("media_unreadable", "this PNG is damaged."),
        "/endless.jpg": ("media_unreadable", "this JPEG has them too far from its start."),
    }
    async with hosting(files) as pictures:
        for path, (code, end) in told.items():
            (error,) = await errors_of(looking, pictures.url + path)
            assert (error["pointer"], error["code"]) == (POINTER, code)
            assert error["detail"].endswith(end)
        assert await code_of(looking, f"{pictures.url}/image.html") is None
        assert await code_of(looking, f"{pictures.url.upper()}/page.png") == "media_type"
    film = await uploaded(looking, b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41")
    assert await code_of(looking, film) == "media_type"
    nobodys = "file_" + "0" * 26
    assert await code_of(looking, nobodys) not in (None, "media_type")
    assert await code_of(looking, data_uri(b"<html>", kind="image/png")) == "media_type"
    assert await code_of(looking, data_uri(png(800, 600), kind="image/gif")) is None
    assert await code_of(looking, "data:image/png;base64,AAA") == "media_data_uri"


async def test_an_upload_that_was_lost_is_to_be_sent_again(
    looking: Gateway, tmp_path: Path
) -> None:
    lost = await uploaded(looking, png(800, 600))
    (stored,) = files_below(tmp_path / "storage")
    stored.unlink()
    (error,) = await errors_of(looking, lost)
    assert (error["pointer"], error["code"]) == (POINTER, "unknown_file")
    assert error["detail"].endswith("is gone from the gateway's storage; send it again.")


@pytest.mark.parametrize(("ranges", "length"), [(True, True), (False, True), (False, False)])
async def test_any_way_to_serve_a_file_will_do(
    looking: Gateway, *, ranges: bool, length: bool
) -> None:
    files: dict[str, bytes | str | int] = {
        "/small": png(800, 600, size=3_000_000),
        "/camera": jpeg(1000, 800, before=300_000),
        "/heavy": png(800, 600, size=31_500_000),
        "/empty": b"",
    }
    async with hosting(files, ranges=ranges, length=length) as pictures:
        assert await code_of(looking, f"{pictures.url}/small") is None
        assert await code_of(looking, f"{pictures.url}/camera") is None
        assert await code_of(looking, f"{pictures.url}/heavy") == "file_size_mb"
        assert await code_of(looking, f"{pictures.url}/empty") == "media_type"


async def test_servers_that_give_no_file_are_told_apart(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    files: dict[str, bytes | str | int] = {
        **{f"/{status}": status for status in (400, 401, 403, 404, 410, 429, 500, 502, 503)},
        "/204": 204,
        "/304": 304,
        "/loop": "/loop",
        "/inside": "http://169.254.169.254/",
        "/fine": "/2",
        "/2": "/3",
        "/3": "/4",
        "/4": png(800, 600),
        "/long": "/fine",
    }
    answers: dict[str, dict[str, str | None]] = {}
    async with hosting(files) as pictures:
        with refused_port() as nobody:
            for mode in ("require", "best_effort", "off"):
                async with running(
                    database_url,
                    sandbox=sandbox,
                    clock=clock,
                    inspect_media=mode,
                    allow_private_networks=True,
                ) as gateway:
                    urls = {path: pictures.url + path for path in files} | {"nobody": nobody}
                    urls["no such name"] = "http://no such name.invalid/".replace(" ", "-")
                    answers[mode] = {
                        name: await code_of(gateway, url) for name, url in urls.items()
                    }
    denied = dict.fromkeys(
        ["/400", "/401", "/403", "/404", "/410", "/429", "/204", "/304"], "media_denied"
    )
    sure = {
        **denied,
        "/loop": "media_redirects",
        "/long": "media_redirects",
        "/inside": "media_url",
        **dict.fromkeys(["/fine", "/2", "/3", "/4"], None),
    }
    unsure = ["/500", "/502", "/503", "nobody"]
    unknown = {mode: answers[mode].pop("no such name") for mode in answers}
    # A machine without any name server cannot tell that there is no such name.
    assert unknown["require"] in ("media_url", "media_unreachable")
    assert answers == {
        "require": sure | dict.fromkeys(unsure, "media_unreachable"),
        "best_effort": sure | dict.fromkeys(unsure, None),
        "off": dict.fromkeys([*sure, *unsure], None),
    }


async def test_files_that_cannot_be_fetched_are_a_problem_of_their_own(looking: Gateway) -> None:
    """Where nothing else is wrong: once their servers answer the input may be accepted."""
    async with hosting({"/500": 500, "/503": 503, "/page": b"<!doctype html>"}) as pictures:

        async def refused(first: str, last: str) -> tuple[dict[str, Any], dict[str, Any]]:
            frames = {"first_frame": pictures.url + first, "last_frame": pictures.url + last}
            body = {"model": FIRST_LAST, "input": {"prompt": "a walk"} | frames}
            ours = await looking.http.post("/v1/jobs", json=body)
            runcomfys = await looking.http.post(f"/v1/models/{FIRST_LAST}", json=body["input"])
            assert (ours.status_code, runcomfys.status_code) == (422, 422)
            assert runcomfys.json()["error_code"] == 422001
            return ours.json(), runcomfys.json()

        ours, runcomfys = await refused("/500", "/503")
        assert ours["code"] == "media_unreachable"
        assert [(error["pointer"], error["code"]) for error in ours["errors"]] == [
            ("/input/first_frame", "media_unreachable"),
            ("/input/last_frame", "media_unreachable"),
        ]
        assert [(error["loc"], error["type"]) for error in runcomfys["detail"]] == [
            (["body", "first_frame"], "media_unreachable"),
            (["body", "last_frame"], "media_unreachable"),
        ]
        ours, _ = await refused("/500", "/page")
        assert ours["code"] == "invalid_input"
        assert [error["code"] for error in ours["errors"]] == ["media_unreachable", "media_type"]


async def test_private_addresses_are_refused_unless_allowed_and_never_link_local_ones(
    database_url: str, sandbox: Sandbox, clock: ManualClock
) -> None:
    async with (
        running(database_url, sandbox=sandbox, clock=clock, inspect_media="require") as gateway,
        hosting({"/a.png": png(800, 600)}) as pictures,
    ):
        assert await code_of(gateway, f"{pictures.url}/a.png") == "media_url"
        assert pictures.connections == 0


async def test_what_was_found_is_remembered_for_minutes_and_refusals_are_not(
    looking: Gateway,
) -> None:
    files: dict[str, bytes | str | int] = {"/a.png": png(800, 600), "/b.png": png(7000, 4000)}
    async with hosting(files) as pictures:

        async def look(path: str) -> tuple[str | None, int]:
            before = pictures.connections
            code = await code_of(looking, pictures.url + path)
            return code, pictures.connections - before

        assert await look("/a.png") == (None, 1)
        assert await look("/a.png") == (None, 0)
        files["/a.png"] = png(100, 100)
        assert await look("/a.png") == (None, 0)
        looking.wait(121)
        assert await look("/a.png") == ("width_pixels", 1)
        assert await look("/b.png") == ("width_pixels", 1)
        files["/b.png"] = png(600, 600)  # mended, and believed at once
        assert await look("/b.png") == (None, 1)


async def test_replays_are_found_before_any_file_is_looked_at(looking: Gateway) -> None:
    async with hosting({"/a.png": png(800, 600)}) as pictures:
        body = looking.body(first_frame_image_url=f"{pictures.url}/a.png")
        key = {"Idempotency-Key": "one"}
        first = await looking.http.post("/v1/jobs", json=body, headers=key)
        assert first.status_code == 202
    looking.wait(3600)
    again = await looking.http.post("/v1/jobs", json=body, headers=key)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert await code_of(looking, f"{pictures.url}/a.png") == "media_unreachable"


async def test_who_has_no_submit_left_has_no_errands_run(looking: Gateway) -> None:
    plan = {"name": "slow", "limits": {"submits_per_minute": {"limit": 1, "mode": "enforce"}}}
    assert (await looking.admin.post("/v1/admin/plans", json=plan)).status_code == 201
    changed = await looking.admin.patch("/v1/admin/users/alice", json={"plan": "slow"})
    assert changed.status_code == 200, changed.text
    async with hosting({"/a.png": png(800, 600), "/b.png": png(800, 600)}) as pictures:
        await looking.submit(first_frame_image_url=f"{pictures.url}/a.png")
        body = looking.body(first_frame_image_url=f"{pictures.url}/b.png")
        for path, sent in (("/v1/jobs", body), (f"/v1/models/{SEEDANCE}", body["input"])):
            refused = await looking.http.post(path, json=sent)
            assert refused.status_code == 429
        assert pictures.connections == 1
        looking.wait(61)
        assert (await looking.http.post("/v1/jobs", json=body)).status_code == 202


async def test_waiting_for_a_file_is_no_part_of_the_gateways_own_time(looking: Gateway) -> None:
    async def slow(line: Line) -> None:
        await line.request()
        looking.clock.advance(timedelta(seconds=4))
        await line.send(answer(200, raw=png(800, 600)))

    def own_ms(response: httpx.Response) -> float:
        return float(response.headers["Server-Timing"].removeprefix("gateway;dur="))

    async with wire_server(slow) as server:
        body = looking.body(first_frame_image_url=f"{server.url}/a.png")
        accepted = await looking.http.post("/v1/jobs", json=body)
        assert accepted.status_code == 202
        assert own_ms(accepted) == 0.0
    measured = (await looking.http.get("/metrics")).text
    assert 'gateway_http_request_seconds_sum{route="/v1/jobs"} 0.0' in measured
    looking.wait(3600)
    refused = await looking.http.post("/v1/jobs", json=body)
    assert (refused.status_code, own_ms(refused)) == (422, 0.0)
