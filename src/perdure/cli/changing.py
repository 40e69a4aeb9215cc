"""`perdure pack`, `perdure undo`, `perdure export` and `perdure import`."""

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

__all__ = ["export", "import_", "pack", "undo"]

_SECONDS_PER_DAY = 86_400


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


def _shown(value: Any) -> str:
    return oid_repr(value) if isinstance(value, bytes) else str(value)


@click.command()
@click.argument("file", type=FILE)
@click.argument("path")
@click.argument("target", type=FILE)
@JSON
def export(file: Path, path: str, target: Path, *, as_json: bool) -> None:
    """Write the object at PATH (see `perdure ls`), and all it refers to, into the file TARGET.

    Example: perdure export Data.fs /packages packages.zexp
    """
    with reading(file) as storage:
        found = perdure.Inspector(storage).at(path)
        oid = getattr(found, "oid", None)
        if oid is None:
            raise click.ClickException(f"{path} is a plain value: only objects can be exported")
        db = perdure.DB(storage)
        connection = db.open(transaction.TransactionManager())
        connection.exportFile(oid, str(target)).close()
        connection.close()
    facts = {"oid": oid, "class": found.class_name, "bytes": target.stat().st_size}
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{target}: {found.class_name} {oid_repr(oid)}, {size(target.stat().st_size)}")


@click.command("import")
@click.argument("file", type=FILE)
@click.argument("source", type=FILE)
@click.argument("name")
@JSON
def import_(file: Path, source: Path, name: str, *, as_json: bool) -> None:
    """Add what the export file SOURCE holds to the root of FILE, as NAME.

    Example: perdure import Data.fs packages.zexp packages
    """
    if not source.is_file():
        raise click.ClickException(f"{source}: no such file")
    with writing(file) as db:
        manager = transaction.TransactionManager()
        connection = db.open(manager)
        root = connection.root()
        if name in root:
            raise click.ClickException(f"the root of {file} has {name!r} already")
        try:
            imported = connection.importFile(str(source), clue=f"import of {source.name}")
            root[name] = imported
            manager.commit()
        except BaseException:
            manager.abort()
            raise
        oid = imported._p_oid
        connection.close()
    if as_json:
        print_json({"oid": oid, "name": name})
    else:
        click.echo(f"{file}: /{name} is {oid_repr(oid)}")
