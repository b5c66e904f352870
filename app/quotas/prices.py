"""The operator's table of prices: replaced as a whole, and read at most once a second."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import log as audit
from app.core.clock import Clock
from app.core.errors import MAX_ERRORS, FieldError, InvalidRequestError
from app.core.pointers import json_pointer
from app.core.refresh import Refresh
from app.core.suggestions import did_you_mean
from app.db.engine import Database
from app.quotas.numbers import decimal_of, has_at_most
from app.quotas.prices_repository import PricesRepository
from app.quotas.pricing import Price, PriceUnit, condition, meets

Fields = Mapping[str, Mapping[str, Any]]

_FRESH_FOR = timedelta(seconds=1)
_HIGHEST_USD = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceLine:
    """A line as it was sent; `base_price_usd` is a JSON number or text."""

    model: str
    base_price_usd: Any
    price_unit: PriceUnit
    when: Mapping[str, str | float]


class PricesService:
    """`models` returns, by model, the schemas of its input fields, by name."""

    def __init__(
        self, *, database: Database, clock: Clock, models: Callable[[], Mapping[str, Fields]]
    ) -> None:
        self._database = database
        self._clock = clock
        self._models = models
        self._kept: Sequence[Price] = ()
        self._refresh = Refresh(self._read, fresh_for=_FRESH_FOR, clock=clock)

    async def list(self) -> Sequence[Price]:
        return await self._database.look_up(lambda tx: PricesRepository(tx).find_all())

    async def current(self) -> Sequence[Price]:
        """Return the table as it was at most a second ago, usually without asking the database."""
        await self._refresh()
        return self._kept

    async def replace(self, lines: Sequence[PriceLine], *, actor: str) -> Sequence[Price]:
        """Replace all lines with these; raise InvalidRequestError with what is wrong."""
        # No more than can be shown: guessing what a misspelt name meant takes milliseconds.
        errors = list(islice(_faults(lines, self._models()), MAX_ERRORS))
        if errors:
            raise InvalidRequestError(
                "The prices break rules; `errors` names each line. Nothing was changed.",
                errors=errors,
            )
        prices = [_price(line) for line in lines]
        at = self._clock.now()

        async def work(tx: AsyncConnection) -> None:
            repository = PricesRepository(tx)
            await repository.lock()
            before = await repository.find_all()
            await repository.replace_all(prices)
            await audit.append(
                tx,
                at=at,
                actor=actor,
                action="prices.replaced",
                target="prices",
                before=_recorded(before),
                after=_recorded(prices),
            )

        await self._database.transact(work)
        self._refresh.expire()
        return prices

    async def _read(self) -> None:
        self._kept = await self.list()


def _price(line: PriceLine) -> Price:
    base = decimal_of(line.base_price_usd)
    assert base is not None
    return Price(
        model=line.model,
        base_price_usd=base,
        price_unit=line.price_unit,
        when={name: condition(value) for name, value in line.when.items()},
    )


def _faults(lines: Sequence[PriceLine], models: Mapping[str, Fields]) -> Iterator[FieldError]:
    seen: dict[tuple[str, frozenset[tuple[str, str]]], int] = {}
    for number, line in enumerate(lines):
        at = f"/prices/{number}"
        yield from _line_faults(line, models, at)
        same = (line.model, frozenset((k, condition(v)) for k, v in line.when.items()))
        first = seen.setdefault(same, number)
        if first != number:
            detail = f"{at} has the same model and `when` as /prices/{first}; keep one."
            yield FieldError(pointer=at, code="duplicate", detail=detail)


def _line_faults(line: PriceLine, models: Mapping[str, Fields], at: str) -> Iterator[FieldError]:
    price = decimal_of(line.base_price_usd)
    if price is None or price < 0 or price > _HIGHEST_USD or not has_at_most(price, decimals=6):
        where = f"{at}/base_price_usd"
        rule = f'must be 0 to {_HIGHEST_USD} US dollars with at most 6 decimals, like "0.10"'
        detail = f"{where} {rule}."
        yield FieldError(pointer=where, code="price", detail=detail)
    if line.model not in models:
        where = f"{at}/model"
        detail = f"{where} is not a model of this gateway{did_you_mean(line.model, models)}."
        yield FieldError(pointer=where, code="unknown_model", detail=detail)
        return
    fields = models[line.model]
    for name, value in line.when.items():
        where = at + json_pointer("when", name)
        if name not in fields:
            meant = did_you_mean(name, fields)
            detail = f"{where} is not an input of {line.model}{meant}."
            yield FieldError(pointer=where, code="unknown_field", detail=detail)
        elif (enum := fields[name].get("enum")) and not any(
            meets(each, condition(value)) for each in enum
        ):
            known = ", ".join(map(str, enum))
            detail = f"{where} must be one of {known}; the model accepts no other value."
            yield FieldError(pointer=where, code="enum", detail=detail)


def _recorded(prices: Sequence[Price]) -> dict[str, Any]:
    return {
        "prices": [
            {
                "model": price.model,
                "base_price_usd": format(price.base_price_usd, "f"),
                "price_unit": price.price_unit,
                "when": dict(price.when),
            }
            for price in prices
        ]
    }
