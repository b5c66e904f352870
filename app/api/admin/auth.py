"""Who may call the admin API."""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from app.api.deps import Gateway, header_of
from app.api.problems import no_such_route

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="AdminToken",
    description="A token of GATEWAY_ADMIN_TOKEN; API keys are refused.",
)


async def operator(
    request: Request, gateway: Gateway, _: Annotated[object, Security(_bearer)]
) -> str:
    """Return the operator's name; with no admin token configured there is no admin API."""
    if not gateway.operators.is_open:
        raise no_such_route(request, methods=())
    return gateway.operators.admit(header_of(request, "Authorization"))


Operator = Annotated[str, Depends(operator)]
