"""The token, the keys and what users wrote: in no log line, header, answer or file of ours."""

import json
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO

import pytest

from app.core.logging import configure_logging
from tests.support.answers import problem
from tests.support.gateway import SEEDANCE, TOKEN, Gateway
from tests.support.rows import stored

PROMPT = "a very private wish"
PICTURE = "https://example.com/private.png?signature=private-signature"


@pytest.fixture
def logs() -> Iterator[StringIO]:
    """Log as in production, down to the last detail, into what this gives."""
    with redirect_stderr(StringIO()) as written:
        configure_logging(format="json", level="debug")
    yield written
    configure_logging(format="console", level="warning")


async def test_nothing_private_reaches_a_log(gateway: Gateway, logs: StringIO) -> None:
    key = gateway.http.headers["Authorization"].removeprefix("Bearer ")
    private = {PROMPT, "private-signature", "private-metadata", TOKEN, key, key[-43:]}
    for words in (
        "sandbox:instant",
        "sandbox:fail",
        "sandbox:lost-answer",
        "sandbox:submit-422",
        "sandbox:submit-html",
        "sandbox:poll-400004 sandbox:instant",
        "sandbox:poll-reset sandbox:instant",
    ):
        body = gateway.body(f"{PROMPT} {words}", first_frame_image_url=PICTURE)
        body["metadata"] = {"secret": "private-metadata"}
        headers = {"Idempotency-Key": f"private-metadata-{words.replace(' ', '+')}"}
        job = (await gateway.http.post("/v1/jobs", json=body, headers=headers)).json()
        for _ in range(8):
            await gateway.dispatch()
            await gateway.poll()
            gateway.wait(1)
        job = await gateway.read(job)
        for link in job["urls"]["outputs"]:
            private.add(link.rpartition("=")[2])
            assert (await gateway.http.get(link)).status_code == 200
            assert (await gateway.http.get(f"{link}x")).status_code == 401
        await gateway.http.post("/v1/jobs", json=body | {"webhook_url": PROMPT})
        await gateway.http.post("/v1/jobs", content=json.dumps(body)[:-1])
        await gateway.http.get("/v1/jobs", params={"metadata[secret]": "private-metadata"})
        await gateway.http.get("/v1/jobs", headers={"Authorization": f"Bearer {key[:-1]}"})
    written = logs.getvalue()
    assert '"event": "job.advanced"' in written
    assert [text for text in sorted(private) if text in written] == []


async def test_a_bug_is_logged_once_with_its_place_and_without_its_words(
    gateway: Gateway, logs: StringIO
) -> None:
    class Broken:
        async def page(self, **_: object) -> None:
            raise LookupError(PROMPT)

    object.__setattr__(gateway.app.state.services, "jobs", Broken())
    answer = await gateway.http.get("/v1/jobs?model=private", headers={"X-Request-Id": "r1"})
    assert problem(answer)["code"] == "internal_error"
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    (failure,) = [line for line in lines if line["level"] == "error"]
    assert failure["event"] == "request.failed"
    assert failure["request_id"] == "r1"
    assert (failure["method"], failure["path"]) == ("GET", "/v1/jobs")
    assert "builtins.LookupError" in failure["exception"]
    assert "test_secrets.py" in failure["exception"]
    assert PROMPT not in str(lines)
    assert "private" not in str(failure)


async def test_no_answer_tells_where_a_file_really_is(gateway: Gateway) -> None:
    words = "sandbox:instant sandbox:output=image sandbox:echo-input"
    job = await gateway.follow(await gateway.submit(words))
    (submit,) = await gateway.sandbox.submits(job)
    answers = [
        await gateway.http.get(f"/v1/jobs/{job['id']}"),
        await gateway.http.get("/v1/jobs"),
        await gateway.http.get(job["output"]["image"]),
        await gateway.http.head(job["output"]["image"]),
        await gateway.http.get(job["output"]["image"], headers={"Range": "bytes=999999999-"}),
        await gateway.http.post(f"/v1/jobs/{job['id']}/cancel"),
        await gateway.http.get(f"/v1/jobs/{job['id']}/outputs/9"),
    ]
    for answer in answers:
        told = str(answer.headers) + answer.text
        assert submit["request_id"] not in told
        assert gateway.sandbox.url not in told
        assert gateway.sandbox.url.rpartition(":")[2] not in answer.headers.get("Location", "")
        assert TOKEN not in told
    assert "cookie" not in submit["headers"]
    assert "x-request-id" not in submit["headers"]


async def test_upstream_never_learns_who_asked(gateway: Gateway) -> None:
    body = gateway.body() | {"metadata": {"customer": "alice@example.com"}}
    headers = {"Idempotency-Key": "k1", "X-Request-Id": "r1", "Cookie": "a=b", "Referer": "x"}
    job = (await gateway.http.post("/v1/jobs", json=body, headers=headers)).json()
    await gateway.dispatch()
    (submit,) = await gateway.sandbox.submits(job)
    assert submit["input"] == job["input"]
    assert not {"idempotency-key", "x-request-id", "cookie", "referer"} & set(submit["headers"])


async def test_neither_token_nor_key_is_in_the_database(
    gateway: Gateway, database_url: str
) -> None:
    await gateway.follow(await gateway.submit("sandbox:instant"))
    await gateway.follow(await gateway.submit("sandbox:submit-400004"))
    everything = stored(database_url)
    assert SEEDANCE in everything
    for private in (TOKEN, gateway.http.headers["Authorization"][-43:]):
        assert private not in everything
