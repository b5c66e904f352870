"""The token and the input stay out of every error, repr and log line of the upstream client."""

import logging
import traceback
from collections.abc import Iterator

import pytest

from app.upstream.errors import UpstreamError
from tests.support.gateway import SEEDANCE, TOKEN
from tests.support.upstream import LONG, SOON, upstream
from tests.support.wire_server import Line, Script, answer, answers, wire_server

PROMPT = "a very private prompt"
MEDIA = "https://gateway.invalid/files/1?signature=private"
BODY = {"prompt": PROMPT, "images": [{"url": MEDIA}], "resolution": "720p"}


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def hangs(line: Line) -> None:
    await line.request()
    await line.wait_for_the_other_end()


async def closes(line: Line) -> None:
    await line.request()


async def halves(line: Line) -> None:
    await line.request()
    await line.send(answer(200, {})[:-1])


ECHO = f"720p: Bearer {TOKEN} sent {PROMPT!r} and {MEDIA}"


@pytest.mark.parametrize(
    "script",
    [
        hangs,
        closes,
        halves,
        answers(b"not HTTP\r\n\r\n"),
        answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk"),
        answers(answer(400, {"error_message": ECHO, "error_code": f"E{TOKEN}"})),
        answers(answer(422, {"detail": [{"loc": ["body", "prompt"], "msg": ECHO}]})),
        answers(answer(500, {"error": {"message": ECHO, "input": BODY}})),
        answers(answer(200, {"status": "ok", "input": BODY})),
    ],
)
async def test_no_failure_tells_the_token_or_the_input(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with wire_server(script) as server, upstream(server.url) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.submit(SEEDANCE, BODY, timeout=SOON)
        shown = [repr(client), str(client), caplog.text]
    shown += [each for link in chain(caught.value) for each in (repr(link), str(link.__dict__))]
    shown += traceback.format_exception(caught.value)
    for secret in (TOKEN, PROMPT, "signature=private"):
        assert not [each for each in shown if secret in each]


async def test_the_exceptions_own_text_quotes_nobody() -> None:
    """An error for the log; its message, for the job's owner, tells what RunComfy said."""
    part = answer(422, {"error_code": "422001", "error_message": "no private prompt"})
    async with wire_server(answers(part)) as server, upstream(server.url) as client:
        with pytest.raises(UpstreamError) as submitted:
            await client.submit(SEEDANCE, BODY, timeout=LONG)
        assert submitted.value.message == "no private prompt"
        assert str(submitted.value) == "RunComfy answered 422 with the code 422001."
    word = answer(500, {"error_code": "private"})
    async with wire_server(answers(word)) as server, upstream(server.url) as client:
        with pytest.raises(UpstreamError) as asked:
            await client.status("req-1", timeout=LONG)
        assert asked.value.message == str(asked.value) == "RunComfy answered 500."


async def test_a_message_keeps_what_is_fit_to_be_read() -> None:
    data = answer(400, {"error_message": f"  {ECHO}\x1b[31m\n\ud800 {'x' * 900}"})
    async with wire_server(answers(data)) as server, upstream(server.url) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.submit(SEEDANCE, BODY, timeout=LONG)
    start = "720p: Bearer [hidden] sent '[hidden]' and [hidden] [31m xxx"
    assert caught.value.message.startswith(start)
    assert len(caught.value.message) == 500


async def test_a_read_that_fails_shows_no_token() -> None:
    data = answer(404, {"error_message": ECHO})
    async with wire_server(answers(data)) as server, upstream(server.url) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.status("req-1", timeout=LONG)
    assert caught.value.message == f"720p: Bearer [hidden] sent {PROMPT!r} and [address]"


async def test_the_error_of_a_failed_job_shows_no_token_and_no_address() -> None:
    data = answer(200, {"status": "failed", "error": {"type": TOKEN, "message": ECHO}})
    async with wire_server(answers(data)) as server, upstream(server.url) as client:
        result = await client.result("req-1", timeout=LONG)
    assert result.error is not None
    assert result.error.type == "[hidden]"
    assert result.error.message == f"720p: Bearer [hidden] sent {PROMPT!r} and [address]"
