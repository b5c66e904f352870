"""The files a job makes: real, of the asked size, and made once."""

import asyncio
import base64
import io
import wave
from datetime import timedelta
from typing import Any

import av
import pytest
from PIL import Image, ImageStat

from app.core.clock import ManualClock, SystemClock
from app.sandbox import SandboxConfig, running_sandbox
from app.sandbox.outputs import shape_of
from tests.sandbox.caller import Sandbox, client

MUSIC = "acestep-ai/ace-step-1.5/text-to-audio"


def picture(colour: str, size: tuple[int, int] = (600, 400)) -> str:
    """Make a data URI of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


async def fetch(sandbox: Sandbox, kind: str, request_id: str) -> bytes:
    url = (await sandbox.result(request_id)).json()["output"][kind]
    answer = await sandbox.http.get(url, headers={"Authorization": ""}, timeout=60)
    assert answer.status_code == 200
    return answer.content


@pytest.mark.parametrize(
    ("resolution", "ratio", "duration", "size"),
    [
        ("480p", "16:9", 2, (854, 480)),
        ("480p", "9:16", 3, (480, 854)),
        ("720p", "adaptive", 2, (1080, 720)),
    ],
)
async def test_a_film_has_the_asked_shape(
    sandbox: Sandbox, resolution: str, ratio: str, duration: int, size: tuple[int, int]
) -> None:
    request_id = await sandbox.submit(
        "sandbox:instant",
        resolution=resolution,
        ratio=ratio,
        duration=duration,
        first_frame_image_url=picture("red"),
    )
    film = await fetch(sandbox, "video", request_id)
    assert film.index(b"moov") < film.index(b"mdat")
    with av.open(io.BytesIO(film), "r") as opened:
        track = opened.streams.video[0]
        assert (track.codec_context.name, track.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (track.width, track.height) == size
        assert track.average_rate == 24
        frames = [frame.to_image() for frame in opened.decode(track)]
    assert len(frames) == 24 * duration
    red, green, blue = ImageStat.Stat(frames[0]).mean
    assert red > 230
    assert max(green, blue) < 25


async def test_the_camera_moves(sandbox: Sandbox) -> None:
    sample = f"{sandbox.http.base_url}/samples/first-frame.jpg"
    request_id = await sandbox.submit("sandbox:instant", duration=2, first_frame_image_url=sample)
    with av.open(io.BytesIO(await fetch(sandbox, "video", request_id)), "r") as opened:
        first, *_, last = [frame.to_image() for frame in opened.decode(video=0)]
    assert first.size == (854, 480)
    assert first.resize((32, 18)).tobytes() != last.resize((32, 18)).tobytes()


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/nobody.png", "data:image/png;base64,%%%", "data:,text", "none"]
)
async def test_a_frame_that_cannot_be_had_is_drawn(sandbox: Sandbox, address: str) -> None:
    request_id = await sandbox.submit(
        "sandbox:instant sandbox:output=image", first_frame_image_url=address
    )
    drawn = Image.open(io.BytesIO(await fetch(sandbox, "image", request_id)))
    assert (drawn.format, drawn.size) == ("PNG", (854, 480))
    assert len(drawn.resize((32, 18)).getcolors() or []) > 50


async def test_a_frame_is_fetched_over_http_from_where_the_input_says(sandbox: Sandbox) -> None:
    """A sandbox's own output serves as the next one's first frame."""
    first = await sandbox.submit(
        "sandbox:instant sandbox:output=image", first_frame_image_url=picture("blue", (480, 480))
    )
    address = (await sandbox.result(first)).json()["output"]["image"]
    second = await sandbox.submit(
        "sandbox:instant sandbox:output=image", first_frame_image_url=address
    )
    copy = Image.open(io.BytesIO(await fetch(sandbox, "image", second)))
    assert copy.getcolors() == [(480 * 480, (0, 0, 255))]


async def test_music_is_a_playable_tone(sandbox: Sandbox) -> None:
    answer = await sandbox.post({"prompt": "sandbox:instant", "tags": "x"}, model=MUSIC)
    sound = await fetch(sandbox, "audio", answer.json()["request_id"])
    with wave.open(io.BytesIO(sound)) as opened:
        assert opened.getnframes() / opened.getframerate() == 5


async def test_an_output_answers_head_and_ranges(sandbox: Sandbox) -> None:
    request_id = await sandbox.submit("sandbox:instant sandbox:output=audio")
    url = (await sandbox.result(request_id)).json()["output"]["audio"]
    head = await sandbox.http.head(url)
    whole = await sandbox.http.get(url)
    part = await sandbox.http.get(url, headers={"Range": "bytes=4-99"})
    assert int(head.headers["content-length"]) == len(whole.content)
    assert (head.headers["accept-ranges"], head.content) == ("bytes", b"")
    assert (part.status_code, part.content) == (206, whole.content[4:100])


async def test_only_files_of_a_success_exist(sandbox: Sandbox) -> None:
    fine = await sandbox.submit("sandbox:instant sandbox:output=audio")
    failed = await sandbox.submit("sandbox:instant sandbox:output=audio sandbox:fail")
    queued = await sandbox.submit("sandbox:output=audio")
    paths = [f"{fine}/0.wav", f"{fine}/1.wav", f"{fine}/0.mp4", f"{failed}/0.wav"]
    paths += [f"{queued}/0.wav", "req_nobody/0.wav", f"{fine}/..%2F..%2Frequests.sqlite"]
    found = [(await sandbox.http.get(f"/outputs/{path}")).status_code for path in paths]
    assert found == [200, 404, 404, 404, 404, 404, 404]


async def test_a_job_that_ran_on_after_its_cancel_has_its_file(sandbox: Sandbox) -> None:
    request_id = await sandbox.submit("sandbox:cancel-undone=1 sandbox:output=audio")
    await sandbox.cancel(request_id)
    sandbox.wait(100)
    assert (await fetch(sandbox, "audio", request_id)).startswith(b"RIFF")


async def test_a_file_is_made_once_and_outlives_a_restart(config: SandboxConfig) -> None:
    clock = ManualClock()
    outputs = config.directory / "outputs"
    async with running_sandbox(config, clock=clock) as base, client(base) as http:
        sandbox = Sandbox(http, clock)
        request_id = await sandbox.submit("sandbox:instant", duration=2)
        film = await fetch(sandbox, "video", request_id)
        made_at = [path.stat().st_mtime_ns for path in outputs.iterdir()]
        assert await fetch(sandbox, "video", request_id) == film
    async with running_sandbox(config, clock=clock) as base, client(base) as http:
        assert await fetch(Sandbox(http, clock), "video", request_id) == film
    assert [path.stat().st_mtime_ns for path in outputs.iterdir()] == made_at
    assert len(made_at) == 1


async def test_nothing_is_made_for_who_has_left(config: SandboxConfig) -> None:
    """Nor does a stop wait for it."""
    films, outputs = 8, config.directory / "outputs"
    async with running_sandbox(config) as base, client(base) as http:
        sandbox = Sandbox(http, ManualClock())
        request_ids = [await sandbox.submit("sandbox:instant") for _ in range(films)]
        asked = [
            asyncio.ensure_future(fetch(sandbox, "video", request_id)) for request_id in request_ids
        ]
        while not outputs.exists():
            await SystemClock().sleep(timedelta(milliseconds=10))
        for fetching in asked:
            fetching.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    assert len(list(outputs.iterdir())) < films / 2


@pytest.mark.parametrize(
    ("given", "size", "seconds"),
    [
        ({}, (854, 480), 5),
        ({"resolution": "480p", "ratio": "21:9", "duration": "6"}, (1120, 480), 6),
        ({"resolution": "1080p", "aspect_ratio": "4:3", "duration": 12}, (1440, 1080), 12),
        ({"resolution": "720P", "aspect_ratio": "1:1", "duration": "auto"}, (720, 720), 5),
        ({"resolution": "1K", "ratio": "adaptive", "duration": 90}, (1820, 1024), 15),
        ({"resolution": "2160p", "ratio": "0:0", "duration": 0}, (1920, 1080), 5),
        ({"resolution": ["odd"], "ratio": 3, "duration": {}}, (854, 480), 5),
    ],
)
def test_shapes_are_read_from_the_fields_models_use(
    given: dict[str, Any], size: tuple[int, int], seconds: float
) -> None:
    shape = shape_of(given)
    assert shape.size(frame=(1600, 900)) == size
    assert shape.seconds == seconds


async def test_the_sample_picture_is_a_landscape(sandbox: Sandbox) -> None:
    answer = await sandbox.http.get("/samples/first-frame.jpg", headers={"Authorization": ""})
    assert answer.headers["content-type"] == "image/jpeg"
    sample = Image.open(io.BytesIO(answer.content))
    assert (sample.format, sample.size) == ("JPEG", (1280, 720))
