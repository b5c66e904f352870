"""Why an operator is turned away."""

from app.core.errors import ProblemError


class WrongAdminTokenError(ProblemError):
    code = "wrong_admin_token"
    title = "An admin token is needed"
    status = 401

    def __init__(self) -> None:
        super().__init__(
            "Send a token of GATEWAY_ADMIN_TOKEN as `Authorization: Bearer ...`;"
            " API keys are for the other calls.",
            headers={"WWW-Authenticate": "Bearer"},
        )


class TooManyAttemptsError(ProblemError):
    code = "too_many_attempts"
    title = "Too many wrong admin tokens"
    status = 429

    def __init__(self) -> None:
        super().__init__(
            "Too many calls came with a wrong admin token; check yours, and try again in a second.",
            headers={"Retry-After": "1"},
        )
