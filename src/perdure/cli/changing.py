"""`perdure pack` and `perdure undo`."""

import base64
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import transaction

import perdure
from perdure.cli.collections import SOURCE, Source, chosen, is_collection, is_described
from perdure.cli.opening import (
    FILE,
    JSON,
    MEMBER,
    MOMENT,
    errors_reported,
    print_json,
    progressing,
    reading,
    required_file,
    writing,
    writing_all,
)
from perdure.cli.output import size
from perdure.ids import oid_repr

__all__ = ["pack", "undo"]

IN_THE_WAY = 3
"""The exit code of a dry run that found something in the way."""
_SECONDS_PER_DAY = 86_400
_ENCRYPTED = b".e"
"""What the records of an encrypted database begin with."""


@click.command()
@click.argument("files", metavar="FILE...", type=SOURCE, nargs=-1, required=True)
@click.option("--days", type=click.FloatRange(min=0), default=0.0, help="Keep the last days whole.")
@click.option("--no-gc", is_flag=True, help="Keep objects that nothing refers to.")
@click.option("--no-old", is_flag=True, help="Don't keep the file as it was (FILE.old).")
@click.option("--blob-dir", type=FILE, help="The folder of its blobs.")
@click.option("--member", help="Only this one of the databases that are described.")
@JSON
def pack(
    files: tuple[Source, ...],
    *,
    days: float,
    no_gc: bool,
    no_old: bool,
    blob_dir: Path | None,
    member: str | None,
    as_json: bool,
) -> None:
    """Drop old revisions, and objects that nothing refers to, from FILE.

    Interrupted at any point, the file is as it was, or packed. A file that refers to objects of
    other files is only packed with --no-gc: those may refer to what looks like garbage here. Of a
    perdure.toml, ZConfig file or URI, all databases are packed, as it describes them; so are the
    members of a collection that are given as NAME=FILE (NAME=FILE,BLOB_DIR) each.

    Example: perdure pack --days 7 Data.fs

    Example: perdure pack perdure.toml

    Example: perdure pack orders=orders.fs customers=customers.fs
    """
    if not math.isfinite(days):
        raise click.BadParameter(f"{days} is no number of days", param_hint="--days")
    when = time.time() - days * _SECONDS_PER_DAY
    if is_collection(files):
        if is_described(files[0]) and (no_old or blob_dir is not None):
            raise click.UsageError(f"{files[0]} says itself what is kept, and where blobs are")
        if blob_dir is not None:
            raise click.UsageError("the blobs of a member are given as NAME=FILE,BLOB_DIR")
        gc = False if no_gc else None
        _pack_members(files, when, member, gc=gc, keep_old=not no_old, as_json=as_json)
        return
    (file,) = files
    required_file(file, member)
    if blob_dir is not None and not blob_dir.is_dir():
        raise click.ClickException(f"{blob_dir}: no such folder")
    with errors_reported():
        storage = perdure.FileStorage(
            str(file),
            pack_gc=not no_gc,
            pack_keep_old=not no_old,
            blob_dir=str(blob_dir) if blob_dir else None,
        )
        try:
            with progressing("packing") as progress:
                members = {storage.getName(): storage}
                packed = storage.pack(when, None, progress=progress, members=members)
        finally:
            storage.close()
    facts: dict[str, Any] = {"packed": packed is not None}
    if packed is not None:
        facts |= packed._asdict()
    print_json(facts) if as_json else click.echo(f"{file}: {_told(facts)}")


def _pack_members(
    sources: Sequence[Source],
    when: float,
    member: str | None,
    *,
    gc: bool | None,
    keep_old: bool,
    as_json: bool,
) -> None:
    with writing_all(sources) as collection, progressing("packing") as progress:
        wanted = dict(collection) if member is None else {member: chosen(collection, member)}
        if not keep_old:
            for database in wanted.values():
                database.storage.pack_keep_old = False
        before = {name: _measured(database, "before") for name, database in wanted.items()}
        if member is None:
            collection.pack(when, gc=gc, progress=progress)
        else:
            wanted[member].pack(when, gc=gc, progress=progress)
        sizes = {name: before[name] | _measured(each, "after") for name, each in wanted.items()}
    done = {
        name: {"packed": facts["bytes_after"] != facts["bytes_before"]} | facts
        for name, facts in sizes.items()
    }
    if as_json:
        print_json(done)
    for name, facts in () if as_json else done.items():
        click.echo(f"{name}: {_told(facts)}")


def _measured(database: Any, when: str) -> dict[str, int]:
    return {f"bytes_{when}": database.getSize(), f"objects_{when}": database.objectCount()}


def _told(facts: dict[str, Any]) -> str:
    if not facts["packed"]:
        return "nothing to pack"
    return (
        f"{size(facts['bytes_before'])} to {size(facts['bytes_after'])}, "
        f"{facts['objects_before']:,} to {facts['objects_after']:,} objects"
    )


@click.command()
@click.argument("file", type=SOURCE)
@click.argument("tid", type=MOMENT)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@MEMBER
@JSON
def undo(file: Source, tid: bytes, *, dry_run: bool, member: str | None, as_json: bool) -> None:
    """Undo the transaction TID of FILE (see `perdure log`).

    Exit code 1: it can't be undone, and nothing has changed. With --dry-run that is 3, and what
    stands in the way is told for each object.

    Example: perdure undo --dry-run Data.fs 040d278105e33d77
    """
    if not is_described(file):
        with reading(file, member) as storage:
            _require_in_clear(storage, file)
    with writing(file, member) as db:
        key = base64.encodebytes(tid).rstrip(b"\n")
        if dry_run:
            with progressing("looking"):
                steps = db.undo(key, dry_run=True)
            _tell_steps(steps, as_json=as_json)
            return
        manager = transaction.TransactionManager()
        current = manager.begin()
        current.note(f"undo {tid.hex()}")
        with progressing("undoing"):
            db.undo(key, current)
            manager.commit()
        last = db.lastTransaction().hex()
    if as_json:
        print_json({"undone": tid, "by": last})
    else:
        click.echo(f"{tid.hex()} is undone, by {last}")


def _require_in_clear(storage: Any, file: Source) -> None:
    """Refuse a file with encrypted records: what is undone without the key can't be read."""
    if len(storage) and storage.record_iternext()[2].startswith(_ENCRYPTED):
        raise click.ClickException(
            f"{file} is encrypted: give the perdure.toml that names the key, or use DB.undo"
        )


def _tell_steps(steps: Any, *, as_json: bool) -> None:
    """Print what an undo would do; exit with a code of its own where it can't be done."""
    if as_json:
        print_json(list(steps))
    for step in () if as_json else steps:
        reason = f": {step.reason}" if step.reason else ""
        click.echo(f"{oid_repr(step.oid)} {step.class_name}: {step.effect}{reason}")
    if any(step.effect == "impossible" for step in steps):
        sys.exit(IN_THE_WAY)
