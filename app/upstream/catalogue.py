"""Reads RunComfy's catalogue, page by page: all of it, or an error."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from app.upstream.client import UpstreamClient
from app.upstream.errors import RefusedError, TryLaterError

_PAGE = 100
_TIMEOUT = timedelta(seconds=30)


class CatalogueReader:
    """The catalogue is the same for every account, so any that is not refused will do."""

    def __init__(self, clients: Sequence[UpstreamClient], *, most: int) -> None:
        self._clients = clients
        self._most = most

    async def read(self) -> list[Any]:
        """Return every entry, not parsed; raise TryLaterError or RefusedError if any is missing.

        A part must not pass for the whole: missing models would count as withdrawn.
        """
        *others, last = self._clients
        for client in others:
            try:
                return await self._read(client)
            except RefusedError as exc:
                if not exc.account_problem:
                    raise
        return await self._read(last)

    async def _read(self, client: UpstreamClient) -> list[Any]:
        entries: list[Any] = []
        total = 0
        while True:
            page = await client.models(offset=len(entries), limit=_PAGE, timeout=_TIMEOUT)
            if entries and page.entries[:1] == entries[:1]:
                raise TryLaterError("RunComfy's catalogue began again before its total.")
            if entries and page.total != total:
                # The pages have shifted: an entry may have moved to one that was read already.
                raise TryLaterError("RunComfy's catalogue changed while it was read.")
            if page.total is None and len(page.entries) >= _PAGE:
                raise TryLaterError("RunComfy's catalogue does not say how many models it has.")
            entries += page.entries
            total = len(entries) if page.total is None else page.total
            if max(total, len(entries)) > self._most:
                raise TryLaterError(f"RunComfy's catalogue has more than {self._most} models.")
            if len(entries) >= total:
                break
            if not page.entries:
                raise TryLaterError("RunComfy's catalogue ended before its total.")
        if not entries:
            raise TryLaterError("RunComfy's catalogue is empty.")
        return entries
