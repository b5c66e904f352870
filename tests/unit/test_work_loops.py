"""Loops that are told to stop: each ends, by itself or not."""

import asyncio
from datetime import timedelta

import pytest

from app.worker.loop import run_until

pytestmark = pytest.mark.anyio


async def test_a_loop_that_waits_for_ever_does_not_keep_the_others_from_the_end() -> None:
    stop, bell, ended = asyncio.Event(), asyncio.Event(), list[str]()

    async def heeds_the_bell() -> None:
        await bell.wait()
        ended.append("rung")

    async def asks_a_database_that_is_frozen() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    stop.set()
    await run_until(
        stop,
        [heeds_the_bell(), asks_a_database_that_is_frozen()],
        ring=bell.set,
        within=timedelta(milliseconds=10),
    )
    assert ended == ["rung", "cancelled"]
