"""`perdure analyze` and `perdure diff`."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import click
from rich.table import Table

from perdure.cli._console import Console
from perdure.cli.collections import SOURCE, Source, is_described
from perdure.cli.opening import (
    JSON,
    MEMBER,
    MOMENT,
    class_of,
    print_json,
    progressing,
    reading,
    time_of,
)
from perdure.cli.output import size
from perdure.ids import oid_repr

__all__ = ["analyze", "diff"]

_CLASSES_SHOWN = 20


@dataclass
class _ClassSizes:
    """What the records of one class amount to."""

    class_name: str
    objects: int = 0
    current_bytes: int = 0
    records: int = 0
    all_bytes: int = 0


@click.command()
@click.argument("file", type=SOURCE)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 10**9),
    help="How many classes, the largest first. [default: 20; all with --json]",
)
@MEMBER
@JSON
def analyze(file: Source, limit: int | None, *, member: str | None, as_json: bool) -> None:
    """Tell how many bytes and objects of which class FILE holds, and how it grew.

    Old revisions count as records, not as objects: a pack may free them.

    Example: perdure analyze demo/packages.fs
    """
    with reading(file, member) as storage, progressing("reading") as progress:
        classes, months = _measure(storage, progress)
    rows = sorted(classes, key=lambda each: -each.all_bytes)
    rows = rows[: limit or (None if as_json else _CLASSES_SHOWN)]
    if as_json:
        print_json({"classes": [asdict(row) for row in rows], "bytes_by_month": months})
        return
    table = Table("class", "objects", "bytes", "records", "bytes of all", box=None)
    # Names of classes are looked for by others, in `grep` for one: never cut.
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        numbers = (f"{row.objects:,}", size(row.current_bytes), f"{row.records:,}")
        table.add_row(row.class_name, *numbers, size(row.all_bytes))
    console = Console(highlight=False)
    console.print(table)
    console.print("\nwritten:")
    for month, count in months.items():
        console.print(f"  {month}  {size(count)}")


def _measure(storage: Any, progress: Any) -> tuple[Iterable[_ClassSizes], dict[str, int]]:
    classes: dict[str, _ClassSizes] = {}
    current: dict[bytes, tuple[str, int]] = {}
    months: Counter[str] = Counter()
    last = datetime.fromisoformat(time_of(storage.lastTransaction())) if len(storage) else None
    first = None
    for transaction in storage.iterator():
        when = time_of(transaction.tid)
        moment = datetime.fromisoformat(when)
        first = first or moment
        for record in transaction:
            name, length = class_of(record.data), len(record.data or b"")
            of_class = classes.setdefault(name, _ClassSizes(name))
            of_class.records += 1
            of_class.all_bytes += length
            months[when[:7]] += length
            current[record.oid] = (name, length)
        if last is not None:
            progress((moment - first).total_seconds(), (last - first).total_seconds())
    for name, length in current.values():
        classes[name].objects += 1
        classes[name].current_bytes += length
    return classes.values(), dict(months)


def _objects(
    storage: Any, since: bytes | None, until: bytes | None, progress: Any
) -> dict[bytes, Any]:
    """Return the last data of each object that transactions changed, by oid."""
    found: dict[bytes, Any] = {}
    for number, transaction in enumerate(storage.iterator(since, until), 1):
        progress(number, 0)
        if since is not None and transaction.tid == since:
            continue
        for record in transaction:
            found[record.oid] = record.data
    return found


@click.command()
@click.argument("file", type=SOURCE)
@click.argument("other", required=False, type=SOURCE)
@click.option("--from", "since", type=MOMENT, help="Changes after this tid or time.")
@click.option("--to", "until", type=MOMENT, help="Changes up to this tid or time.")
@MEMBER
@JSON
def diff(
    file: Source,
    other: Source | None,
    since: bytes | None,
    until: bytes | None,
    *,
    member: str | None,
    as_json: bool,
) -> None:
    """Tell which objects differ: between two files, or two moments of one.

    Example: perdure diff --from 2026-05-01 Data.fs

    Example: perdure diff Data.fs copy/Data.fs
    """
    if since is not None and until is not None and since > until:
        raise click.UsageError("--from is later than --to")
    if since is not None and other is not None:
        raise click.UsageError("--from is for two moments of one file")
    with reading(file, member) as storage, progressing("reading") as progress:
        if other is not None:
            old = _objects(storage, None, until, progress)
            with reading(other, member if is_described(other) else None) as second:
                new = _objects(second, None, until, progress)
        else:
            new = _objects(storage, since, until, progress)
            old = {}
            for oid in new:
                old[oid] = _data_at(storage, oid, since)
    rows = [
        {"oid": oid, "change": change, "class": class_of(old.get(oid) or new.get(oid))}
        for oid in sorted({*old, *new})
        if (change := _change(old.get(oid), new.get(oid))) is not None
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['change']}  {oid_repr(row['oid'])}  {row['class']}")
    if not rows:
        click.echo("no differences")


def _data_at(storage: Any, oid: bytes, at: bytes | None) -> bytes | None:
    if at is None:
        return None
    before = (int.from_bytes(at, "big") + 1).to_bytes(8, "big")
    try:
        found = storage.loadBefore(oid, before)
    except KeyError:
        return None
    return found[0] if found else None


def _change(old: bytes | None, new: bytes | None) -> str | None:
    if old == new:
        return None
    if old is None:
        return "added"
    return "removed" if new is None else "changed"
