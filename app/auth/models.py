"""Principals and the ids of users."""

import re
from dataclasses import dataclass, field
from datetime import datetime

from app.auth.errors import InvalidUserIdError
from app.auth.scopes import Scope
from app.core.owners import OIDC
from app.quotas.standings import Caller

_USER_ID = re.compile(r"[A-Za-z0-9._@:-]{1,128}")


@dataclass(frozen=True, slots=True)
class PageOrigin:
    """What a browser says about the page that a request comes from; pages cannot fake it."""

    origin: str | None = None
    is_same_origin: bool = False


@dataclass(frozen=True, slots=True)
class Holder:
    """What a principal's access depends on while it stays connected; see `access.py`.

    `needs` are the scopes that let it stay. `ends_at` is the expiry of a credential that has no
    row here.
    """

    user_id: str
    key_id: str
    needs: frozenset[Scope]
    secret_hash: str | None = field(repr=False)
    token_id: str | None
    ends_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Principal(Caller):
    """Who a request comes from and what it may do; `models` None means all.

    With a `job_id` only that job may be read. `secret_hash` says which secret of a rotated key was
    sent. `ends_at` is the expiry of a token that is not ours.
    """

    scopes: frozenset[str]
    plan: str | None
    models: frozenset[str] | None
    job_id: str | None = None
    secret_hash: str | None = field(default=None, repr=False)
    ends_at: datetime | None = None

    def holder(self, *needs: Scope) -> Holder:
        return Holder(
            self.user_id,
            self.key_id,
            frozenset(needs),
            self.secret_hash,
            self.token_id,
            self.ends_at,
        )


def checked_user_id(user_id: str) -> str:
    """Return the id if it may name a user, or raise InvalidUserIdError."""
    if not _USER_ID.fullmatch(user_id):
        raise InvalidUserIdError("A user id must be 1 to 128 letters, digits and . _ @ : -")
    if user_id == OIDC:
        raise InvalidUserIdError(f"The user id {user_id!r} is reserved; choose another.")
    return user_id
