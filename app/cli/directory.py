"""`gateway plans|users|keys`: the same as in the admin API, without the API."""

import getpass
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.auth.directory.models import (
    KeyChanges,
    NewSecret,
    PlanChanges,
    UserChanges,
    recorded_key,
    recorded_plan,
    recorded_user,
)
from app.core.errors import ConfigurationError
from app.core.timestamps import from_rfc3339

if TYPE_CHECKING:
    from app.auth.directory.keys import KeyDirectory
    from app.auth.directory.plans import PlanDirectory
    from app.auth.directory.users import UserDirectory

Answer = TypeVar("Answer")
Record = TypeVar("Record")

_PAGE = 100

plans = typer.Typer(help="Plans: limits that users share.", no_args_is_help=True)
users = typer.Typer(help="Users of the gateway.", no_args_is_help=True)
keys = typer.Typer(help="API keys of users.", no_args_is_help=True)

Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit", help="name=number, name=number:shadow, or name=none for no limit; repeatable."
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="Allow this model; may be repeated. At first, and by `all`: all."),
]


@plans.command("create")
def create_plan(
    name: str,
    timezone: Annotated[str, typer.Option(help="The zone of its days and months.")] = "UTC",
    default: Annotated[bool, typer.Option("--default", help="For users without a plan.")] = False,  # noqa: FBT002 - a flag
    model: Models = None,
    limit: Limits = None,
) -> None:
    """Make a plan."""
    changes = PlanChanges(
        timezone=timezone, default=default, models=_models(model), limits=_limits(limit)
    )
    _show(recorded_plan(_with(lambda all_: all_.plans.create(name, changes, actor=_actor()))))


@plans.command("change")
def change_plan(
    name: str,
    timezone: Annotated[str | None, typer.Option(help="The zone of its days and months.")] = None,
    default: Annotated[
        bool | None, typer.Option("--default/--no-default", help="For users without a plan?")
    ] = None,
    model: Models = None,
    limit: Limits = None,
) -> None:
    """Change what is named of a plan."""
    changes = PlanChanges(limits=_limits(limit))
    if timezone is not None:
        changes["timezone"] = timezone
    if default is not None:
        changes["default"] = default
    if model:
        changes["models"] = _models(model)
    _show(recorded_plan(_with(lambda all_: all_.plans.change(name, changes, actor=_actor()))))


@plans.command("delete")
def delete_plan(name: str) -> None:
    """Delete a plan that nobody is on."""
    _with(lambda all_: all_.plans.delete(name, actor=_actor()))
    typer.echo(f"The plan {name} is deleted.", err=True)


@plans.command("list")
def list_plans() -> None:
    """Print every plan, one JSON object a line."""
    found = _with(
        lambda all_: _every(
            lambda last: all_.plans.page(after=last.name if last else None, limit=_PAGE)
        )
    )
    for plan in found:
        _show(recorded_plan(plan))


@users.command("create")
def create_user(
    user_id: Annotated[str, typer.Argument(metavar="ID")],
    name: Annotated[str | None, typer.Option(help="Who that is.")] = None,
    plan: Annotated[str | None, typer.Option(help="The plan; without it: the default one.")] = None,
    limit: Limits = None,
) -> None:
    """Create a user; its limits replace the plan's of the same names."""
    changes = UserChanges(name=name, plan=plan, limits=_limits(limit))
    _show(recorded_user(_with(lambda all_: all_.users.create(user_id, changes, actor=_actor()))))


@users.command("change")
def change_user(
    user_id: Annotated[str, typer.Argument(metavar="ID")],
    name: Annotated[str | None, typer.Option(help="Who that is.")] = None,
    plan: Annotated[str | None, typer.Option(help="The plan; an empty one: the default.")] = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Whether all its keys are refused.")
    ] = None,
    limit: Limits = None,
) -> None:
    """Change what is named of a user."""
    changes = UserChanges(limits=_limits(limit))
    if name is not None:
        changes["name"] = name
    if plan is not None:
        changes["plan"] = plan or None
    if disabled is not None:
        changes["disabled"] = disabled
    _show(recorded_user(_with(lambda all_: all_.users.change(user_id, changes, actor=_actor()))))


@users.command("delete")
def delete_user(user_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Erase a user with its jobs, keys and the users it acts for; the ledger stays."""
    _with(lambda all_: all_.users.erase(user_id, actor=_actor()))
    typer.echo(f"The user {user_id} is erased.", err=True)


@users.command("list")
def list_users(
    plan: Annotated[str | None, typer.Option(help="Only users of this plan.")] = None,
) -> None:
    """Print every user, one JSON object a line."""
    found = _with(
        lambda all_: _every(
            lambda last: all_.users.page(plan=plan, after=last.id if last else None, limit=_PAGE)
        )
    )
    for user in found:
        _show(recorded_user(user))


@keys.command("create")
def create_key(
    user: Annotated[str, typer.Option(help="The user; created if it does not exist.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="May be repeated; without it: the usual ones."),
    ] = None,
    model: Models = None,
    limit: Limits = None,
    plan: Annotated[
        str | None, typer.Option(help="With act_as: the plan of the users it creates.")
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option(help="When it expires, with a zone: 2027-01-01T00:00:00Z.")
    ] = None,
) -> None:
    """Create an API key and print it; it cannot be shown again."""
    changes = KeyChanges(
        name=name,
        models=_models(model),
        limits=_limits(limit),
        plan=plan,
        expires_at=_at(expires_at),
    )
    if scope:
        changes["scopes"] = scope
    _show_secret(
        _with(lambda all_: all_.keys.create(user, changes, actor=_actor(), make_user=True))
    )


@keys.command("list")
def list_keys(
    user: Annotated[str | None, typer.Option(help="Only keys of this user.")] = None,
) -> None:
    """Print every key without its secret, newest first, one JSON object a line."""
    found = _with(
        lambda all_: _every(
            lambda last: all_.keys.page(user=user, before=last.id if last else None, limit=_PAGE)
        )
    )
    for key in found:
        _show(recorded_key(key))


@keys.command("change")
def change_key(
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    name: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="In place of the present ones; repeatable.")
    ] = None,
    model: Models = None,
    limit: Limits = None,
    plan: Annotated[
        str | None, typer.Option(help="With act_as: the plan of the users it creates; empty: none.")
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option(help="When it expires, with a zone; an empty one: never.")
    ] = None,
) -> None:
    """Change what is named of a key."""
    changes = KeyChanges(limits=_limits(limit))
    if name is not None:
        changes["name"] = name
    if scope:
        changes["scopes"] = scope
    if model:
        changes["models"] = _models(model)
    if plan is not None:
        changes["plan"] = plan or None
    if expires_at is not None:
        changes["expires_at"] = _at(expires_at or None)
    _show(recorded_key(_with(lambda all_: all_.keys.change(key_id, changes, actor=_actor()))))


@keys.command("rotate")
def rotate_key(
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    overlap_seconds: Annotated[
        int, typer.Option(min=0, max=30 * 86_400, help="How long the present secret stays valid.")
    ] = 86_400,
) -> None:
    """Give a key a new secret and print it; it cannot be shown again."""
    overlap = timedelta(seconds=overlap_seconds)
    _show_secret(_with(lambda all_: all_.keys.rotate(key_id, overlap=overlap, actor=_actor())))


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Revoke a key permanently, on all replicas within a second."""
    _with(lambda all_: all_.keys.revoke(key_id, actor=_actor()))
    typer.echo(f"The key {key_id} is revoked.", err=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Directories:
    plans: "PlanDirectory"
    users: "UserDirectory"
    keys: "KeyDirectory"


def _with(work: Callable[[_Directories], Awaitable[Answer]]) -> Answer:
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
            directories = _Directories(
                plans=PlanDirectory(database=database, clock=clock, known_models=models),
                users=UserDirectory(database=database, clock=clock),
                keys=KeyDirectory(database=database, clock=clock, known_models=models),
            )
            return await work(directories)

    return run(use())


async def _every(page: Callable[[Record | None], Awaitable[Sequence[Record]]]) -> Sequence[Record]:
    """Read all pages; each begins after the last record of the one before."""
    found: list[Record] = []
    while some := await page(found[-1] if found else None):
        found += some
    return found


def _limits(given: Sequence[str] | None) -> Mapping[str, Any]:
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


def _models(given: Sequence[str] | None) -> Sequence[str] | None:
    return None if not given or list(given) == ["all"] else given


def _number(text: str) -> int | float | str:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def _at(text: str | None) -> datetime | None:
    at = from_rfc3339(text)
    if at is None and text is not None:
        raise ConfigurationError(
            "--expires-at must be a time with a zone, like 2027-01-01T00:00:00Z."
        )
    return at


def _actor() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container may run as a number without a name
        return "cli:unknown"


def _show(recorded: Mapping[str, Any], *, err: bool = False) -> None:
    typer.echo(json.dumps(recorded, ensure_ascii=False), err=err)


def _show_secret(made: NewSecret) -> None:
    """Print only the key to stdout, for scripts, and what it is to stderr."""
    _show(recorded_key(made.key), err=True)
    typer.echo(str(made.token))
