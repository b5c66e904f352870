"""Waiting for others with something to write."""

import asyncio
from datetime import timedelta

import pytest

from app.worker.gathering import Gathering
from tests.support.turns import turns

pytestmark = pytest.mark.anyio


async def test_who_waits_goes_on_at_the_word_each_time_anew() -> None:
    gathering = Gathering(at_most=timedelta(hours=1))
    for _ in range(2):
        waiting = [asyncio.ensure_future(gathering.wait()) for _ in range(2)]
        await turns()
        assert [each.done() for each in waiting] == [False, False]
        gathering.release()
        await turns()
        assert [each.done() for each in waiting] == [True, True]


async def test_who_waits_goes_on_without_those_whose_answer_does_not_come() -> None:
    gathering = Gathering(at_most=timedelta(milliseconds=10))
    for _ in range(2):
        async with asyncio.timeout(60):
            await gathering.wait()
