"""`gateway plans`: limits that users share."""

from typing import Annotated

import typer

from app.auth.directory.models import PlanChanges
from app.cli.directory import PAGE, Limits, Models, actor, every, limits_of, models_of, show, using

plans = typer.Typer(help="Plans: limits that users share.", no_args_is_help=True)


@plans.command("create")
def create_plan(
    name: str,
    timezone: Annotated[str, typer.Option(help="The time zone of its days and months.")] = "UTC",
    default: Annotated[bool, typer.Option("--default", help="For users without a plan.")] = False,  # noqa: FBT002 - a flag
    model: Models = None,
    limit: Limits = None,
) -> None:
    """Create a plan."""
    changes = PlanChanges(
        timezone=timezone, default=default, models=models_of(model), limits=limits_of(limit)
    )
    show(using(lambda all_: all_.plans.create(name, changes, actor=actor())).recorded())


@plans.command("change")
def change_plan(
    name: str,
    timezone: Annotated[
        str | None, typer.Option(help="The time zone of its days and months.")
    ] = None,
    default: Annotated[
        bool | None, typer.Option("--default/--no-default", help="Use it for users without a plan.")
    ] = None,
    model: Models = None,
    limit: Limits = None,
) -> None:
    """Change the given fields of a plan."""
    changes = PlanChanges(limits=limits_of(limit))
    if timezone is not None:
        changes["timezone"] = timezone
    if default is not None:
        changes["default"] = default
    if model:
        changes["models"] = models_of(model)
    show(using(lambda all_: all_.plans.change(name, changes, actor=actor())).recorded())


@plans.command("delete")
def delete_plan(name: str) -> None:
    """Delete a plan that nobody is on."""
    using(lambda all_: all_.plans.delete(name, actor=actor()))
    typer.echo(f"The plan {name} is deleted.", err=True)


@plans.command("list")
def list_plans() -> None:
    """Print every plan, one JSON object per line."""
    found = using(
        lambda all_: every(
            lambda last: all_.plans.page(after=last.name if last else None, limit=PAGE)
        )
    )
    for plan in found:
        show(plan.recorded())
