"""Why a client token is not created, or not found."""

from app.core.errors import NotFoundError, ProblemError


class ClientTokenNotFoundError(NotFoundError):
    code = "client_token_not_found"
    title = "No such client token"

    def __init__(self, token_id: str) -> None:
        super().__init__(
            f"There is no live client token {token_id[:64]!r};"
            " it may have expired or been revoked already."
        )


class TooManyClientTokensError(ProblemError):
    code = "too_many_client_tokens"
    title = "The user has too many client tokens"
    status = 429

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The user has {most} live client tokens, and cannot have more; revoke some, let"
            " them expire sooner (`expires_in`), or act for your users, who have as many each.",
            headers={"Retry-After": "60"},
        )
