"""Files in jobs' inputs: checked and stored at accept, replaced for RunComfy at dispatch.

The database and clients only ever see `file_...`; the link or data URI that RunComfy gets is made
for the one request that carries it, and kept nowhere.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from anyio import to_thread

from app.catalogue.checker import Checked
from app.catalogue.media import MediaCheck
from app.core.clock import Clock
from app.core.errors import FieldError
from app.core.ids import is_id
from app.core.media_types import kind_of
from app.core.pointers import pointer_steps
from app.net.urls import is_data_uri
from app.storage.errors import LostFileError, ObjectGoneError, UnknownFileError
from app.storage.files import PREFIX, File, FileService
from app.storage.job_files import FileUse
from app.storage.links import FileLinks
from app.storage.uploads import Uploads

_INLINE_CHARACTERS = 1024
_LARGEST_BODY = 64 * 2**20
_LARGE_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Kept:
    """An input as it is stored, the files it names, and those made from its data URIs."""

    input: dict[str, Any]
    uses: Sequence[FileUse]
    made: Sequence[str]


class JobInputs:
    """`links` is None if RunComfy cannot reach this gateway: files then go as data URIs."""

    def __init__(
        self,
        *,
        files: FileService,
        uploads: Uploads,
        links: FileLinks | None,
        link_life: timedelta,
        clock: Clock,
    ) -> None:
        self._files = files
        self._uploads = uploads
        self._links = links
        self._link_life = link_life
        self._clock = clock
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def flaws(self, checked: Checked, *, user_id: str) -> Sequence[FieldError]:
        """Say which of the files named in the input cannot be used, and why."""
        named = [check for check in checked.media if _is_file(check.value)]
        if not named:
            return []
        found = await self._files.find_many([check.value for check in named], user_id=user_id)
        errors = [error for check in named if (error := _fault(check, found.get(check.value)))]
        return errors or self._too_large(checked, named, found)

    async def keep(self, checked: Checked, *, user_id: str, job_id: str) -> Kept:
        """Store data URIs above 1 KB as files, and list every file that the input then names.

        If this raises, nothing is left stored.
        """
        uses, made = [], []
        kept = dict(checked.input)
        try:
            for check in checked.media:
                value = check.value
                if len(value) > _INLINE_CHARACTERS and is_data_uri(value):
                    declared, data = await to_thread.run_sync(_decoded, value)
                    file = await self._uploads.keep(
                        data, declared=declared, user_id=user_id, made_for=job_id
                    )
                    made.append(file.id)
                    value = file.id
                    kept = _with(kept, check.pointer, value)
                if _is_file(value):
                    uses.append(FileUse(check.pointer, value))
        except BaseException:
            await self._uploads.drop(made)
            raise
        return Kept(kept, uses, made)

    async def drop(self, kept: Kept) -> None:
        """Delete what was stored for a job that was not accepted."""
        if kept.made:
            await self._uploads.drop(kept.made)

    @asynccontextmanager
    async def resolved(self, job_id: str, given: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Replace each file with something RunComfy understands, for one request.

        Raises StorageUnavailableError, or LostFileError if a file is gone for good. Only a few
        inputs with inlined files are in memory at a time: each may take a hundred megabytes.
        """
        if not any(_is_file(text) for value in given.values() for text in _texts(value)):
            yield given
        elif self._links is not None:
            yield await self._replaced(job_id, given)
        else:
            async with self._large:
                yield await self._replaced(job_id, given)

    async def _replaced(self, job_id: str, given: dict[str, Any]) -> dict[str, Any]:
        for pointer, file in (await self._files.of_job(job_id)).items():
            given = _with(given, pointer, await self._link_or_data(file))
        return given

    async def _link_or_data(self, file: File) -> str:
        try:
            await self._files.require_content(file)
            if self._links is not None:
                return self._links.until(file.id, self._clock.now() + self._link_life)
            data = await self._files.read_whole(file)
        except (UnknownFileError, ObjectGoneError) as exc:
            raise LostFileError(file.id) from exc
        return await to_thread.run_sync(_encoded, file.media_type, data)

    def _too_large(
        self, checked: Checked, named: Sequence[MediaCheck], found: Mapping[str, File]
    ) -> Sequence[FieldError]:
        if self._links is not None:
            return []
        length = len(json.dumps(checked.input)) + sum(
            _encoded_length(found[check.value]) for check in named
        )
        if length <= _LARGEST_BODY:
            return []
        largest = max(named, key=lambda check: found[check.value].size)
        flaw = (
            "is too large: this gateway has no address that RunComfy can reach, so files travel"
            f" inside the request, which may have {_LARGEST_BODY} bytes; give a public https:// URL"
            " or a smaller file"
        )
        return [largest.fault("media_too_large", flaw)]


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and is_id(value, prefix=PREFIX)


def _fault(check: MediaCheck, file: File | None) -> FieldError | None:
    if file is None:
        flaw = "names no file of yours, or one that has expired; upload it with POST /v1/files"
        return check.fault("unknown_file", flaw)
    if check.kind not in ("media", kind_of(file.media_type)):
        flaw = f"names a file of the type {file.media_type}, not {check.kind}/*"
        return check.fault("media_type", flaw)
    return None


def _with(given: dict[str, Any], pointer: str, value: str) -> dict[str, Any]:
    """Copy an input with one string replaced: a field, or one element of a field."""
    _input, name, *rest = pointer_steps(pointer)
    if not rest:
        return {**given, name: value}
    elements = list(given[name])
    elements[int(rest[0])] = value
    return {**given, name: elements}


def _texts(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value]


def _decoded(uri: str) -> tuple[str, bytes]:
    """Return the declared type and the bytes of a data URI that passed the catalogue's check."""
    head, _, data = uri.partition(",")
    declared = head.partition(":")[2].partition(";")[0]
    return declared.lower(), base64.b64decode(data)


def _encoded(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _encoded_length(file: File) -> int:
    return len(f"data:{file.media_type};base64,") + (file.size + 2) // 3 * 4
