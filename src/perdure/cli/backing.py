"""`perdure backup` and `perdure restore`."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

import perdure
from perdure.cli.opening import FILE, JSON, MOMENT, errors_reported, print_json, progressing
from perdure.cli.output import size
from perdure.ids import Tid

__all__ = ["backup", "restore"]

DAMAGED = 3
"""The exit code where a backup is found to be damaged."""


@click.command()
@click.argument("files", metavar="[FILE] FOLDER", nargs=-1, required=True, type=FILE)
@click.option("--blob-dir", type=FILE, help="The folder of the database's blobs.")
@click.option("--full", is_flag=True, help="Copy everything, not only what is new.")
@click.option(
    "--verify", is_flag=True, help="Only read the backup in FOLDER, and say what's wrong."
)
@JSON
def backup(
    files: tuple[Path, ...],
    *,
    blob_dir: Path | None,
    full: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Add what is new in the data file FILE to the backup in FOLDER. FILE may be in use.

    Example: perdure backup Data.fs /backups/shop

    Example: perdure backup --verify /backups/shop
    """
    if len(files) != 2 - verify:
        raise click.UsageError("give FILE and FOLDER, or with --verify FOLDER alone")
    folder = files[-1]
    if verify:
        _verify(folder, as_json=as_json)
        return
    file = files[0]
    with errors_reported(), progressing("copying") as progress:
        done = perdure.backup(file, folder, blob_dir=blob_dir, full=full, progress=progress)
    if as_json:
        print_json(asdict(done))
    elif done.file is None:
        click.echo(f"{folder}: nothing new since {done.last_tid.hex()}")
    else:
        kind = "all" if done.full else "what was new"
        blobs = f", {done.blobs:,} blobs" if done.blobs else ""
        click.echo(f"{folder / done.file}: {kind}, {size(done.bytes_added)}{blobs}")


def _verify(folder: Path, *, as_json: bool) -> None:
    with errors_reported(), progressing("reading") as progress:
        problems = perdure.verify_backup(folder, progress)
    if as_json:
        print_json(problems)
    for problem in () if as_json else problems or [f"{folder}: whole"]:
        click.echo(problem)
    if problems:
        sys.exit(DAMAGED)


@click.command()
@click.argument("folder", type=FILE)
@click.argument("file", type=FILE)
@click.option("--at", type=MOMENT, help="The state at this tid or time. [default: the last one]")
@click.option("--blob-dir", type=FILE, help="The folder to restore blobs to.")
@JSON
def restore(
    folder: Path, file: Path, *, at: bytes | None, blob_dir: Path | None, as_json: bool
) -> None:
    """Make the new data file FILE from the backup in FOLDER.

    Example: perdure restore --at 2026-05-01T12:00 /backups/shop Data.fs
    """
    moment = Tid(at) if at else None
    with errors_reported(), progressing("copying") as progress:
        last = perdure.restore(folder, file, at=moment, blob_dir=blob_dir, progress=progress)
    if as_json:
        print_json({"file": str(file), "last_tid": last})
    else:
        click.echo(f"{file}: restored up to {last.hex()}")
