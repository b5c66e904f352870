"""One wait for news, from which the hub wakes the waiter."""

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from app.events.tail import Entry


class Ending(Enum):
    """Why a wait ended before there was news."""

    LEFT = auto()  # the client is gone
    TIME = auto()  # it has waited as long as it wanted
    CLOSING = auto()  # this process ends
    ACCESS = auto()  # its credential is no longer valid
    AGE = auto()  # it has been open long enough: streams must get to move to new replicas


class Watch:
    """A wait for news. It holds only whether there is some, not the news itself."""

    __slots__ = (
        "_again",
        "_has_news",
        "_is_quiet",
        "_waiting",
        "ending",
        "knows",
        "opened",
        "sent",
    )

    def __init__(self, *, opened: float) -> None:
        self.knows: Callable[[Entry], bool] = _nothing
        self.opened = self.sent = opened
        self._has_news = False
        self._is_quiet = False  # nothing was sent for a while: a heartbeat is due
        self._again = False
        self.ending: Ending | None = None
        self._waiting: asyncio.Future[None] | None = None

    def tell(self) -> None:
        """Say that there may be news."""
        self._has_news = True
        self._wake()

    def end(self, ending: Ending) -> None:
        self.ending = self.ending or ending
        self._wake()

    def look_again(self) -> None:
        """Ask to be woken again in a second, since the database could not be read this time."""
        self._again = True

    def beat(self, *, quiet_since: float) -> None:
        """Called once a second: repeat a failed look, or note that a heartbeat is due."""
        if self._again:
            self._again = False
            self.tell()
        elif self.sent <= quiet_since:
            self._is_quiet = True
            self._wake()

    def heed(self) -> tuple[bool, bool]:
        """Return and reset whether there may be news, and whether a heartbeat is due."""
        said = self._has_news, self._is_quiet
        self._has_news = self._is_quiet = False
        return said

    async def wait(self) -> None:
        """Return when there is news, the wait has ended, or a heartbeat is due."""
        if self._has_news or self._is_quiet or self.ending:
            return
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _nothing(_: Entry) -> bool:
    return False
