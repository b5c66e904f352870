"""Seals stored webhook secrets with the first key, so that the later keys may be dropped."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.sealing import SealBrokenError, Sealer
from app.db.engine import Database
from app.db.models import WebhookEndpointRow, WebhookSecretRow

_PAGE = 200  # SQLite has one writer, and clients come first
_PLACES = (
    (WebhookEndpointRow, WebhookEndpointRow.id),
    (WebhookSecretRow, WebhookSecretRow.user_id),
)


@dataclass(slots=True)
class Resealed:
    """How many secrets were resealed, how many already were, and whose no key opens."""

    renewed: int = 0
    current: int = 0
    broken: tuple[str, ...] = ()


async def reseal(database: Database, sealer: Sealer) -> Resealed:
    """Seal every secret with the first key; what no key opens stays as it is."""
    done = Resealed()
    for table, key in _PLACES:
        after: str | None = ""
        while after is not None:
            page = partial(_reseal_page, sealer=sealer, table=table, key=key, after=after)
            # Added up outside: a transaction may run twice.
            found, after = await database.transact(page)
            done.renewed += found.renewed
            done.current += found.current
            done.broken += found.broken
    return done


async def _reseal_page(
    tx: AsyncConnection, *, sealer: Sealer, table: Any, key: Any, after: str
) -> tuple[Resealed, str | None]:
    """Reseal the rows after `after`; return the last one's key, None if none are left."""
    page = select(key, table.secret, table.previous_secret).where(key > after)
    # Locked: a rotation in between would move the old secret to where this no longer looks.
    rows = (await tx.execute(page.order_by(key).limit(_PAGE).with_for_update())).all()
    found = Resealed()
    for row in rows:
        if renewed := _renewed(row, sealer, found):
            await tx.execute(update(table).where(key == row[0]).values(renewed))
    return found, rows[-1][0] if rows else None


def _renewed(row: Row[Any], sealer: Sealer, found: Resealed) -> dict[str, str]:
    changed = {}
    for column in ("secret", "previous_secret"):
        sealed = getattr(row, column)
        if sealed is None:
            continue
        try:
            renewed = sealer.renew(sealed)
        except SealBrokenError:
            found.broken += (row[0],)
            continue
        if renewed == sealed:
            found.current += 1
        else:
            found.renewed += 1
            changed[column] = renewed
    return changed
