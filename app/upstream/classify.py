"""What an answer means for the call it answers: decisions that can cost money, without I/O."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from app.upstream.errors import OutcomeUnknownError, RefusedError, TryLaterError, UpstreamError
from app.upstream.messages import clean, said
from app.upstream.wire import parse_error_code, parse_request_id

_LONGEST_WAIT = timedelta(hours=1)
_UNDECIDED = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
# RunComfy's CDN answers 504 for jobs that run on: for a call that is repeated, that is no outage.
_NO_OUTAGE = _UNDECIDED | {HTTPStatus.GATEWAY_TIMEOUT}
_CODE = re.compile(r"([45]\d\d)(?:\d{3})?")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; `body` is None if it is not JSON, or too long to be read."""

    status: int
    body: Any
    retry_after: timedelta | None

    @property
    def error_code(self) -> str | None:
        return parse_error_code(self.body)

    @property
    def meaning(self) -> int:
        """The status, or for a 2xx with an error code the one it begins with (429 for 429001)."""
        code = self.error_code
        if not _is_success(self.status) or code is None:
            return self.status
        known = _CODE.fullmatch(code)
        return int(known[1]) if known else HTTPStatus.BAD_REQUEST


def accepted_request_id(
    answer: Answer, *, retry_statuses: frozenset[int], hidden: Iterable[str]
) -> str:
    """Return the id of the accepted submit, or raise whatever else the answer means.

    An id outweighs an error code, a 429 and even a 5xx: following a job that does not exist ends
    after some polls, but one that exists and is not followed was paid for in vain. Only beside a
    plain refusal is an id taken to be that of the HTTP request.
    """
    request_id = parse_request_id(answer.body)
    if request_id and (answer.status in retry_statuses or not _is_refusal(answer.status)):
        return request_id
    if answer.meaning in retry_statuses:
        raise _error(TryLaterError, answer, hidden)
    if _is_refusal(answer.meaning):
        raise _error(RefusedError, answer, hidden)
    raise _error(OutcomeUnknownError, answer, hidden)


def readable_body(answer: Answer, *, hidden: Iterable[str]) -> dict[str, Any]:
    """Return the body of an answer to a call that may be repeated, or raise what else it means."""
    if isinstance(answer.body, dict):
        if _is_success(answer.meaning):
            return answer.body
        if _is_refusal(answer.meaning):
            raise _error(RefusedError, answer, hidden)
    raise _error(TryLaterError, answer, hidden)


def retry_after(header: str | None, *, date: str | None) -> timedelta | None:
    """Read seconds, or an HTTP date relative to the answer's own `Date`; 0 to 1 hour."""
    wait = _wait(header or "", date=date or "")
    return None if wait is None else min(max(wait, timedelta()), _LONGEST_WAIT)


def _wait(header: str, *, date: str) -> timedelta | None:
    if re.fullmatch(r"[0-9]{1,9}", header):
        return timedelta(seconds=int(header))
    try:
        return parsedate_to_datetime(header) - parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return None


def _is_success(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def _is_refusal(status: int) -> bool:
    client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return client_error and status not in _UNDECIDED


def _error(
    kind: Callable[..., UpstreamError], answer: Answer, hidden: Iterable[str]
) -> UpstreamError:
    secrets = tuple(hidden)
    code = answer.error_code
    harmless = _UNDECIDED if kind is OutcomeUnknownError else _NO_OUTAGE
    number = f" with the code {code}" if code and _CODE.fullmatch(code) else ""
    return kind(
        f"RunComfy answered {answer.status}{number}.",
        said=clean(said(answer.body), hidden=secrets),
        status=answer.status,
        error_code=code and clean(code, hidden=secrets),
        retry_after=answer.retry_after,
        outage=kind is not RefusedError and answer.meaning not in harmless,
        is_busy=answer.meaning == HTTPStatus.TOO_MANY_REQUESTS,
    )
