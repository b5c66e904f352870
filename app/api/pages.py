"""/ and /console: pages that use the public API alone, and what they load."""

import gzip
import os
from functools import cache
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from starlette.datastructures import Headers
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from app import web
from app.api.routing import Router
from app.api.whole_files import WholeFile, without_range

# Only our own files run, and no string becomes script or markup. Pictures may come from anywhere:
# they are the inputs users are about to send.
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' https: data: blob:",
    "media-src 'self' https: data: blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
# Cached, but revalidated each time: a new release must not run with scripts of the last one.
_REVALIDATED = {"Cache-Control": "no-cache"}
_HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "Referrer-Policy": "no-referrer",
    **_REVALIDATED,
}
_COMPRESSED_FROM = 1024
_LONGEST_PATH = 255

router = Router(include_in_schema=False)


@router.head("/")
@router.get("/")
async def playground() -> WholeFile:
    return _page("playground")


@router.head("/console")
@router.get("/console")
async def console() -> WholeFile:
    return _page("console")


def mount(app: FastAPI) -> None:
    """Serve scripts and styles."""
    app.mount("/assets", _Assets(directory=web.FOLDER), name="assets")


def _page(name: str) -> WholeFile:
    return WholeFile(web.FOLDER / name / "index.html", headers=_HEADERS)


class _Assets(StaticFiles):
    """Compresses each file once: for the stylesheet that takes as long as twenty requests."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(without_range(scope), receive, send)

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        # The file system is asked about each segment of a path, and there may be tens of thousands.
        return super().lookup_path(path) if len(path) <= _LONGEST_PATH else ("", None)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        plain = super().file_response(full_path, stat_result, scope, status_code)
        plain.headers.update(_REVALIDATED)
        if not isinstance(plain, FileResponse) or stat_result.st_size < _COMPRESSED_FROM:
            return plain
        plain.headers.add_vary_header("Accept-Encoding")
        if "gzip" not in Headers(scope=scope).get("Accept-Encoding", ""):
            return plain
        names = ("Cache-Control", "ETag", "Last-Modified", "Vary")
        kept = {name: plain.headers[name] for name in names}
        return Response(
            _compressed(Path(full_path), stat_result.st_mtime_ns),
            headers=kept | {"Content-Encoding": "gzip"},
            media_type=plain.media_type,
        )


@cache
def _compressed(file: Path, _written_at: int) -> bytes:
    return gzip.compress(file.read_bytes())
