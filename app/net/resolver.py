"""Looks up a name's addresses, once, without ever blocking the event loop."""

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from typing import Protocol

from app.net.addresses import IPAddress
from app.net.errors import NoSuchHostError, TooSlowError, UnreachableError

_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class Resolver(Protocol):
    async def addresses(self, host: str) -> Sequence[IPAddress]:
        """Return at least one, after one look-up; raise NoSuchHostError or another OutwardError."""
        ...


LookUp = Callable[[str], Sequence[str]]


def _ask_system(host: str) -> Sequence[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class SystemResolver:
    """Asks the system, each time in a thread of its own.

    A look-up cannot be cancelled: one that outlasts `patience` keeps its slot until it ends, which
    may take half a minute. So there are far more slots than one caller can fill in that time. The
    threads are daemons, so that none of them holds up the end of the process.
    """

    def __init__(
        self,
        *,
        threads: int = 256,
        patience: timedelta = timedelta(seconds=5),
        look_up: LookUp = _ask_system,
    ) -> None:
        self._places = asyncio.Semaphore(threads)
        self._patience = patience.total_seconds()
        self._look_up = look_up

    async def addresses(self, host: str) -> Sequence[IPAddress]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[IPAddress]] = loop.create_future()
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
                self._start(host, answer, loop)
                return await answer
        except TimeoutError as exc:
            raise TooSlowError from exc

    def _start(
        self,
        host: str,
        answer: asyncio.Future[Sequence[IPAddress]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        def tell(found: Sequence[IPAddress] | Exception) -> None:
            self._places.release()
            if answer.done():  # nobody is waiting any more
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def work() -> None:
            found = _outcome(self._look_up, host)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(tell, found)

        try:
            threading.Thread(target=work, name="resolver", daemon=True).start()
        except RuntimeError as exc:  # the system has no more threads
            self._places.release()
            raise UnreachableError from exc


def _outcome(look_up: LookUp, host: str) -> Sequence[IPAddress] | Exception:
    try:
        texts = dict.fromkeys(text.partition("%")[0] for text in look_up(host))
    except socket.gaierror as exc:
        return NoSuchHostError() if exc.errno in _NO_SUCH_NAME else UnreachableError()
    except (OSError, ValueError):  # ValueError: not a name, such as one with an empty label
        return UnreachableError()
    return [ip_address(text) for text in texts]
