"""A client token as a record, and what is asked for when one is made."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from app.auth.credentials import ClientCredential, hash_secret
from app.quotas.policy import Allowance


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientToken:
    """`user_id` is whom it stands for; with a `job_id` it can only read that job."""

    id: str
    secret_hash: str = field(repr=False)
    key_id: str
    key_secret_hash: str = field(repr=False)
    user_id: str
    scopes: frozenset[str]
    models: frozenset[str] | None
    job_id: str | None
    max_jobs: int | None
    max_cost_usd: Decimal | None
    origin: str | None
    created_at: datetime
    expires_at: datetime

    def opens_with(self, secret: str) -> bool:
        return hmac.compare_digest(hash_secret(secret), self.secret_hash)

    @property
    def allowance(self) -> Allowance:
        return Allowance(token_id=self.id, max_jobs=self.max_jobs, max_cost_usd=self.max_cost_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTokenRequest:
    scopes: Sequence[str]
    models: Sequence[str] | None
    job_id: str | None
    max_jobs: int | None
    max_cost_usd: Decimal | None
    origin: str | None
    life: timedelta


@dataclass(frozen=True, slots=True)
class NewClientToken:
    """A token with its secret, which is shown only now."""

    token: ClientToken
    credential: ClientCredential
