"""Copies the outputs of completed jobs to storage before RunComfy deletes them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import structlog

from app.core.clock import Clock
from app.core.doorbell import Doorbell
from app.core.errors import DatabaseUnavailableError
from app.core.media_types import sniff
from app.core.metrics import Metrics
from app.jobs.models import output_urls
from app.storage import mp4
from app.storage.copies import Copy, CopyLease, CopyQueue
from app.storage.errors import ObjectGoneError, StorageUnavailableError
from app.storage.store import Storage
from app.upstream.errors import RefusedError, TryLaterError
from app.upstream.outputs import GONE, OutputClient, body_of, encoding_of, known_type
from app.worker.loop import LoopConfig, WorkLoop

logger = structlog.get_logger(__name__)

_OK = 200
_FILMS = frozenset({"video/mp4", "video/quicktime", "audio/mp4"})


class ArchiverConfig(LoopConfig):
    """An output is given up once its host has denied having it `denials` times, or after days.

    So many denials take about ten minutes: a file just made may not be there yet.
    """

    slots: int = 4
    idle: timedelta = timedelta(seconds=2)
    grace: timedelta = timedelta(seconds=3)
    lease: timedelta = timedelta(seconds=30)
    first_wait: timedelta = timedelta(seconds=5)
    longest_wait: timedelta = timedelta(minutes=10)
    denials: int = 8
    patience: timedelta = timedelta(days=7)
    longest_copy: timedelta = timedelta(hours=1)


class _GoneError(Exception):
    """The output's host says that it does not have it."""


class Archiver:
    """No copy is visible before it is complete: its row says `archived` once it is stored."""

    def __init__(
        self,
        *,
        copies: CopyQueue,
        storage: Storage,
        outputs: OutputClient,
        config: ArchiverConfig,
        metrics: Metrics,
        clock: Clock,
        doorbell: Doorbell,
    ) -> None:
        self._copies = copies
        self._storage = storage
        self._outputs = outputs
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self.loop = WorkLoop(
            "archiver",
            claim=self._copies.claim,
            handle=self.copy,
            config=config,
            doorbell=doorbell,
            clock=clock,
        )

    async def copy(self, lease: CopyLease) -> None:
        """Make the copy while renewing the lease; stop at once if the lease is lost."""
        try:
            async with asyncio.TaskGroup() as group:
                copying = group.create_task(self._attempt(lease))
                keeping = group.create_task(self._keep(lease, copying))
                await asyncio.wait({copying})
                keeping.cancel()
        except* DatabaseUnavailableError:
            # The copy is made again once the lease has run out.
            logger.warning("output.waits_for_database", job_id=lease.job_id, n=lease.n)

    async def _attempt(self, lease: CopyLease) -> None:
        try:
            async with asyncio.timeout(self._config.longest_copy.total_seconds()):
                copy = await self._make(lease)
        except _GoneError as exc:
            await self._retry_or_give_up(lease, str(exc), denied=True)
        except (RefusedError, TryLaterError) as exc:
            await self._retry_or_give_up(lease, str(exc))
        except (StorageUnavailableError, ObjectGoneError):
            await self._retry_or_give_up(lease, "The storage does not answer.")
        except TimeoutError:
            await self._retry_or_give_up(lease, "The copy took too long.")
        else:
            if await self._copies.finish(lease, copy):
                self._metrics.copies.labels("archived").inc()
                logger.info("output.archived", job_id=lease.job_id, n=lease.n, size=copy.size)
            # Otherwise another archiver has the lease, or the job was deleted with its objects, and
            # the pruner deletes what was written too late.

    async def _make(self, lease: CopyLease) -> Copy:
        url = output_urls(lease.output)[lease.n]
        async with self._outputs.open(url, headers={}) as remote:
            if remote.status_code in GONE:
                raise _GoneError(f"The output's host answered {remote.status_code}.")
            if remote.status_code != _OK:
                raise TryLaterError(f"The output's host answered {remote.status_code}.")
            if encoding_of(remote):
                raise TryLaterError("The output's host sent it compressed, by a Content-Encoding.")
            declared = known_type(remote, url=url)
            stored = await self._storage.put(lease.key, _not_empty(body_of(remote)))
        media_type = sniff(stored.head) or declared
        film = mp4.Film()
        if media_type in _FILMS:
            film = await mp4.look(self._reader(lease.key), size=stored.size)
        return Copy(
            size=stored.size,
            sha256=stored.sha256,
            media_type=media_type,
            duration=film.duration,
            codec=film.codec,
        )

    def _reader(self, key: str) -> mp4.Reader:
        async def read(start: int, stop: int) -> bytes:
            if start >= stop:
                return b""
            return await self._storage.read_piece(key, start=start, stop=stop)

        return read

    async def _keep(self, lease: CopyLease, copying: asyncio.Task[None]) -> None:
        while True:
            await self._clock.sleep(self._config.lease / 3)
            try:
                is_kept = await self._copies.renew(lease)
            except DatabaseUnavailableError:
                continue  # if the lease is taken over, the next try or the end will notice
            if not is_kept:
                self._metrics.lease_losses.labels("output").inc()
                logger.warning("output.lease_lost", job_id=lease.job_id, n=lease.n)
                copying.cancel()
                return

    async def _retry_or_give_up(
        self, lease: CopyLease, reason: str, *, denied: bool = False
    ) -> None:
        """Give up once the host has denied it too often, or it has been tried for too long."""
        is_gone = denied and lease.denials + 1 >= self._config.denials
        if is_gone or self._clock.now() - lease.created_at > self._config.patience:
            if await self._copies.give_up(lease, reason=reason):
                self._metrics.copies.labels("lost").inc()
                logger.error("output.lost", job_id=lease.job_id, n=lease.n)
            return
        doubled = self._config.first_wait * 2 ** min(lease.attempts - 1, 20)
        wait = min(doubled, self._config.longest_wait)
        if await self._copies.postpone(lease, reason=reason, wait=wait, denied=denied):
            self._metrics.copies.labels("postponed").inc()
            logger.info("output.postponed", job_id=lease.job_id, n=lease.n, reason=reason)


async def _not_empty(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    is_empty = True
    async for chunk in body:
        is_empty = is_empty and not chunk
        yield chunk
    if is_empty:
        raise TryLaterError("The output is empty.")
