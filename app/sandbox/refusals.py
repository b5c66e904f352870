"""How the sandbox refuses: RunComfy's codes, in every shape that its errors are seen in."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from starlette.responses import JSONResponse

from app.sandbox.scenarios import Script

_MESSAGES: Mapping[int, str] = {
    400001: "The request is malformed or names an unknown model",
    400002: "No balance is left",
    400004: "The token is missing, expired or revoked",
    401000: "The token is not accepted",
    402000: "No balance is left",
    403000: "This is not allowed",
    403001: "The request belongs to another account",
    404000: "There is nothing here",
    404001: "The request is unknown, deleted or expired",
    408000: "The request took too long",
    413000: "The body is too large",
    422001: "The input does not match the model's schema",
    429001: "Too many requests",
    500000: "Something went wrong",
    503000: "The service is not available",
}
_RETRIABLE = frozenset({429, 503})


class Refusal(Exception):  # noqa: N818 - an answer, not a mishap
    """An error answer; the first three digits of its code are its HTTP status."""

    def __init__(
        self,
        code: int,
        message: str | None = None,
        *,
        detail: list[dict[str, Any]] | None = None,
        script: Script | None = None,
    ) -> None:
        super().__init__(message or _MESSAGES.get(code, "The request was refused"))
        self.code = code
        self.detail = detail
        self.script = script or Script({})

    @property
    def status(self) -> int:
        return self.code // 1000

    def body(self) -> dict[str, Any]:
        """Shape the error as the script asks."""
        form = self.script.text("error-code", "int")
        body: dict[str, Any] = {}
        if form != "none":
            body["error_code"] = str(self.code) if form == "string" else self.code
        body[self.script.text("error-key", "error_message")] = str(self)
        return body | ({"detail": self.detail} if self.detail else {})

    def answer(self, now: datetime) -> JSONResponse:
        return JSONResponse(self.body(), self.status, headers=self._headers(now))

    def _headers(self, now: datetime) -> dict[str, str]:
        wanted = self.script.text("retry-after", "2" if self.status in _RETRIABLE else "none")
        if self.status not in _RETRIABLE or wanted == "none":
            return {}
        date = format_datetime(now + timedelta(seconds=30), usegmt=True)
        return {"Retry-After": date if wanted == "date" else wanted}
