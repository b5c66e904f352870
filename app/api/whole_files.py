"""Our own files, as pages and clients get them: always whole, whatever range is asked for."""

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send


class WholeFile(FileResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(without_range(scope), receive, send)


def without_range(scope: Scope) -> Scope:
    """Ignore Range, as any server may (RFC 9110, 14.2).

    The framework refuses a malformed one in plain text, and everything else here is a problem.
    """
    kept = [header for header in scope["headers"] if header[0] != b"range"]
    return {**scope, "headers": kept}
