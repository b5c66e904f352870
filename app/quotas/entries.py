"""The entries of the ledger, and what each kind does to an account's sums."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from app.quotas.policy import Measure, Tally, to_units

Amounts = Mapping[Measure, int]
"""What one job takes of each measure, in whole units; unknown measures are absent."""


class EntryKind(StrEnum):
    HOLD = "hold"
    SETTLE = "settle"
    RELEASE = "release"
    LATE_CHARGE = "late_charge"


EFFECTS: Mapping[EntryKind, Tally] = {
    EntryKind.HOLD: Tally(held=1),
    EntryKind.SETTLE: Tally(used=1, held=-1),
    EntryKind.RELEASE: Tally(held=-1),
    EntryKind.LATE_CHARGE: Tally(used=1),
}
"""How an entry's amounts change what is used and held, as factors; an end repeats its hold's."""

Ending = Literal[EntryKind.SETTLE, EntryKind.RELEASE]
"""How a hold ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    job_id: str
    kind: EntryKind
    user_id: str
    key_id: str
    token_id: str | None = None
    model: str
    at: datetime
    held_at: datetime
    amounts: Amounts


def amounts_of(*, output_seconds: Decimal | None, price_usd: Decimal | None) -> Amounts:
    amounts = {Measure.JOBS: 1}
    if output_seconds is not None:
        amounts[Measure.MILLISECONDS] = to_units(Measure.MILLISECONDS, output_seconds)
    if price_usd is not None:
        amounts[Measure.MICRO_USD] = to_units(Measure.MICRO_USD, price_usd)
    return amounts
