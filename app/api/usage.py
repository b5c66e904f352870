"""/v1/usage: what a caller has used, as JSON or as a file."""

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from anyio import to_thread
from fastapi import Query, Request, Response
from pydantic import BaseModel

from app.api.deps import Gateway, Reader
from app.api.parameters import instant_of, refuse_others
from app.api.problems import InvalidParameterError, problem_responses
from app.api.routing import caller_router
from app.jobs.wire import Seconds
from app.quotas.errors import TooManySumsError
from app.quotas.numbers import shown_usd
from app.quotas.policy import midnight
from app.quotas.usage import Grouping, Usage

router = caller_router("/v1", tag="me")

USAGE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
    **problem_responses(TooManySumsError),
}
"""What usage calls answer besides JSON, for the OpenAPI document."""

USAGE_PARAMETERS = {"from", "to", "group_by"}

_LONGEST_SPAN = timedelta(days=400)
_YEARS = range(2, 9999)  # in which every instant has a date in every time zone


class UsageRow(BaseModel):
    """The requested groups and their sums; `jobs` counts accepted jobs."""

    day: str | None = None
    user: str | None = None
    model: str | None = None
    key: str | None = None
    jobs: int
    jobs_settled: int
    jobs_released: int
    output_seconds: Seconds
    output_seconds_held: Seconds
    spend_usd: str
    spend_usd_held: str


class UsageRead(BaseModel):
    object: Literal["usage"] = "usage"
    timezone: str
    data: list[UsageRow]


@router.get(
    "/usage",
    response_model=UsageRead,
    summary="Read your usage",
    description=(
        "Days are in the plan's time zone and `to` is excluded; by default from the beginning of "
        "this month to the end of today. With `Accept: text/csv` the answer is a CSV file."
    ),
    responses=USAGE_ANSWERS,
)
async def read_usage(
    gateway: Gateway,
    caller: Reader,
    request: Request,
    since: Annotated[
        str | None, Query(alias="from", description="A date, or a time with a zone.")
    ] = None,
    until: Annotated[
        str | None, Query(alias="to", description="A date, or a time with a zone.")
    ] = None,
    group_by: Annotated[str, Query(description="`day`, `model`, `key`, comma-separated.")] = "day",
) -> Any:
    refuse_others(request, USAGE_PARAMETERS)
    zone = caller.policy.zone
    groups = groupings(group_by, known=(Grouping.DAY, Grouping.MODEL, Grouping.KEY))
    start, end = span(since, until, zone=zone, at=gateway.clock.now())
    rows = await gateway.quotas.usage(
        since=start, until=end, zone=zone, group_by=groups, user_id=caller.user_id
    )
    return await usage_answer(rows, request=request, zone=zone, groups=groups)


async def usage_answer(
    rows: Sequence[Usage], *, request: Request, zone: ZoneInfo, groups: Sequence[Grouping]
) -> Response:
    """Return the sums as JSON, or as CSV if the caller accepts that.

    A thread writes it: there may be a sum for each of many thousand users.
    """
    as_csv = "text/csv" in request.headers.get("accept", "").lower()
    write = partial(_csv, groups=groups) if as_csv else _json
    return await to_thread.run_sync(write, rows, zone)


def _json(rows: Sequence[Usage], zone: ZoneInfo) -> Response:
    return Response(_read(rows, zone).model_dump_json(), media_type="application/json")


def _csv(rows: Sequence[Usage], zone: ZoneInfo, *, groups: Sequence[Grouping]) -> Response:
    columns = [group.value for group in groups]
    columns += [name for name in UsageRow.model_fields if name not in set(Grouping)]
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=columns, extrasaction="ignore")
    table.writeheader()
    for row in _read(rows, zone).data:
        table.writerow(row.model_dump(mode="json"))
    return Response(
        text.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="usage.csv"'},
    )


def _read(rows: Sequence[Usage], zone: ZoneInfo) -> UsageRead:
    return UsageRead(timezone=zone.key, data=[_row(usage) for usage in rows])


def groupings(text: str, *, known: Sequence[Grouping]) -> Sequence[Grouping]:
    words = [word.strip() for word in text.split(",")] if text else []
    for word in words:
        if word not in known:
            raise InvalidParameterError(
                "group_by", f"{word[:40]!r} is not a grouping; known are {', '.join(known)}."
            )
    if len(set(words)) < len(words):
        raise InvalidParameterError("group_by", "Name each grouping once.")
    return [Grouping(word) for word in words]


def span(
    since: str | None, until: str | None, *, zone: ZoneInfo, at: datetime
) -> tuple[datetime, datetime]:
    """Read the span of a usage call; the default is the current month so far."""
    today = at.astimezone(zone).date()
    start = _moment("from", since, zone) if since else midnight(today.replace(day=1), zone)
    end = _moment("to", until, zone) if until else midnight(today + timedelta(days=1), zone)
    if not timedelta() <= end - start <= _LONGEST_SPAN:
        raise InvalidParameterError(
            "from",
            f"`from` must be before `to`, by at most {_LONGEST_SPAN.days} days; not given, they"
            " are the beginning of this month and the end of today.",
        )
    return start, end


def _moment(name: str, text: str, zone: ZoneInfo) -> datetime:
    at = instant_of(text)
    with suppress(ValueError, OverflowError):
        if len(text) == len("2026-11-22"):
            at = midnight(date.fromisoformat(text), zone)
    if at is None or at.year not in _YEARS:
        raise InvalidParameterError(
            name, f"{name} must be a day like 2026-11-22, or an RFC 3339 time with a zone."
        )
    return at


def _row(usage: Usage) -> UsageRow:
    return UsageRow(
        **{grouping.value: value for grouping, value in usage.groups.items()},
        jobs=usage.jobs,
        jobs_settled=usage.jobs_settled,
        jobs_released=usage.jobs_released,
        output_seconds=usage.output_seconds,
        output_seconds_held=usage.output_seconds_held,
        spend_usd=shown_usd(usage.spend_usd),
        spend_usd_held=shown_usd(usage.spend_usd_held),
    )
