"""A time limit for waiting on the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

_LAST_WORD = timedelta(seconds=0.5)


@asynccontextmanager
async def within(span: timedelta) -> AsyncIterator[None]:
    """Raise TimeoutError after this long, or only a little later.

    When cancelled, psycopg asks the server to stop, and waits ten seconds if that is frozen;
    cancelled a second time, it hangs up.
    """
    async with (
        asyncio.timeout((span + _LAST_WORD).total_seconds()),
        asyncio.timeout(span.total_seconds()),
    ):
        yield
