"""Files of our own, as pages and clients get them: each whole, whatever part is asked for."""

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send


class WholeFile(FileResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(without_range(scope), receive, send)


def without_range(scope: Scope) -> Scope:
    """Pass over Range, as any server may (RFC 9110, 14.2).

    The framework refuses one that it cannot read in plain text, and all else here in a problem.
    """
    kept = [header for header in scope["headers"] if header[0] != b"range"]
    return {**scope, "headers": kept}
