"""Let others have the loop, for tests that count its turns to know what has happened."""

import asyncio


async def turns(times: int = 10) -> None:
    for _ in range(times):
        await asyncio.sleep(0)  # noqa: TID251 - yields, waits for nothing
