"""Which URLs may be named for webhooks, as far as their text shows; the guard checks the rest."""

from app.core.errors import BROKEN_BODY, FieldError, InvalidRequestError
from app.net.reach import Reach
from app.net.urls import url_flaw

MAX_URL_CHARACTERS = 2048


class WebhookAddresses:
    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def fault(self, url: str, *, field: str) -> FieldError | None:
        """Say what is wrong with the URL, in a sentence that never quotes it."""
        flaw = self._flaw(url)
        detail = f"/{field} {flaw}."
        return FieldError(pointer=f"/{field}", code="webhook_url", detail=detail) if flaw else None

    def check(self, url: str, *, field: str) -> None:
        """Raise InvalidRequestError for a URL with a fault."""
        if fault := self.fault(url, field=field):
            raise InvalidRequestError(BROKEN_BODY, errors=[fault])

    def _flaw(self, url: str) -> str | None:
        if len(url) > MAX_URL_CHARACTERS:
            return f"must be a URL of at most {MAX_URL_CHARACTERS} characters"
        return url_flaw(url, reach=self._reach)
