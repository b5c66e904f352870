"""What is done to plans, users and keys, as the audit log records it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import log as audit
from app.auth.directory.models import Key, Plan, User

Recorded = Plan | User | Key


async def record(
    tx: AsyncConnection,
    action: str,
    subject: Recorded,
    *,
    before: Recorded | None = None,
    actor: str,
    at: datetime,
) -> None:
    """Record what `subject` has become, and what it was `before`, unless it is new."""
    await audit.append(
        tx,
        at=at,
        actor=actor,
        action=action,
        target=subject.target,
        before=None if before is None else before.recorded(),
        after=subject.recorded(),
    )


async def record_deletion(
    tx: AsyncConnection,
    action: str,
    subject: Recorded,
    *,
    erased: Mapping[str, Any] | None = None,
    actor: str,
    at: datetime,
) -> None:
    """Record what `subject` was, and what was erased with it."""
    await audit.append(
        tx,
        at=at,
        actor=actor,
        action=action,
        target=subject.target,
        before=subject.recorded(),
        after=None if erased is None else {"erased": erased},
    )
