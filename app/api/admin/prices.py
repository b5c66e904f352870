"""/v1/admin/prices: the operator's table of prices, read and replaced as a whole."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from app.api.admin.auth import Operator
from app.api.admin.routing import admin_router
from app.api.admin.wire import AdminBody
from app.api.body import BODY_PROBLEMS, CreateBody, body_of, parse
from app.api.deps import Gateway, JsonBody
from app.api.problems import problem_responses
from app.quotas.prices import PriceLine
from app.quotas.pricing import Price, PriceUnit

router = admin_router("/prices")

_MOST_LINES = 1000
_LONGEST_CONDITION = 500


def _condition(value: Any) -> str | float:
    """Report one error at the value itself: a union reports one for each of its types."""
    if isinstance(value, str) and len(value) > _LONGEST_CONDITION:
        raise PydanticCustomError(
            "max_length", f"it must be at most {_LONGEST_CONDITION} characters"
        )
    if not isinstance(value, str | int | float):
        raise PydanticCustomError("type", "it must be text, a number, true or false")
    return value


_Text = Annotated[str, StringConstraints(max_length=_LONGEST_CONDITION)]
_Condition = Annotated[
    Any, BeforeValidator(_condition, json_schema_input_type=_Text | bool | int | float)
]


class PriceWrite(CreateBody, AdminBody):
    model: Annotated[str, StringConstraints(max_length=256)]
    base_price_usd: Annotated[
        Any,
        Field(
            description="US dollars with at most 6 decimals, as text or number.",
            json_schema_extra={"type": ["string", "number"], "example": "0.10"},
        ),
    ]
    price_unit: Annotated[
        PriceUnit,
        Field(
            description="What it is multiplied by: the seconds or outputs that an input asks for."
        ),
    ]
    when: Annotated[dict[str, _Condition], Field(max_length=20)] = Field(
        default={},
        description=(
            "Values that the input must have. The matching entry with the most of them wins; the "
            "first one if tied."
        ),
    )


class PricesPut(AdminBody):
    prices: Annotated[list[PriceWrite], Field(max_length=_MOST_LINES)]


class PriceRead(BaseModel):
    model: str
    base_price_usd: str
    price_unit: PriceUnit
    when: dict[str, str]


class PricesRead(BaseModel):
    prices: list[PriceRead]


@router.get("", summary="Read the price table")
async def get_prices(gateway: Gateway) -> PricesRead:
    return _read(await gateway.prices.list())


@router.put(
    "",
    summary="Replace the price table",
    description=(
        "Applies to jobs accepted at least one second later; earlier jobs keep their price."
    ),
    openapi_extra=body_of(PricesPut),
    responses=problem_responses(*BODY_PROBLEMS),
)
async def put_prices(gateway: Gateway, operator: Operator, body: JsonBody) -> PricesRead:
    lines = [
        PriceLine(
            model=line.model,
            base_price_usd=line.base_price_usd,
            price_unit=line.price_unit,
            when=line.when,
        )
        for line in parse(PricesPut, body).prices
    ]
    return _read(await gateway.prices.replace(lines, actor=operator))


def _read(prices: Sequence[Price]) -> PricesRead:
    return PricesRead(
        prices=[
            PriceRead(
                model=price.model,
                base_price_usd=format(price.base_price_usd, "f"),
                price_unit=price.price_unit,
                when=dict(price.when),
            )
            for price in prices
        ]
    )
