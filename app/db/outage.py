"""A database that is away, logged once when it goes and once when it is back, not at every try."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from app.core.errors import DatabaseUnavailableError

logger = structlog.get_logger(__name__)


class Outages:
    """What one loop knows; `who` names it in the log."""

    def __init__(self, who: str) -> None:
        self._who = who
        self.is_away = False

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Pass DatabaseUnavailableError on, and log it if it is new."""
        try:
            yield
        except DatabaseUnavailableError as exc:
            if not self.is_away:
                self.is_away = True
                logger.warning("database.away", who=self._who, reason=exc.reason)
            raise
        if self.is_away:
            self.is_away = False
            logger.info("database.back", who=self._who)
