"""/metrics, for Prometheus."""

import hmac

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import SecretStr

from app.api.deps import Gateway, header_of
from app.api.routing import Router
from app.auth.credentials import bearer_token
from app.core.errors import UnauthenticatedError

router = Router(include_in_schema=False)


@router.get("/metrics")
async def metrics(request: Request, gateway: Gateway) -> Response:
    if gateway.metrics_token is not None:
        _check(gateway.metrics_token, header_of(request, "Authorization"))
    return Response(await gateway.metrics_page.render(), media_type=CONTENT_TYPE_LATEST)


def _check(token: SecretStr, authorization: str | None) -> None:
    given = bearer_token(authorization).encode("utf-8", "surrogatepass")
    if not hmac.compare_digest(token.get_secret_value().encode(), given):
        raise UnauthenticatedError("Send GATEWAY_METRICS_TOKEN as `Authorization: Bearer ...`.")
