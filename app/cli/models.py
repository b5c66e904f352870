"""`gateway models`: the catalogue, read by hand."""

import typer

models = typer.Typer(help="The models of RunComfy.", no_args_is_help=True)


@models.command("sync")
def sync() -> None:
    """Read RunComfy's catalogue now; running gateways follow within seconds."""
    from app.cli.catalogue import read

    report = read()
    typer.echo(
        f"{report.models} models: {len(report.added)} new, {len(report.changed)} changed,"
        f" {len(report.withdrawn)} withdrawn, {report.skipped} skipped.",
        err=True,
    )
    for model_id, breaks in report.breaks.items():
        typer.echo(
            f"{model_id} is in use, and accepts less than before: {'; '.join(breaks)}.", err=True
        )
