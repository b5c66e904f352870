"""What follows when users come to another time zone."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from app.auth.directory.models import Plan
from app.quotas.rebuild import rebuild_accounts

UTC_NAME = "UTC"


def zone_name(plan: Plan | None) -> str:
    """Give the zone in which the limits of a plan's users count."""
    return UTC_NAME if plan is None else plan.timezone


async def move(tx: AsyncConnection, accounts: Sequence[str], *, to: str, at: datetime) -> None:
    """Let accounts count in the days and months of another zone from now on."""
    zone = ZoneInfo(to)
    await rebuild_accounts(tx, accounts=dict.fromkeys(accounts, zone), at=at)
