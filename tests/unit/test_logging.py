"""What a log says of an exception, and what it leaves out."""

import asyncio
import contextlib
import gc
import io
import json
import logging
from typing import Never

import pytest
import structlog

from app.catalogue.errors import UnknownModelError
from app.core.logging import configure_logging

pytestmark = pytest.mark.usefixtures("own_logging")


class Tail(Exception):  # noqa: N818 - a name for a test
    pass


def test_an_exception_that_is_its_own_cause_is_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(format="json", level="info")
    try:
        tail = Tail()
        raise tail from tail
    except Tail:
        logging.getLogger("test").exception("it.broke")
    assert capsys.readouterr().err.count("Tail") == 1


def test_a_refusal_in_the_chain_is_told_without_what_it_quotes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(format="json", level="info")
    try:
        tail = Tail()
        raise tail from UnknownModelError("a secret garden", nearest=[])
    except Tail:
        logging.getLogger("test").exception("it.broke")
    printed = capsys.readouterr().err
    assert "app.catalogue.errors.UnknownModelError: No such model" in printed
    assert "garden" not in printed


def test_an_event_has_the_form_of_a_line_of_a_library(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(format="json", level="warning")
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        structlog.get_logger("app.room").warning("it.broke")
        logging.getLogger("library").warning("it %s", "broke")
        structlog.get_logger("app.room").info("it.works")
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert ours.keys() == theirs.keys()
    assert ours | {"timestamp": ""} == {
        "event": "it.broke",
        "request_id": "req_1",
        "logger": "app.room",
        "level": "warning",
        "timestamp": "",
    }


def test_all_that_broke_together_is_told_with_what_came_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(format="json", level="info")
    try:
        try:
            int("a secret garden")
        except ValueError:
            raise ExceptionGroup("a secret garden", [Tail(), OSError("a secret garden")])  # noqa: B904
    except ExceptionGroup:
        logging.getLogger("test").exception("it.broke")
    printed = capsys.readouterr().err
    for kind in ("ExceptionGroup", ".Tail", "OSError", "ValueError"):
        assert kind in printed
    assert "garden" not in printed


@pytest.mark.parametrize(
    ("library", "level"),
    [
        ("httpx", logging.INFO),  # each address
        ("httpcore.http11", logging.DEBUG),  # each header that came
        ("aiohttp.access", logging.INFO),
        ("uvicorn.access", logging.INFO),
        ("psycopg", logging.WARNING),  # a failed one with its values
    ],
)
def test_what_libraries_quote_is_left_out_however_much_is_wanted(
    library: str, level: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(format="json", level="debug")
    logging.getLogger(library).log(level, "a secret garden")
    assert capsys.readouterr().err == ""


def test_a_line_that_cannot_be_written_fails_nobody() -> None:
    configure_logging(format="json", level="info")
    closed = io.StringIO()
    closed.close()
    with contextlib.redirect_stderr(closed):
        structlog.get_logger("app.room").info("it.works")


def test_what_nobody_waited_for_is_told_without_what_it_was_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(words: str) -> Never:
        raise ValueError(words)

    async def fail_later() -> None:
        fail("a secret garden")

    async def forget() -> None:
        asyncio.get_running_loop().call_soon(fail, "a secret garden")
        task = asyncio.ensure_future(fail_later())
        await asyncio.wait([task])
        del task
        gc.collect()

    configure_logging(format="json", level="info")
    asyncio.run(forget())  # the loop of tests would raise it
    printed = capsys.readouterr().err
    assert "garden" not in printed
    callback, lost = (json.loads(line) for line in printed.splitlines())
    assert callback["event"].startswith("Exception in callback ")
    assert lost["event"] == "Task exception was never retrieved"
    assert all("ValueError" in each["exception"] for each in (callback, lost))
