"""The upstream client as bootstrap makes it, with times that suit a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from pydantic import SecretStr

from app.core.clock import SystemClock
from app.core.metrics import Metrics
from app.net.clients import trusted
from app.upstream.client import UpstreamClient
from tests.support.gateway import TOKEN

SOON = timedelta(seconds=1)  # half of it is for a connection, on a machine that may be busy
LONG = timedelta(seconds=5)


@asynccontextmanager
async def upstream(
    url: str,
    *,
    connections: int = 4,
    submit_retry_statuses: frozenset[int] = frozenset({429}),
) -> AsyncIterator[UpstreamClient]:
    submits = trusted(timeout=LONG, connections=connections, keepalive=timedelta(seconds=2))
    reads = trusted(timeout=LONG, connections=connections, keepalive=timedelta(seconds=15))
    async with submits, reads:
        yield UpstreamClient(
            base_url=url,
            token=SecretStr(TOKEN),
            submits=submits,
            reads=reads,
            metrics=Metrics(),
            clock=SystemClock(),
            submit_retry_statuses=submit_retry_statuses,
        )
