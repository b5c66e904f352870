"""The secrets that sign webhooks: made here, stored sealed, opened for those who may."""

from datetime import datetime
from typing import Any

import structlog

from app.core.sealing import SealBrokenError, Sealer
from app.webhooks.errors import SecretUnreadableError
from app.webhooks.models import Secret
from app.webhooks.signing import new_secret

logger = structlog.get_logger(__name__)


class Safe:
    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def make(self) -> tuple[str, str]:
        """Return a new secret in clear text, and as it is stored."""
        secret = new_secret()
        return secret, self._sealer.seal(secret)

    def show(self, row: Any) -> Secret:
        """Open a secret for somebody who may read it, or raise SecretUnreadableError."""
        opened = self._opened(row.secret, of=row.user_id)
        if opened is None:
            raise SecretUnreadableError
        return Secret(secret=opened, previous_expires_at=row.previous_expires_at)

    def signers(self, row: Any, *, at: datetime) -> tuple[str, ...]:
        """Return the secret and, for a while after a rotation, the last one; skip unreadable."""
        sealed = [row.secret]
        if row.previous_secret is not None and at < row.previous_expires_at:
            sealed.append(row.previous_secret)
        return tuple(opened for each in sealed if (opened := self._opened(each, of=row.user_id)))

    def _opened(self, sealed: str | None, *, of: str) -> str | None:
        try:
            return None if sealed is None else self._sealer.open(sealed)
        except SealBrokenError:
            logger.error(  # noqa: TRY400 - its trace says nothing
                "webhook.secret_unreadable", user_id=of
            )
            return None
