"""Plans, users and keys as operators see them, and the changes that they ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from app.auth.credentials import KeyCredential
from app.auth.scopes import DEFAULT_SCOPES
from app.core.timestamps import rfc3339
from app.quotas.limits import shown_limits
from app.quotas.policy import Limits

LONGEST_OVERLAP_S = 30 * 86_400
"""How long after a rotation the previous secret may stay valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`models`: None for all. At most one plan is the default."""

    name: str
    timezone: str = "UTC"
    default: bool = False
    models: tuple[str, ...] | None = None
    limits: Limits = field(default_factory=dict)
    created_at: datetime

    @property
    def target(self) -> str:
        """What the audit log calls it."""
        return f"plan:{self.name}"

    def recorded(self) -> dict[str, Any]:
        """Return what the audit log keeps of it."""
        return {
            "name": self.name,
            "timezone": self.timezone,
            "default": self.default,
            "models": self.models,
            "limits": shown_limits(self.limits),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """`plan`: None for the default one; `limits` replace the plan's, name by name."""

    id: str
    name: str | None = None
    plan: str | None = None
    limits: Limits = field(default_factory=dict)
    disabled: bool = False
    created_at: datetime

    @property
    def target(self) -> str:
        return f"user:{self.id}"

    def recorded(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "plan": self.plan,
            "limits": shown_limits(self.limits),
            "disabled": self.disabled,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Holds no secret. `plan` is that of the users whom the key creates by acting for them."""

    id: str
    user: str
    user_disabled: bool = False
    name: str = ""
    scopes: tuple[str, ...] = tuple(scope.value for scope in DEFAULT_SCOPES)
    models: tuple[str, ...] | None = None
    limits: Limits = field(default_factory=dict)
    plan: str | None = None
    created_at: datetime
    expires_at: datetime | None = None
    previous_expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    @property
    def target(self) -> str:
        return f"key:{self.id}"

    def recorded(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "user": self.user,
            "name": self.name,
            "scopes": self.scopes,
            "models": self.models,
            "limits": shown_limits(self.limits),
            "plan": self.plan,
            "expires_at": _recorded_time(self.expires_at),
            "previous_expires_at": _recorded_time(self.previous_expires_at),
            "revoked_at": _recorded_time(self.revoked_at),
        }


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A key with its secret, which is shown only now."""

    key: Key
    credential: KeyCredential


class PlanChanges(TypedDict, total=False):
    """Absent fields stay as they are. In `limits`, null removes the limit of that name."""

    timezone: str
    default: bool
    models: Sequence[str] | None
    limits: Mapping[str, Any]


class UserChanges(TypedDict, total=False):
    name: str | None
    plan: str | None
    limits: Mapping[str, Any]
    disabled: bool


class KeyChanges(TypedDict, total=False):
    name: str
    scopes: Sequence[str]
    models: Sequence[str] | None
    limits: Mapping[str, Any]
    plan: str | None
    expires_at: datetime | None


def _recorded_time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
