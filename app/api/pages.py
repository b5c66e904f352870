"""/ and /console: pages that use the public API alone, and what they load."""

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from app import web

# Nothing but our own files runs, and no string becomes script or markup. Pictures may come from
# anywhere: they are what users are about to send.
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
_HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_COMPRESSED_FROM = 1024

router = APIRouter(include_in_schema=False)


@router.head("/")
@router.get("/")
async def playground() -> FileResponse:
    return _page("playground")


@router.head("/console")
@router.get("/console")
async def console() -> FileResponse:
    return _page("console")


def mount(app: FastAPI) -> None:
    """Serve scripts and styles; a browser asks anew each time and is told that nothing changed."""
    files = GZipMiddleware(StaticFiles(directory=web.FOLDER), minimum_size=_COMPRESSED_FROM)
    app.mount("/assets", files, name="assets")


def _page(name: str) -> FileResponse:
    return FileResponse(web.FOLDER / name / "index.html", headers=_HEADERS)
