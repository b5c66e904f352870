"""Files that the gateway already has, as the probe reads them."""

import binascii

from app.storage.files import File, FileService

_STEP = 64 * 1024


class DataUri:
    """A data URI with valid base64; only what is asked for is decoded."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._start = uri.index(",") + 1
        self._padding = uri.endswith("==") + uri.endswith("=")

    @property
    def size(self) -> int:
        return (len(self._uri) - self._start) // 4 * 3 - self._padding

    async def load(self, offset: int) -> bytes:
        skipped = offset % 3
        first = self._start + (offset - skipped) // 3 * 4
        return binascii.a2b_base64(self._uri[first : first + _STEP])[skipped:]


class UploadedFile:
    def __init__(self, files: FileService, file: File) -> None:
        self._files = files
        self._file = file

    @property
    def size(self) -> int:
        return self._file.size

    async def load(self, offset: int) -> bytes:
        """Raise ObjectGoneError if it is lost."""
        stop = min(offset + _STEP, self._file.size)
        pieces = self._files.read(self._file, offset, stop)
        return b"".join([piece async for piece in pieces])
