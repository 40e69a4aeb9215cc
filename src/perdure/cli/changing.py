"""`perdure pack` and `perdure undo`."""

import base64
import time
from pathlib import Path
from typing import Any

import click
import transaction

import perdure
from perdure.cli.opening import (
    FILE,
    JSON,
    MOMENT,
    errors_reported,
    print_json,
    progressing,
    reading,
    writing,
)
from perdure.cli.output import size
from perdure.ids import oid_repr

__all__ = ["pack", "undo"]

_SECONDS_PER_DAY = 86_400
_ENCRYPTED = b".e"
"""What the records of an encrypted database begin with."""


@click.command()
@click.argument("file", type=FILE)
@click.option("--days", type=click.FloatRange(min=0), default=0.0, help="Keep the last days whole.")
@click.option("--no-gc", is_flag=True, help="Keep objects that nothing refers to.")
@click.option("--no-old", is_flag=True, help="Don't keep the file as it was (FILE.old).")
@click.option("--blob-dir", type=FILE, help="The folder of its blobs.")
@JSON
def pack(
    file: Path, *, days: float, no_gc: bool, no_old: bool, blob_dir: Path | None, as_json: bool
) -> None:
    """Drop old revisions, and objects that nothing refers to, from the data file FILE.

    Interrupted at any point, the file is as it was, or packed. A file that refers to objects of
    other files is only packed with --no-gc: those may refer to what looks like garbage here.

    Example: perdure pack --days 7 Data.fs
    """
    if not file.is_file():
        raise click.ClickException(f"{file}: no such file")
    with errors_reported():
        storage = perdure.FileStorage(
            str(file),
            pack_gc=not no_gc,
            pack_keep_old=not no_old,
            blob_dir=str(blob_dir) if blob_dir else None,
        )
        try:
            with progressing("packing") as progress:
                when = time.time() - days * _SECONDS_PER_DAY
                members = {storage.getName(): storage}
                packed = storage.pack(when, None, progress=progress, members=members)
        finally:
            storage.close()
    facts: dict[str, Any] = {"packed": packed is not None}
    if packed is not None:
        facts |= packed._asdict()
    if as_json:
        print_json(facts)
    elif packed is None:
        click.echo(f"{file}: nothing to pack")
    else:
        click.echo(
            f"{file}: {size(packed.bytes_before)} to {size(packed.bytes_after)}, "
            f"{packed.objects_before:,} to {packed.objects_after:,} objects"
        )


@click.command()
@click.argument("file", type=FILE)
@click.argument("tid", type=MOMENT)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@JSON
def undo(file: Path, tid: bytes, *, dry_run: bool, as_json: bool) -> None:
    """Undo the transaction TID of the data file FILE (see `perdure log`).

    Example: perdure undo --dry-run Data.fs 040d278105e33d77
    """
    with reading(file) as storage:
        _require_in_clear(storage, file)
    with writing(file) as db:
        key = base64.encodebytes(tid).rstrip(b"\n")
        if dry_run:
            steps = [step._asdict() for step in db.undo(key, dry_run=True)]
            if as_json:
                print_json(steps)
            for step in () if as_json else steps:
                text = ", ".join(f"{name} {_shown(value)}" for name, value in step.items())
                click.echo(text)
            return
        manager = transaction.TransactionManager()
        current = manager.begin()
        current.note(f"undo {tid.hex()}")
        db.undo(key, current)
        manager.commit()
        last = db.lastTransaction().hex()
    if as_json:
        print_json({"undone": tid, "by": last})
    else:
        click.echo(f"{tid.hex()} is undone, by {last}")


def _require_in_clear(storage: Any, file: Path) -> None:
    """Refuse a file with encrypted records: what is undone without the key can't be read."""
    if len(storage) and storage.record_iternext()[2].startswith(_ENCRYPTED):
        raise click.ClickException(
            f"{file} is encrypted: undo through the database that has the key (DB.undo)"
        )


def _shown(value: Any) -> str:
    return oid_repr(value) if isinstance(value, bytes) else str(value)
