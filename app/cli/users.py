"""`gateway users`: the users of the gateway."""

from typing import Annotated

import typer

from app.auth.directory.models import UserChanges
from app.cli.directory import PAGE, Limits, actor, every, limits_of, show, using

users = typer.Typer(help="Users of the gateway.", no_args_is_help=True)


@users.command("create")
def create_user(
    user_id: Annotated[str, typer.Argument(metavar="ID")],
    name: Annotated[str | None, typer.Option(help="The user's name.")] = None,
    plan: Annotated[
        str | None, typer.Option(help="The user's plan; default: the default plan.")
    ] = None,
    limit: Limits = None,
) -> None:
    """Create a user; its limits replace the plan's of the same names."""
    changes = UserChanges(name=name, plan=plan, limits=limits_of(limit))
    show(using(lambda all_: all_.users.create(user_id, changes, actor=actor())).recorded())


@users.command("change")
def change_user(
    user_id: Annotated[str, typer.Argument(metavar="ID")],
    name: Annotated[str | None, typer.Option(help="The user's name.")] = None,
    plan: Annotated[
        str | None, typer.Option(help="The user's plan; empty: the default plan.")
    ] = None,
    disabled: Annotated[
        bool | None,
        typer.Option("--disable/--enable", help="Refuse all its keys, or accept them again."),
    ] = None,
    limit: Limits = None,
) -> None:
    """Change the given fields of a user."""
    changes = UserChanges(limits=limits_of(limit))
    if name is not None:
        changes["name"] = name
    if plan is not None:
        changes["plan"] = plan or None
    if disabled is not None:
        changes["disabled"] = disabled
    show(using(lambda all_: all_.users.change(user_id, changes, actor=actor())).recorded())


@users.command("delete")
def delete_user(user_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Erase a user with its jobs, keys and the users it acts for; the ledger stays."""
    using(lambda all_: all_.users.erase(user_id, actor=actor()))
    typer.echo(f"The user {user_id} is erased.", err=True)


@users.command("list")
def list_users(
    plan: Annotated[str | None, typer.Option(help="Only users on this plan.")] = None,
) -> None:
    """Print every user, one JSON object per line."""
    found = using(
        lambda all_: every(
            lambda last: all_.users.page(plan=plan, after=last.id if last else None, limit=PAGE)
        )
    )
    for user in found:
        show(user.recorded())
