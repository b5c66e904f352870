"""RunComfy's catalogue, page by page: all of it, or an error."""

from datetime import timedelta
from typing import Any

from app.upstream.client import UpstreamClient
from app.upstream.errors import TryLaterError

_PAGE = 100
_TIMEOUT = timedelta(seconds=30)


class CatalogueReader:
    def __init__(self, client: UpstreamClient, *, most: int) -> None:
        self._client = client
        self._most = most

    async def read(self) -> list[Any]:
        """Give every entry, unread; raises TryLaterError, or RefusedError, or gives all.

        A part must not look like the whole: what is missing would count as withdrawn.
        """
        entries: list[Any] = []
        while True:
            page = await self._client.models(offset=len(entries), limit=_PAGE, timeout=_TIMEOUT)
            entries += page.entries
            if max(page.total, len(entries)) > self._most:
                raise TryLaterError(f"RunComfy's catalogue has more than {self._most} models.")
            if len(entries) >= page.total:
                break
            if not page.entries:
                raise TryLaterError("RunComfy's catalogue ended before its total.")
        if not entries:
            raise TryLaterError("RunComfy's catalogue is empty.")
        return entries
