"""What can go wrong between the gateway and RunComfy, sorted by what may be done next.

UpstreamError
├── NotSentError         a submit that certainly never left: may be repeated
├── TryLaterError        a submit certainly not accepted, or any failed read: may be repeated
├── RefusedError         a plain refusal: final for a submit, repeating changes nothing
└── OutcomeUnknownError  a submit that may have been accepted, and charged: never repeated
"""

from datetime import timedelta
from http import HTTPStatus
from typing import ClassVar

_ACCOUNT_STATUSES = frozenset({401, 402, 403})
_ANOTHERS = "403001"  # the request is another account's: only this call is refused
_ACCOUNT_CODES = frozenset({"400002", "400004"})


class UpstreamError(Exception):
    """`message` is one clean line, free of the token, of URLs and of the input.

    It is what RunComfy `said`, if anything, and may still quote parts of an input: it is for the
    job's owner and for operators. The exception's own text is ours alone, and safe to log.

    An `outage` concerns RunComfy as a whole, or the way there, rather than this call; `is_busy`
    means that it accepts no more for now. `outcome` is its name in the metrics.
    """

    outcome: ClassVar[str]

    def __init__(
        self,
        message: str,
        *,
        said: str = "",
        status: int | None = None,
        error_code: str | None = None,
        retry_after: timedelta | None = None,
        outage: bool = False,
        is_busy: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = said or message
        self.status = status
        self.error_code = error_code
        self.retry_after = retry_after
        self.outage = outage
        self.is_busy = is_busy


class NotSentError(UpstreamError):
    outcome = "not_sent"


class TryLaterError(UpstreamError):
    outcome = "try_later"


class RefusedError(UpstreamError):
    outcome = "refused"

    @property
    def account_problem(self) -> bool:
        """Whether the token or the balance is at fault, so that every other submit fails, too."""
        is_refused = self.status in _ACCOUNT_STATUSES and self.error_code != _ANOTHERS
        return is_refused or self.error_code in _ACCOUNT_CODES

    @property
    def no_balance(self) -> bool:
        return self.status == HTTPStatus.PAYMENT_REQUIRED or self.error_code == "400002"

    @property
    def could_be_the_call(self) -> bool:
        """Whether it is a plain 403, which may be about the account or about this call alone."""
        return self.status == HTTPStatus.FORBIDDEN and self.error_code not in _ACCOUNT_CODES


class OutcomeUnknownError(UpstreamError):
    outcome = "unknown"
