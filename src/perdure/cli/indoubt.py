"""`perdure indoubt`: joint transactions whose outcome is open."""

import json
from pathlib import Path

import click

from perdure.errors import POSError
from perdure.ids import readable_tid_repr
from perdure.indoubt import find, resolve


@click.group()
def indoubt() -> None:
    """Settle joint transactions that a crash left in doubt.

    Opening a database does that by itself, as long as the member that decides is
    at hand.

    Example: perdure indoubt list packages.fs maintainers.fs
    """


@indoubt.command("list")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(files: tuple[Path, ...], *, as_json: bool) -> None:
    """Tell what is in doubt in data files. They are only read.

    Example: perdure indoubt list packages.fs maintainers.fs
    """
    rows = []
    for file in files:
        try:
            found = find(file)
        except (POSError, OSError) as error:
            raise click.ClickException(str(error)) from error
        if found is not None:
            tid = readable_tid_repr(found.tid)
            rows.append({"file": str(file), "tid": tid, "members": found.members})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        members = row["members"]
        click.echo(f"{row['file']}: transaction {row['tid']}; {members[0]} decides")
    if not rows:
        click.echo("nothing is in doubt")


@indoubt.command("resolve")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--commit/--abort", default=None, help="Finish it, or drop it: one has to be given.")
def resolve_(file: Path, *, commit: bool | None) -> None:
    """Say by hand what becomes of the transaction in doubt in FILE.

    Say the same in all its members. What is dropped is kept in a file beside it.

    Example: perdure indoubt resolve --commit maintainers.fs
    """
    if commit is None:
        raise click.UsageError("say what becomes of it: give --commit or --abort")
    try:
        settled = resolve(file, commit=commit)
    except (POSError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    done = "finished" if commit else "dropped"
    click.echo(f"{file}: transaction {readable_tid_repr(settled.tid)} {done}")
