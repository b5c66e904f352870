"""A short form of `make chaos`: every way to break things, one after another, under load."""

from pathlib import Path

import pytest

from tests.support.chaos import rampage, reckon, world


@pytest.mark.timeout(900)
async def test_nothing_is_lost_doubled_or_told_whatever_is_killed(tmp_path: Path) -> None:
    async with world(tmp_path, seed=4711) as at:
        await rampage(at, seconds=8, jobs=150)
        tally = await reckon(at, within=600)
    assert at.accepted
    assert tally.faults == {}
