"""Why a caller is turned away."""

from app.core.errors import InvalidRequestError, ProblemError


class MissingScopeError(ProblemError):
    code = "missing_scope"
    title = "The key may not do this"
    status = 403

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"This needs the scope '{scope}', which the key does not have;"
            " use another key, or ask an operator for one with that scope.",
            scope=str(scope),
        )


class WrongOriginError(ProblemError):
    code = "wrong_origin"
    title = "The token is for another page"
    status = 403

    def __init__(self) -> None:
        super().__init__(
            "This client token is bound to the origin of one web page, and the request does not"
            " come from there; use it only in that page."
        )


class UserDisabledError(ProblemError):
    code = "user_disabled"
    title = "The user is disabled"
    status = 403

    def __init__(self, user: str) -> None:
        super().__init__(f"The user {user!r} is disabled; an operator can enable it again.")


class ModelNotAllowedError(ProblemError):
    code = "model_not_allowed"
    title = "The model is not allowed"
    status = 403

    def __init__(self, model: str) -> None:
        super().__init__(
            f"Your plan or key does not allow {model}; GET /v1/models lists what it allows.",
            model=model,
        )


class InvalidUserIdError(InvalidRequestError):
    code = "invalid_user_id"
    title = "Not a user id"


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
