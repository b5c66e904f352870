"""`gateway keys`: API keys of users; a secret is printed once."""

from datetime import datetime, timedelta
from typing import Annotated

import typer

from app.auth.directory.models import LONGEST_OVERLAP_S, KeyChanges, NewSecret
from app.cli.directory import PAGE, Limits, Models, actor, every, limits_of, models_of, show, using
from app.core.errors import ConfigurationError
from app.core.timestamps import from_rfc3339

keys = typer.Typer(help="API keys of users.", no_args_is_help=True)


@keys.command("create")
def create_key(
    user: Annotated[str, typer.Option(help="The user; created if it does not exist.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="Repeatable; default: the usual scopes."),
    ] = None,
    model: Models = None,
    limit: Limits = None,
    plan: Annotated[
        str | None, typer.Option(help="With act_as: the plan of the users it creates.")
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option(help="When it expires, with a time zone: 2027-01-01T00:00:00Z.")
    ] = None,
) -> None:
    """Create an API key and print it; it cannot be shown again."""
    changes = KeyChanges(
        name=name,
        models=models_of(model),
        limits=limits_of(limit),
        plan=plan,
        expires_at=_at(expires_at),
    )
    if scope:
        changes["scopes"] = scope
    _show_secret(using(lambda all_: all_.keys.create(user, changes, actor=actor(), make_user=True)))


@keys.command("list")
def list_keys(
    user: Annotated[str | None, typer.Option(help="Only keys of this user.")] = None,
) -> None:
    """Print every key without its secret, newest first, one JSON object per line."""
    found = using(
        lambda all_: every(
            lambda last: all_.keys.page(user=user, before=last.id if last else None, limit=PAGE)
        )
    )
    for key in found:
        show(key.recorded())


@keys.command("change")
def change_key(
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    name: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="Replaces the current scopes; repeatable.")
    ] = None,
    model: Models = None,
    limit: Limits = None,
    plan: Annotated[
        str | None, typer.Option(help="With act_as: the plan of users it creates; empty: none.")
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option(help="When it expires, with a time zone; empty: never.")
    ] = None,
) -> None:
    """Change the given fields of a key."""
    changes = KeyChanges(limits=limits_of(limit))
    if name is not None:
        changes["name"] = name
    if scope:
        changes["scopes"] = scope
    if model:
        changes["models"] = models_of(model)
    if plan is not None:
        changes["plan"] = plan or None
    if expires_at is not None:
        changes["expires_at"] = _at(expires_at or None)
    show(using(lambda all_: all_.keys.change(key_id, changes, actor=actor())).recorded())


@keys.command("rotate")
def rotate_key(
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    overlap_seconds: Annotated[
        int,
        typer.Option(min=0, max=LONGEST_OVERLAP_S, help="How long the current secret stays valid."),
    ] = 86_400,
) -> None:
    """Give a key a new secret and print it; it cannot be shown again."""
    overlap = timedelta(seconds=overlap_seconds)
    _show_secret(using(lambda all_: all_.keys.rotate(key_id, overlap=overlap, actor=actor())))


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Revoke a key permanently, on all replicas within a second."""
    using(lambda all_: all_.keys.revoke(key_id, actor=actor()))
    typer.echo(f"The key {key_id} is revoked.", err=True)


def _at(text: str | None) -> datetime | None:
    at = from_rfc3339(text)
    if at is None and text is not None:
        raise ConfigurationError(
            "--expires-at must be a time with a zone, like 2027-01-01T00:00:00Z."
        )
    return at


def _show_secret(made: NewSecret) -> None:
    """Print only the key to stdout, for scripts, and its description to stderr."""
    show(made.key.recorded(), err=True)
    try:
        typer.echo(str(made.credential))
    except OSError as exc:
        raise ConfigurationError(
            f"The secret of {made.key.id} could not be written to stdout ({exc.strerror}), and"
            f" cannot be shown again: `gateway keys rotate {made.key.id}` makes another."
        ) from exc
