"""Failures with a public name.

ProblemError
├── InvalidRequestError            422 invalid_request: what the client sent breaks a rule
├── MalformedBodyError             400 malformed_body: not JSON at all
├── NotFoundError                  404 not_found
├── UnauthenticatedError           401 unauthenticated
│   └── UserGoneError
└── DatabaseUnavailableError       503 database_unavailable

Every room adds its own, most in an `errors.py`, the API beside the paths that raise them. Anything
that is not a ProblemError is a bug, is logged once with its traceback, and becomes a bare 500.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

MAX_ERRORS = 100
"""How many broken rules one answer names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One broken rule; `pointer` is an RFC 6901 pointer from the start of the request body."""

    pointer: str
    code: str
    detail: str


class ProblemError(Exception):
    """An expected failure, rendered as RFC 9457 problem details.

    `code` and `status` are the contract with clients and never change once published. The detail
    may quote what a client sent: the text of the exception, which logs show, is the title.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[int]

    def __init__(
        self,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        errors: list[FieldError] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(self.title)
        self.detail = detail
        self.headers = headers or {}
        self.errors = errors or []
        self.extra = extra


class InvalidRequestError(ProblemError):
    code = "invalid_request"
    title = "The request breaks a rule"
    status = 422


BROKEN_BODY = "The body breaks the rules of this call; `errors` names each field."
"""The detail where many fields may be wrong."""


class MalformedBodyError(ProblemError):
    code = "malformed_body"
    title = "The body cannot be read"
    status = 400


class NotFoundError(ProblemError):
    code = "not_found"
    title = "There is nothing here"
    status = 404


class UnauthenticatedError(ProblemError):
    code = "unauthenticated"
    title = "A valid API key is needed"
    status = 401

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class UserGoneError(UnauthenticatedError):
    """The user was deleted between authentication and the work, and the credential with it."""

    def __init__(self) -> None:
        super().__init__("The user of this credential was deleted just now; nothing was kept.")


class DatabaseUnavailableError(ProblemError):
    code = "database_unavailable"
    title = "The database does not answer"
    status = 503

    def __init__(self, *, is_unsure: bool = False, reason: str = "") -> None:
        """Say that nothing was written, or that it may have been: a commit's answer is missing.

        The `reason` is for operators alone: in the log, or where they type commands.
        """
        self.is_unsure = is_unsure
        self.reason = reason or "no answer in time"
        outcome = (
            "the request may have been accepted. Send it again, a submit under its Idempotency-Key."
            if is_unsure
            else "nothing was accepted. Try again shortly."
        )
        super().__init__(
            f"The gateway's database does not answer; {outcome}", headers={"Retry-After": "2"}
        )


class ConfigurationError(Exception):
    """The gateway cannot start as it is set up; the message is one sentence with the way out."""


class AwayError(ConfigurationError):
    """Something the gateway needs does not answer; the same start may succeed later."""
