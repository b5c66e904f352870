"""What `gateway plans|users|keys` share: they do the same as the admin API, without it."""

import getpass
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.core.errors import ConfigurationError

if TYPE_CHECKING:
    from app.auth.directory.keys import KeyDirectory
    from app.auth.directory.plans import PlanDirectory
    from app.auth.directory.users import UserDirectory

Answer = TypeVar("Answer")
Record = TypeVar("Record")

PAGE = 100

Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit", help="name=number, name=number:shadow, or name=none for no limit; repeatable."
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="Allow only this model; repeatable. `all`, the default at creation: every one.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Directories:
    plans: "PlanDirectory"
    users: "UserDirectory"
    keys: "KeyDirectory"


def using(work: Callable[[Directories], Awaitable[Answer]]) -> Answer:
    from app.auth.directory.keys import KeyDirectory
    from app.auth.directory.plans import PlanDirectory
    from app.auth.directory.users import UserDirectory
    from app.bootstrap.catalogue import open_catalogue
    from app.cli.running import prepared_settings, run
    from app.core.clock import SystemClock
    from app.db.engine import opened_database

    settings, clock = prepared_settings(needs_upstream=False), SystemClock()

    async def use() -> Answer:
        async with opened_database(settings.database_url) as database:
            catalogue, _ = await open_catalogue(settings, database=database, clock=clock)
            models = catalogue.input_fields
            directories = Directories(
                plans=PlanDirectory(database=database, clock=clock, known_models=models),
                users=UserDirectory(database=database, clock=clock),
                keys=KeyDirectory(database=database, clock=clock, known_models=models),
            )
            return await work(directories)

    return run(use())


async def every(page: Callable[[Record | None], Awaitable[Sequence[Record]]]) -> Sequence[Record]:
    """Read all pages; each begins after the last record of the previous one."""
    found: list[Record] = []
    while some := await page(found[-1] if found else None):
        found += some
    return found


def limits_of(given: Sequence[str] | None) -> Mapping[str, Any]:
    """Read `name=number[:mode]` and `name=none`; the directory checks names and numbers."""
    limits: dict[str, Any] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError(f"--limit {text[:80]!r} must be like jobs_per_day=10.")
        if value == "none":
            limits[name] = None
            continue
        number, _, mode = value.partition(":")
        limits[name] = {"limit": number if "usd" in name else _number(number)}
        if mode:
            limits[name]["mode"] = mode
    return limits


def models_of(given: Sequence[str] | None) -> Sequence[str] | None:
    return None if not given or list(given) == ["all"] else given


def actor() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container may run as a number without a name
        return "cli:unknown"


def show(recorded: Mapping[str, Any], *, err: bool = False) -> None:
    typer.echo(json.dumps(recorded, ensure_ascii=False), err=err)


def _number(text: str) -> int | float | str:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text
