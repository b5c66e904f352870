"""What media inspection refuses because it could not look."""

from collections.abc import Sequence

from app.core.errors import FieldError, InvalidRequestError, ProblemError


class MediaBusyError(ProblemError):
    code = "media_busy"
    title = "Too many files are being looked at"
    status = 503

    def __init__(self) -> None:
        super().__init__(
            "So many files are being looked at that this one got no turn; nothing was accepted."
            " Try again shortly, with faster hosts or fewer requests at a time.",
            headers={"Retry-After": "5"},
        )


class MediaUnreachableError(InvalidRequestError):
    """Nothing else is wrong with the input: once its files' servers answer, it may be accepted."""

    code = "media_unreachable"
    title = "A file of the input cannot be fetched"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(
            "The input names files that cannot be fetched now; `errors` names each field. Nothing"
            " was sent. Try again later, or name another address.",
            errors=list(errors),
        )
