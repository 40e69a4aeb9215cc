"""`perdure backup` and `perdure restore`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import perdure
from perdure.cli.collections import (
    SOURCE,
    Source,
    data_files,
    is_collection,
    is_described,
    single_data_file,
)
from perdure.cli.opening import FILE, JSON, MOMENT, errors_reported, print_json, progressing
from perdure.cli.output import size
from perdure.ids import Tid

__all__ = ["backup", "restore"]

DAMAGED = 3
"""The exit code where a backup is found to be damaged."""


@click.command()
@click.argument("files", metavar="[SOURCE...] FOLDER", nargs=-1, required=True, type=SOURCE)
@click.option("--blob-dir", type=FILE, help="The folder of the database's blobs.")
@click.option("--full", is_flag=True, help="Copy everything, not only what is new.")
@click.option(
    "--verify", is_flag=True, help="Only read the backup in FOLDER, and say what's wrong."
)
@JSON
def backup(
    files: tuple[Source, ...],
    *,
    blob_dir: Path | None,
    full: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Add what is new in SOURCE to the backup in FOLDER. SOURCE may be in use.

    FOLDER is new, or empty, or has the earlier backups of SOURCE.

    SOURCE is a data file, or a `file:` URI; or a collection, as a perdure.toml, as a ZConfig file,
    or as NAME=FILE (NAME=FILE,BLOB_DIR) for each member, of which all are backed up at one moment.
    Of a database that compresses or encrypts, the file below is backed up.

    Example: perdure backup Data.fs /backups/shop

    Example: perdure backup orders=orders.fs customers=customers.fs /backups/shop

    Example: perdure backup --verify /backups/shop
    """
    *sources, last = files
    folder = Path(last)
    if is_described(last):
        raise click.UsageError(f"{last} is no folder: the last argument is where the backup goes")
    if bool(sources) == verify:
        raise click.UsageError("give SOURCE and FOLDER, or with --verify FOLDER alone")
    if verify:
        _verify(folder, as_json=as_json)
    elif is_collection(sources) and not isinstance(sources[0], str):
        if blob_dir is not None:
            raise click.UsageError("the blobs of a member are given as NAME=FILE,BLOB_DIR")
        _back_up_collection(sources, folder, full=full, as_json=as_json)
    else:
        with errors_reported(), progressing("copying") as progress:
            source = single_data_file(sources[0])
            blobs = blob_dir or source.blob_dir
            done = perdure.backup(source.path, folder, blob_dir=blobs, full=full, progress=progress)
        if as_json:
            print_json(asdict(done))
        else:
            click.echo(_told(folder, done))


def _told(folder: Path, done: Any) -> str:
    if done.file is None:
        return f"{folder}: nothing new since {done.last_tid.hex()}"
    kind = "all" if done.full else "what was new"
    blobs = f", {done.blobs:,} blobs" if done.blobs else ""
    return f"{folder / done.file}: {kind}, {size(done.bytes_added)}{blobs}"


def _back_up_collection(sources: list[Source], folder: Path, *, full: bool, as_json: bool) -> None:
    with errors_reported(), progressing("copying") as progress:
        done = perdure.backup_collection(data_files(sources), folder, full=full, progress=progress)
    if as_json:
        print_json({"tid": done.tid, "members": {k: asdict(v) for k, v in done.members.items()}})
        return
    for name, member in done.members.items():
        click.echo(f"{name}: {_told(folder, member)}")
    click.echo(f"{folder}: {len(done.members)} members up to {done.tid.hex()}")


def _verify(folder: Path, *, as_json: bool) -> None:
    with errors_reported(), progressing("reading") as progress:
        of_collection = perdure.is_backup_of_collection(folder)
        verify = perdure.verify_collection_backup if of_collection else perdure.verify_backup
        problems = verify(folder, progress)
    if as_json:
        print_json(problems)
    for problem in () if as_json else problems or [f"{folder}: whole"]:
        click.echo(problem)
    if problems:
        sys.exit(DAMAGED)


@click.command()
@click.argument("folder", type=FILE)
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True, type=SOURCE)
@click.option("--at", type=MOMENT, help="The state at this tid or time. [default: the last one]")
@click.option("--blob-dir", type=FILE, help="The folder to restore blobs to.")
@JSON
def restore(
    folder: Path,
    targets: tuple[Source, ...],
    *,
    at: bytes | None,
    blob_dir: Path | None,
    as_json: bool,
) -> None:
    """Make TARGET from the backup in FOLDER. Nothing that exists is overwritten.

    TARGET is a new data file. Of a collection, it is a new folder, in which the member NAME gets
    NAME.fs and NAME.blobs, a perdure.toml that says where each member belongs, or NAME=FILE
    (NAME=FILE,BLOB_DIR) for each of them.

    Example: perdure restore --at 2026-05-01T12:00 /backups/shop Data.fs
    """
    moment = Tid(at) if at else None
    if perdure.is_backup_of_collection(folder):
        if blob_dir is not None:
            raise click.UsageError("the blobs of a member are given as NAME=FILE,BLOB_DIR")
        _restore_collection(folder, list(targets), moment, as_json=as_json)
        return
    if len(targets) != 1:
        raise click.UsageError(f"{folder} holds the backup of one data file: give one TARGET")
    with errors_reported(), progressing("copying") as progress:
        target = single_data_file(targets[0])
        last = perdure.restore(
            folder, target.path, at=moment, blob_dir=blob_dir or target.blob_dir, progress=progress
        )
    if as_json:
        print_json({"file": str(targets[0]), "last_tid": last})
    else:
        click.echo(f"{targets[0]}: restored up to {last.hex()}")


def _restore_collection(
    folder: Path, targets: list[Source], moment: Tid | None, *, as_json: bool
) -> None:
    with errors_reported(), progressing("copying") as progress:
        target: Any = data_files(targets) if is_collection(targets) else Path(targets[0])
        done = perdure.restore_collection(folder, target, at=moment, progress=progress)
    if as_json:
        print_json({"tid": done.tid, "files": done.files, "last_tids": done.last_tids})
        return
    for name, path in done.files.items():
        click.echo(f"{name}: {path}: restored up to {done.last_tids[name].hex()}")
    click.echo(f"{len(done.files)} members restored up to {done.tid.hex()}")
