"""What media inspection refuses, apart from the files themselves."""

from app.core.errors import ProblemError


class MediaBusyError(ProblemError):
    code = "media_busy"
    title = "Too many files are being looked at"
    status = 503

    def __init__(self) -> None:
        super().__init__(
            "So many files are being looked at that this one had no turn; nothing was accepted."
            " Try again shortly, with faster hosts or fewer requests at a time.",
            headers={"Retry-After": "5"},
        )
