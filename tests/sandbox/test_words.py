"""What each magic word does, seen from outside."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sandbox.scenarios import CALLS, WORDS
from tests.sandbox.caller import Sandbox

DONE = 60.0


@pytest.mark.parametrize(
    ("words", "seconds", "expected"),
    [
        ("sandbox:instant", 0, "completed"),
        ("sandbox:queue", 9.9, "in_queue"),
        ("sandbox:queue", 10, "in_progress"),
        ("sandbox:queue=0 sandbox:slow", 29.9, "in_progress"),
        ("sandbox:queue=0 sandbox:slow", 30, "completed"),
        ("sandbox:stuck", 1_000_000, "in_progress"),
        ("sandbox:stuck-in-queue", 1_000_000, "in_queue"),
        ("sandbox:queued-word", 0, "pending"),
        ("sandbox:queue=0 sandbox:running-word", 0, "reticulating"),
        ("sandbox:queue=0 sandbox:running-word=starting", 0, "starting"),
        ("sandbox:status-word", DONE, "succeeded"),
        ("sandbox:fail sandbox:status-word=failed", DONE, "failed"),
        ("sandbox:fail", DONE, "completed"),
        ("sandbox:letters", 0, "IN_QUEUE"),
        ("sandbox:letters=title", DONE, "Completed"),
        ("", DONE, "completed"),
    ],
)
async def test_a_word_chooses_the_status_told(
    sandbox: Sandbox, words: str, seconds: float, expected: str
) -> None:
    request_id = await sandbox.submit(words)
    sandbox.wait(seconds)
    assert (await sandbox.status(request_id)).json()["status"] == expected


REASON = "The sandbox was asked to fail"
MADE = {"status": "succeeded", "output": {"video": "URL/0.mp4"}, "cost": 0.5}
FAILED = {"status": "failed", "cost": 0.0}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", MADE),
        ("sandbox:result-word", MADE | {"status": "completed"}),
        ("sandbox:output", {"status": "succeeded", "cost": 0.5}),
        ("sandbox:output=null", MADE | {"output": None}),
        ("sandbox:output=empty", MADE | {"output": {}}),
        ("sandbox:output=blank", MADE | {"output": {"video": ""}}),
        ("sandbox:output=string", MADE | {"output": "URL/0.mp4"}),
        ("sandbox:output=list", MADE | {"output": ["URL/0.mp4"]}),
        ("sandbox:output=videos", MADE | {"output": {"videos": ["URL/0.mp4", "URL/1.mp4"]}}),
        ("sandbox:output=images", MADE | {"output": {"images": ["URL/0.png", "URL/1.png"]}}),
        ("sandbox:output=audios", MADE | {"output": {"audios": ["URL/0.wav", "URL/1.wav"]}}),
        ("sandbox:output=audio", MADE | {"output": {"audio": "URL/0.wav"}}),
        ("sandbox:output=image", MADE | {"output": {"image": "URL/0.png"}}),
        ("sandbox:fail", FAILED | {"error": {"type": "SandboxError", "message": REASON}}),
        ("sandbox:fail=string", FAILED | {"error": REASON}),
        ("sandbox:fail=list", FAILED | {"error": [{"type": "SandboxError", "message": REASON}]}),
        ("sandbox:fail=none", FAILED),
        ("sandbox:fail=none sandbox:fail-word", FAILED | {"status": "error"}),
        ("sandbox:cost", MADE | {"cost": 1.0}),
        ("sandbox:cost=7.5 sandbox:fail=none", FAILED | {"cost": 7.5}),
        ("sandbox:no-cost", {"status": "succeeded", "output": {"video": "URL/0.mp4"}}),
        ("sandbox:letters", MADE | {"status": "SUCCEEDED"}),
    ],
)
async def test_a_word_chooses_the_result(
    sandbox: Sandbox, words: str, expected: dict[str, Any]
) -> None:
    request_id = await sandbox.submit(words)
    sandbox.wait(DONE)
    answer = await sandbox.result(request_id)
    result = httpx.Response(
        200, text=answer.text.replace(f"{sandbox.http.base_url}/outputs/{request_id}", "URL")
    ).json()
    times = result.pop("created_at"), result.pop("finished_at")
    assert times[0] < times[1]
    assert result == {"request_id": request_id} | expected


async def test_as_many_images_as_the_input_asks_for(sandbox: Sandbox) -> None:
    model = "google/nano-banana-2/text-to-image"
    given = {"prompt": "three foxes sandbox:instant", "num_images": 3}
    request_id = (await sandbox.post(given, model=model)).json()["request_id"]
    result = (await sandbox.result(request_id)).json()
    price = (await sandbox.http.get(f"/v1/models/{model}")).json()["base_price_usd"]
    assert result["cost"] == pytest.approx(3 * price)
    assert [url.rpartition("/")[2] for url in result["output"]["images"]] == [
        "0.png",
        "1.png",
        "2.png",
    ]
    last = await sandbox.http.get(result["output"]["images"][-1])
    assert last.headers["content-type"] == "image/png"


async def test_a_result_can_echo_the_input(sandbox: Sandbox) -> None:
    given = sandbox.input("sandbox:instant sandbox:echo-input")
    request_id = (await sandbox.post(given)).json()["request_id"]
    assert (await sandbox.result(request_id)).json()["input"] == given


async def test_a_cost_can_come_late(sandbox: Sandbox) -> None:
    request_id = await sandbox.submit("sandbox:instant sandbox:late-cost")
    sandbox.wait(29)
    assert "cost" not in (await sandbox.result(request_id)).json()
    sandbox.wait(1)
    assert (await sandbox.result(request_id)).json()["cost"] == 0.5


async def test_an_output_can_be_gone(sandbox: Sandbox) -> None:
    request_id = await sandbox.submit("sandbox:instant sandbox:output=audio sandbox:output-gone=9")
    url = (await sandbox.result(request_id)).json()["output"]["audio"]
    assert (await sandbox.http.get(url)).status_code == 200
    sandbox.wait(9)
    assert (await sandbox.http.get(url)).status_code == 404


async def test_an_output_can_be_away_for_a_time(sandbox: Sandbox) -> None:
    request_id = await sandbox.submit("sandbox:instant sandbox:output=audio sandbox:output-503=9")
    url = (await sandbox.result(request_id)).json()["output"]["audio"]
    assert (await sandbox.http.get(url)).status_code == 503
    sandbox.wait(9)
    assert (await sandbox.http.get(url)).status_code == 200


async def test_a_record_can_expire(sandbox: Sandbox) -> None:
    request_id = await sandbox.submit("sandbox:expired=5")
    assert (await sandbox.status(request_id)).status_code == 200
    sandbox.wait(5)
    for call in (sandbox.status, sandbox.result, sandbox.cancel):
        answer = await call(request_id)
        assert (answer.status_code, answer.json()["error_code"]) == (404, 404001)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("sandbox:position-base", 4), ("sandbox:no-position", None), ("", 3)],
)
async def test_queue_positions(sandbox: Sandbox, words: str, expected: int | None) -> None:
    request_id = await sandbox.submit(words)
    assert (await sandbox.status(request_id)).json().get("queue_position") == expected


async def test_a_request_id_can_be_long(sandbox: Sandbox) -> None:
    request_id = await sandbox.submit("sandbox:long-id")
    assert len(request_id) == 128
    assert (await sandbox.status(request_id)).status_code == 200


GRANTED = {"status": "cancelled", "outcome": "cancelled"}


@pytest.mark.parametrize(
    ("words", "told", "status"),
    [
        ("sandbox:cancelled-word", GRANTED | {"status": "canceled"}, "canceled"),
        ("sandbox:cancel-outcome", GRANTED | {"outcome": "cancellation_requested"}, "cancelled"),
        ("sandbox:cancel-outcome=canceled", GRANTED | {"outcome": "canceled"}, "cancelled"),
        ("sandbox:cancel-outcome=none", {"status": "cancelled"}, "cancelled"),
        ("sandbox:cancel-status", GRANTED | {"status": "completed"}, "cancelled"),
        ("sandbox:cancel-ignored", GRANTED, "in_queue"),
        ("sandbox:cancel-lag=1", GRANTED, "in_queue"),
    ],
)
async def test_a_word_chooses_what_a_cancel_tells_and_does(
    sandbox: Sandbox, words: str, told: dict[str, str], status: str
) -> None:
    request_id = await sandbox.submit(f"sandbox:queue=9 {words}")
    answer = await sandbox.cancel(request_id)
    assert answer.status_code == 202
    assert answer.json() == {"request_id": request_id} | told
    assert (await sandbox.status(request_id)).json()["status"] == status


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ("sandbox:cancel-ignored", "succeeded"),
        ("sandbox:cancel-lag=1", "cancelled"),
        ("sandbox:cancel-lag=2000", "succeeded"),
        ("sandbox:cancel-undone=1", "succeeded"),
    ],
)
async def test_a_granted_cancel_may_come_late_or_never(
    sandbox: Sandbox, words: str, end: str
) -> None:
    request_id = await sandbox.submit(words)
    await sandbox.cancel(request_id)
    sandbox.wait(DONE)
    assert (await sandbox.result(request_id)).json()["status"] == end
    sandbox.wait(3000)
    assert (await sandbox.result(request_id)).json()["status"] == end


TOLD = "Too many requests"
CODE = {"error_code": 429001}


@pytest.mark.parametrize(
    ("words", "body", "retry_after"),
    [
        ("", CODE | {"error_message": TOLD}, "2"),
        ("sandbox:error-key", CODE | {"message": TOLD}, "2"),
        ("sandbox:error-key=detail", CODE | {"detail": TOLD}, "2"),
        ("sandbox:error-key=error", CODE | {"error": TOLD}, "2"),
        ("sandbox:error-code", {"error_code": "429001", "error_message": TOLD}, "2"),
        ("sandbox:error-code=none", {"error_message": TOLD}, "2"),
        ("sandbox:retry-after", CODE | {"error_message": TOLD}, None),
        ("sandbox:retry-after=9", CODE | {"error_message": TOLD}, "9"),
    ],
)
async def test_a_word_chooses_the_shape_of_an_error(
    sandbox: Sandbox, words: str, body: Any, retry_after: str | None
) -> None:
    answer = await sandbox.post(sandbox.input(f"sandbox:submit-429 {words}"))
    assert answer.status_code == 429
    assert answer.json() == body
    assert answer.headers.get("retry-after") == retry_after


async def test_retry_after_can_be_a_date(sandbox: Sandbox) -> None:
    answer = await sandbox.post(sandbox.input("sandbox:submit-429 sandbox:retry-after=date"))
    assert answer.headers["retry-after"].endswith(" GMT")


def test_every_word_is_tried() -> None:
    """Read the tests' own text: a word that nobody tries is a promise that nobody keeps."""
    here = Path(__file__)
    tried = here.read_text("utf-8") + (here.parent / "test_faults.py").read_text("utf-8")
    single = {name for name in WORDS if not name.endswith("-FAULT")}
    assert {name for name in single if f"sandbox:{name}" not in tried} == set()
    assert {name for name in WORDS if name.endswith("-FAULT")} == {f"{c}-FAULT" for c in CALLS}
