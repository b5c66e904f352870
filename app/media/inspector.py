"""Looks at every file that an input names, and says which of the field's rules it breaks."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.catalogue.media import URL_WAY_OUT, MediaCheck
from app.core.clock import Clock
from app.core.errors import FieldError
from app.media.errors import MediaBusyError
from app.media.facts import Facts, Wanted, flaws
from app.media.probe import MediaFile, Source
from app.media.slots import Slots
from app.media.sources import DataUri, UploadedFile
from app.net.errors import (
    AddressRefusedError,
    DeniedError,
    NoSuchHostError,
    OutwardError,
    RedirectedTooOftenError,
    TooSlowError,
    UnreachableError,
)
from app.net.reach import NOT_PUBLIC
from app.net.remote_file import RemoteFiles
from app.net.urls import is_data_uri
from app.storage.errors import ObjectGoneError
from app.storage.files import FileService

InspectMode = Literal["require", "best_effort", "off"]


class InspectorConfig(BaseModel):
    """`deadline` is for looking at one file, redirects included; `patience` is for a slot."""

    model_config = ConfigDict(frozen=True)

    mode: InspectMode = "require"
    deadline: timedelta = timedelta(seconds=5)
    patience: timedelta = timedelta(seconds=10)
    at_once: int = 256
    at_once_each: int = 32
    longest_line: int = 1000
    fresh: timedelta = timedelta(minutes=2)
    most_kept: int = 10_000
    most_counted: int = 4 * 2**20


@dataclass(slots=True)
class _Seen:
    facts: Facts
    at: float


class MediaInspector:
    """Remembers for minutes what a URL led to, except faults, so that a corrected file passes."""

    def __init__(
        self, *, remote: RemoteFiles, files: FileService, config: InspectorConfig, clock: Clock
    ) -> None:
        self._remote = remote
        self._config = config
        self._lenient = config.mode == "best_effort"
        self._clock = clock
        self._files = files
        self._slots = Slots(
            overall=config.at_once, each=config.at_once_each, patience=config.patience
        )
        self._seen: OrderedDict[tuple[bytes, Wanted], _Seen] = OrderedDict()

    async def inspect(self, checks: Sequence[MediaCheck], *, user_id: str) -> list[FieldError]:
        """Name what is wrong with these files, in their order.

        Raises MediaBusyError when too much is asked at once.
        """
        if self._config.mode == "off":
            return []
        looks = [asyncio.ensure_future(self._judge(check, user_id=user_id)) for check in checks]
        try:
            found = await asyncio.gather(*looks)
        finally:
            for look in looks:  # if one got no slot, the others give up theirs
                look.cancel()
        return [error for errors in found for error in errors]

    def needs_fetch(self, checks: Sequence[MediaCheck]) -> bool:
        """Return whether somebody else's server would be asked about one of these."""
        return self._config.mode != "off" and any(
            _is_remote(check) and not self._known(check, Wanted.by(check)) for check in checks
        )

    async def _judge(self, check: MediaCheck, *, user_id: str) -> list[FieldError]:
        try:
            facts = await self._facts(check, user_id=user_id)
        except (MediaBusyError, TooSlowError, UnreachableError) as exc:
            if self._lenient:
                return []
            if isinstance(exc, MediaBusyError):
                raise
            return [_unreachable(check, exc)]
        except OutwardError as exc:
            return [_refused(check, exc)]
        except ObjectGoneError:
            flaw = "is gone from the gateway's storage; send it again"
            return [check.fault("unknown_file", flaw)]
        return flaws(check, facts, lenient=self._lenient) if facts else []

    async def _facts(self, check: MediaCheck, *, user_id: str) -> Facts | None:
        """Find out about a file; None if that is left to others."""
        wanted = Wanted.by(check)
        if is_data_uri(check.value):
            return await _facts_of(DataUri(check.value), wanted)
        if not _is_remote(check):
            found = await self._files.find_many([check.value], user_id=user_id)
            if check.value not in found:
                return None  # reported when the job's files are looked up
            return await _facts_of(UploadedFile(self._files, found[check.value]), wanted)
        if known := self._known(check, wanted):
            return known
        if self._slots.claimed(user_id) >= self._config.longest_line:
            raise MediaBusyError
        async with self._slots.slot(user_id):
            # A burst of jobs often names one file: those that waited need not ask for it again.
            if known := self._known(check, wanted):
                return known
            facts = await self._look(check.value, wanted)
        self._remember((_digest(check), wanted), _Seen(facts, self._clock.monotonic()))
        return facts

    def _known(self, check: MediaCheck, wanted: Wanted) -> Facts | None:
        """Return what was found lately, if nothing is wrong with it."""
        seen = self._seen.get((_digest(check), wanted))
        if seen is None or self._clock.monotonic() - seen.at >= self._config.fresh.total_seconds():
            return None
        return None if flaws(check, seen.facts, lenient=self._lenient) else seen.facts

    async def _look(self, url: str, wanted: Wanted) -> Facts:
        deadline = asyncio.timeout(self._config.deadline.total_seconds())
        try:
            async with deadline, self._remote.open(url) as file:
                facts = await _facts_of(file, wanted)
                if facts.size == "unknown" and facts.format:
                    counted = await file.measure(most=self._config.most_counted)
                    facts = replace(facts, size=counted or facts.size)
                return facts
        except TimeoutError as exc:
            raise TooSlowError from exc

    def _remember(self, key: tuple[bytes, Wanted], seen: _Seen) -> None:
        self._seen[key] = seen
        self._seen.move_to_end(key)
        oldest = self._clock.monotonic() - self._config.fresh.total_seconds()
        while (
            len(self._seen) > self._config.most_kept or next(iter(self._seen.values())).at < oldest
        ):
            self._seen.popitem(last=False)


def _is_remote(check: MediaCheck) -> bool:
    return check.value[:4].lower() == "http"


def _digest(check: MediaCheck) -> bytes:
    return hashlib.sha256(check.value.encode()).digest()


async def _facts_of(source: Source, wanted: Wanted) -> Facts:
    file = MediaFile(source)
    found = await file.format()
    if await file.is_empty():
        return Facts(format=None, is_empty=True)
    measurable = wanted.dimensions and found is not None and "image" in found.kinds
    dimensions = await file.dimensions() if measurable else None
    size: int | Literal["unknown"] = "unknown" if source.size is None else source.size
    return Facts(format=found, dimensions=dimensions, size=size if wanted.size else None)


def _unreachable(check: MediaCheck, exc: OutwardError) -> FieldError:
    what = (
        "did not give it in time"
        if isinstance(exc, TooSlowError)
        else "cannot be reached, or answers with an error of its own"
    )
    return check.fault(
        "media_unreachable", f"is on a server that {what}, and RunComfy could not fetch it"
    )


def _refused(check: MediaCheck, exc: OutwardError) -> FieldError:
    match exc:
        case AddressRefusedError() | NoSuchHostError():
            # The same as for addresses refused by their text: nobody learns which names exist here.
            return check.fault("media_url", f"{NOT_PUBLIC}; {URL_WAY_OUT}")
        case DeniedError(status=status):
            return check.fault(
                "media_denied",
                f"is on a server that answers {status}; RunComfy fetches files without signing in",
            )
        case RedirectedTooOftenError():
            return check.fault(
                "media_redirects", "redirects more than 3 times; give its final address"
            )
        case _:
            return _unreachable(check, exc)
