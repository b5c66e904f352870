"""What was used, by day, model, user and key: the ledger added up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.models import LedgerRow
from app.quotas.policy import Measure, from_units
from app.quotas.repository import EntryKind


class Grouping(StrEnum):
    DAY = "day"
    MODEL = "model"
    KEY = "key"
    USER = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One group's sums; `groups` gives each grouping's value, days as local dates.

    `jobs` counts what was accepted; a job is held until it is settled or released.
    """

    groups: dict[Grouping, str]
    jobs: int
    jobs_settled: int
    jobs_released: int
    output_seconds: Decimal
    output_seconds_held: Decimal
    spend_usd: Decimal
    spend_usd_held: Decimal


@dataclass(slots=True)
class _Sums:
    holds: int = 0
    settles: int = 0
    releases: int = 0
    milliseconds_used: int = 0
    milliseconds_held: int = 0
    micro_usd_used: int = 0
    micro_usd_held: int = 0

    def add(self, other: "_Sums") -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


async def usage(
    connection: AsyncConnection,
    *,
    since: datetime,
    until: datetime,
    zone: ZoneInfo,
    group_by: Sequence[Grouping],
    user_id: str | None,
) -> Sequence[Usage]:
    """Add up the entries of the jobs accepted in a span, of one user or of all, in group order."""
    entries = select(
        LedgerRow.kind,
        LedgerRow.user_id,
        LedgerRow.key_id,
        LedgerRow.model,
        LedgerRow.held_at,
        LedgerRow.milliseconds,
        LedgerRow.micro_usd,
    ).where(LedgerRow.held_at >= since, LedgerRow.held_at < until)
    if user_id is not None:
        entries = entries.where(LedgerRow.user_id == user_id)
    return _added_up(await connection.execute(entries), zone=zone, group_by=group_by)


def _added_up(
    entries: Iterable[Any], *, zone: ZoneInfo, group_by: Sequence[Grouping]
) -> Sequence[Usage]:
    groups: dict[tuple[str, ...], _Sums] = {}
    for entry in entries:
        values = {
            Grouping.DAY: entry.held_at.astimezone(zone).date().isoformat(),
            Grouping.MODEL: entry.model,
            Grouping.KEY: entry.key_id,
            Grouping.USER: entry.user_id,
        }
        group = tuple(values[grouping] for grouping in group_by)
        groups.setdefault(group, _Sums()).add(_counted(entry))
    return [
        Usage(
            groups=dict(zip(group_by, group, strict=True)),
            jobs=sums.holds,
            jobs_settled=sums.settles,
            jobs_released=sums.releases,
            output_seconds=from_units(Measure.MILLISECONDS, sums.milliseconds_used),
            output_seconds_held=from_units(Measure.MILLISECONDS, sums.milliseconds_held),
            spend_usd=from_units(Measure.MICRO_USD, sums.micro_usd_used),
            spend_usd_held=from_units(Measure.MICRO_USD, sums.micro_usd_held),
        )
        for group, sums in sorted(groups.items())
    ]


def _counted(entry: Any) -> _Sums:
    milliseconds, micro_usd = entry.milliseconds or 0, entry.micro_usd or 0
    match EntryKind(entry.kind):
        case EntryKind.HOLD:
            return _Sums(holds=1, milliseconds_held=milliseconds, micro_usd_held=micro_usd)
        case EntryKind.SETTLE:
            return _Sums(
                settles=1,
                milliseconds_used=milliseconds,
                milliseconds_held=-milliseconds,
                micro_usd_used=micro_usd,
                micro_usd_held=-micro_usd,
            )
        case EntryKind.RELEASE:
            return _Sums(releases=1, milliseconds_held=-milliseconds, micro_usd_held=-micro_usd)
        case EntryKind.LATE_CHARGE:
            return _Sums(milliseconds_used=milliseconds, micro_usd_used=micro_usd)
