"""What every room may ask about a user."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.owners import owner_of
from app.db.models import UserRow


async def is_enabled(tx: AsyncConnection, user_id: str) -> bool:
    """Tell whether neither a user nor the service that acts for it is disabled."""
    disabled = await tx.execute(
        select(UserRow.id).where(
            UserRow.id.in_({user_id, owner_of(user_id)}), UserRow.disabled.is_(True)
        )
    )
    return not disabled.all()
