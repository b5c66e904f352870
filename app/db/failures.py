"""Lets a loop go on after failures; that the database is away is logged once, not every time."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from app.core.errors import DatabaseUnavailableError

logger = structlog.get_logger(__name__)


class Failures:
    """The failures of one loop, which the log calls `who`."""

    def __init__(self, who: str) -> None:
        self._who = who
        self.is_database_away = False

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Log a failure instead of raising it."""
        try:
            yield
        except DatabaseUnavailableError as exc:
            if not self.is_database_away:
                self.is_database_away = True
                logger.warning("database.away", who=self._who, reason=exc.reason)
        except Exception:
            logger.exception("loop.failed", who=self._who)
        else:
            if self.is_database_away:
                self.is_database_away = False
                logger.info("database.back", who=self._who)
