"""Why a caller with a token of the identity provider may still be turned away."""

from app.core.errors import ProblemError


class IdentityProviderUnavailableError(ProblemError):
    code = "identity_provider_unavailable"
    title = "The identity provider does not answer"
    status = 503

    def __init__(self) -> None:
        super().__init__(
            "The keys of the identity provider could not be fetched, so its tokens cannot be"
            " verified yet. Try again shortly.",
            headers={"Retry-After": "10"},
        )


class UnknownPlanClaimError(ProblemError):
    code = "unknown_plan"
    title = "The token names an unknown plan"
    status = 403

    def __init__(self) -> None:
        super().__init__(
            "Your token names a plan that this gateway does not have; an operator can make it, or"
            " correct the claim at the identity provider."
        )
