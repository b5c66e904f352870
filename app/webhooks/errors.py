"""What can be wrong with clients' calls on webhooks."""

from app.core.errors import NotFoundError, ProblemError


class EndpointNotFoundError(NotFoundError):
    code = "endpoint_not_found"
    title = "No such webhook endpoint"

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(
            f"There is no webhook endpoint {endpoint_id[:64]!r} here, or it is not yours."
        )


class DeliveryNotFoundError(NotFoundError):
    code = "delivery_not_found"
    title = "No such delivery"

    def __init__(self, delivery_id: str) -> None:
        super().__init__(
            f"There is no delivery {delivery_id[:64]!r} here; the list of deliveries has their ids."
        )


class TooManyEndpointsError(ProblemError):
    code = "too_many_endpoints"
    title = "The user has too many webhook endpoints"
    status = 409

    def __init__(self, most: int) -> None:
        super().__init__(
            f"A user may have {most} webhook endpoints; delete one, or change its `url`."
        )


class EndpointDisabledError(ProblemError):
    code = "endpoint_disabled"
    title = "The webhook endpoint is disabled"
    status = 409

    def __init__(self) -> None:
        super().__init__(
            'The endpoint is disabled, so nothing is sent to it; PATCH it with {"disabled": false}.'
        )


class SecretOfServiceError(ProblemError):
    code = "secret_of_service"
    title = "The webhook secret belongs to a service"
    status = 403

    def __init__(self) -> None:
        super().__init__(
            "The webhooks of this user's jobs are signed with the secret of the service that acts"
            " for it, and only a key of that service with the scope act_as may read it."
        )


class SecretUnreadableError(ProblemError):
    code = "secret_unreadable"
    title = "The webhook secret can no longer be read"
    status = 409

    def __init__(self) -> None:
        super().__init__(
            "The secret was stored under a GATEWAY_SECRET_KEY that is no longer set; rotate it,"
            " and give your receivers the new one."
        )
