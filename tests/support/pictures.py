"""Pictures of any size in a few bytes, and a host on loopback that serves them and counts."""

import base64
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from tests.support.wire_server import Line, WireServer, answer, wire_server


def png(width: int, height: int, *, size: int = 0) -> bytes:
    """Write a PNG's head, which is all that anybody reads, padded to `size` bytes."""
    header = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + b"IHDR" + header + b"\0\0\0\0"
    return head.ljust(size, b"\0")


def jpeg(width: int, height: int, *, before: int = 0) -> bytes:
    """Write a JPEG whose size comes after so many bytes of camera data."""
    segments = b""
    while len(segments) < before:
        segments += b"\xff\xe1" + struct.pack(">H", 65535) + bytes(65533)
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + segments + frame + b"\xff\xda\0\x08" + bytes(2000)


def tiff(width: int, height: int, *, before: int = 0) -> bytes:
    """Write a TIFF that has its size after its pixels, as most do."""
    entries = struct.pack("<HHIHxx", 256, 3, 1, width) + struct.pack("<HHIHxx", 257, 3, 1, height)
    return b"II*\0" + struct.pack("<I", 8 + before) + bytes(before) + b"\2\0" + entries + bytes(4)


def avif(width: int, height: int, *, listed: int = 0, apart: int = 0, times: int = 1) -> bytes:
    """Write an AVIF that lists so many items, and has its size so many times, so far apart."""
    items = struct.pack(">II", 0, listed) + b"\0\1\0" * listed
    size = _box(b"free", bytes(apart)) + _box(b"ispe", struct.pack(">III", 0, width, height))
    properties = _box(b"iprp", _box(b"ipma", items) + _box(b"ipco", size * times))
    return _box(b"ftyp", b"avif\0\0\0\0avifmif1") + _box(b"meta", bytes(4) + properties)


def data_uri(content: bytes, *, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@asynccontextmanager
async def hosting(
    files: Mapping[str, bytes | str | int], *, ranges: bool = True, length: bool = True
) -> AsyncIterator[WireServer]:
    """Serve `files` by path: bytes as they are, a text as a redirect, a number as a status."""

    async def serve(line: Line) -> None:
        asked = await line.request()
        found = files.get(asked.target, 404)
        if isinstance(found, int):
            await line.send(answer(found, raw=b"no"))
            return
        if isinstance(found, str):
            await line.send(answer(302, raw=b"", Location=found))
            return
        head = "HTTP/1.1 200 OK\r\n"
        wanted = asked.headers.get("range")
        body = found
        if ranges and wanted:
            start, end = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
            body = found[start : end + 1]
            if not body:
                await line.send(answer(416, raw=b""))
                return
            head = "HTTP/1.1 206 Partial\r\n"
            head += f"Content-Range: bytes {start}-{start + len(body) - 1}/{len(found)}\r\n"
        head += f"Content-Length: {len(body)}\r\n" if length else "Connection: close\r\n"
        await line.send(f"{head}\r\n".encode())
        for start in range(0, len(body), 65536):
            await line.send(body[start : start + 65536])

    async with wire_server(serve) as server:
        yield server


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content
