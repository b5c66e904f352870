"""What a log says of an exception, and what it leaves out."""

import asyncio
import gc
import json
import logging
from typing import Never

import pytest

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
