"""One POST to a receiver, and its outcome in a word: nothing that a receiver does raises here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from app.core.clock import Clock
from app.net.errors import AddressRefusedError, NoSuchHostError, TooSlowError, UnreachableError
from app.net.guard import read_at_most

_MOST_BODY = 1024  # bytes; a character cut off at the end is dropped
_WITH_RETRY_AFTER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_CONTENT_TYPE = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`error` is a word for what went wrong; None for a 2xx."""

    milliseconds: int
    status_code: int | None = None
    body: str | None = None
    error: str | None = None
    retry_after: timedelta | None = None


class WebhookSender:
    """`client` is a guarded one, with a deadline.

    A redirect is a failure: the receiver is the URL that was named, and no other.
    """

    def __init__(self, *, client: httpx.AsyncClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def post(self, url: str, *, body: str, headers: Mapping[str, str]) -> Answer:
        """Send one message; success is a 2xx whose headers arrive in time."""
        began = self._clock.monotonic()
        status, text, error, retry_after = None, None, None, None
        try:
            async with self._client.stream(
                "POST",
                url,
                content=body.encode(),
                headers={"Content-Type": _CONTENT_TYPE, **headers},
            ) as response:
                status = response.status_code
                error = _flaw(response)
                retry_after = self._retry_after(response)
                text = _shown(await read_at_most(response, _MOST_BODY))
        except (AddressRefusedError, NoSuchHostError):
            # One word for both: the difference would reveal which private names exist.
            error = "not_public"
        except (TooSlowError, UnreachableError) as exc:
            if status is None:  # otherwise only the body was cut off, and the status counts
                error = "timeout" if isinstance(exc, TooSlowError) else "unreachable"
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):  # from a redirect to no URL
            error = "unreachable"
        return Answer(
            milliseconds=round((self._clock.monotonic() - began) * 1000),
            status_code=status,
            body=text,
            error=error,
            retry_after=retry_after,
        )

    def _retry_after(self, response: httpx.Response) -> timedelta | None:
        value = response.headers.get("Retry-After")
        if value is None or response.status_code not in _WITH_RETRY_AFTER:
            return None
        if value.isdecimal():
            return timedelta(seconds=int(value[:9]))
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        return _aware(at) - self._clock.now()


def _shown(content: bytes) -> str:
    return content.decode("utf-8", "replace").replace("\0", "\ufffd")


def _flaw(response: httpx.Response) -> str | None:
    if response.is_success:
        return None
    return "redirect" if response.is_redirect else "status"


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
