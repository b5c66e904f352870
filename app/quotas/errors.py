"""Why a request is refused before it costs anything."""

import math
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from app.core.errors import FieldError, InvalidRequestError, ProblemError, UnauthenticatedError
from app.core.timestamps import rfc3339
from app.quotas.account import Excess
from app.quotas.numbers import shown_number, shown_usd
from app.quotas.policy import WINDOWED, AllowanceName, LimitName, Measure


class QuotaExceededError(ProblemError):
    code = "quota_exceeded"
    title = "A limit is used up"
    status = 429

    def __init__(self, excess: Excess, *, subject: str, at: datetime) -> None:
        standing = excess.standing
        self.retry_after_s = _retry_after_s(excess, at=at)
        shown: dict[str, Any] = {
            name: shown_amount(standing.name, amount)
            for name, amount in (
                ("limit_value", standing.limit),
                ("used", standing.used),
                ("held", standing.held),
                ("requested", excess.requested),
                ("remaining", standing.remaining),
            )
        }
        super().__init__(
            f"The limit {standing.name.value} of your {subject} is {shown['limit_value']}:"
            f" {shown['used']} used, {shown['held']} held, {shown['requested']} requested."
            f" Nothing was consumed; {_way_out(standing.name)}.",
            headers={"Retry-After": str(self.retry_after_s)},
            limit=standing.name.value,
            resets_at=None if standing.resets_at is None else rfc3339(standing.resets_at),
            **shown,
        )


class TokenRevokedError(UnauthenticatedError):
    def __init__(self) -> None:
        super().__init__(
            "This client token was revoked while its job was being accepted; no job was made."
        )


class PriceUnknownError(InvalidRequestError):
    code = "price_unknown"
    title = "The price is not known"

    def __init__(self, model: str) -> None:
        detail = (
            f"No price is known for {model} with this input, and a spend limit applies to you;"
            " ask an operator to set one."
        )
        super().__init__(
            detail, errors=[FieldError(pointer="/model", code=self.code, detail=detail)]
        )


class DurationUnknownError(InvalidRequestError):
    code = "duration_unknown"
    title = "The length of the output is not known"

    def __init__(self) -> None:
        detail = (
            "The input does not say how long the output will be, and a limit on output seconds"
            " applies to you; send a duration."
        )
        super().__init__(
            detail, errors=[FieldError(pointer="/input", code=self.code, detail=detail)]
        )


class TooManySumsError(InvalidRequestError):
    def __init__(self, most: int) -> None:
        super().__init__(
            f"More than {most:,} sums lead to this answer; ask for a shorter span or for fewer"
            " groupings."
        )


def longest(refusals: Iterable[QuotaExceededError]) -> QuotaExceededError | None:
    """Return the refusal that lasts longest: until it ends, retrying is useless."""
    return max(refusals, key=lambda refusal: refusal.retry_after_s, default=None)


def shown_amount(name: LimitName | AllowanceName, amount: Decimal) -> str | int | float:
    """Write money as a decimal string and everything else as a number."""
    return shown_usd(amount) if is_money(name) else shown_number(amount)


def is_money(name: LimitName | AllowanceName) -> bool:
    if isinstance(name, AllowanceName):
        return name is AllowanceName.MAX_COST_USD
    return name in WINDOWED and WINDOWED[name][0] is Measure.MICRO_USD


def _way_out(name: LimitName | AllowanceName) -> str:
    if isinstance(name, AllowanceName):
        return "ask for another token"
    return "try again after the seconds in Retry-After, or ask an operator for more"


def _retry_after_s(excess: Excess, *, at: datetime) -> int:
    """Return in how many seconds a retry can succeed at the earliest, or a guess."""
    standing = excess.standing
    if standing.name is LimitName.SUBMITS_PER_MINUTE:
        return math.ceil(60 / standing.limit) if standing.limit else 60
    if standing.resets_at is None:
        return 5
    return max(1, math.ceil((standing.resets_at - at).total_seconds()))
