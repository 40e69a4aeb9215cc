"""`perdure indoubt`: joint transactions whose outcome is open."""

from pathlib import Path

import click

from perdure.cli.opening import JSON, errors_reported, print_json
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
@JSON
def list_(files: tuple[Path, ...], *, as_json: bool) -> None:
    """Tell what is in doubt in data files. They are only read.

    Example: perdure indoubt list packages.fs maintainers.fs
    """
    with errors_reported():
        open_ones = [(file, found) for file in files if (found := find(file)) is not None]
    if as_json:
        print_json(
            [
                {"file": str(file), "tid": found.tid, "members": found.members}
                for file, found in open_ones
            ]
        )
        return
    for file, found in open_ones:
        tid = readable_tid_repr(found.tid)
        click.echo(f"{file}: transaction {tid}; {found.members[0]} decides")
    if not open_ones:
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
    with errors_reported():
        settled = resolve(file, commit=commit)
    done = "finished" if commit else "dropped"
    click.echo(f"{file}: transaction {readable_tid_repr(settled.tid)} {done}")
