"""`perdure info FILE` and `perdure log FILE`: what a data file holds, and its transactions."""

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

import perdure
from perdure.cli.opening import progressing
from perdure.cli.output import size
from perdure.errors import POSError
from perdure.timestamp import TimeStamp


@dataclass(frozen=True)
class Transaction:
    """One transaction of a data file."""

    tid: str
    time: str
    """UTC, ISO 8601."""
    status: str
    user: str
    description: str
    records: int
    data_bytes: int


@contextmanager
def _reading(file: Path) -> Iterator[Any]:
    """Open the data file read-only (a writer may have it open, too); report errors as a command."""
    if not file.is_file():
        problem = "a folder, not a data file" if file.is_dir() else "no such file"
        raise click.ClickException(f"{file}: {problem}")
    try:
        storage = perdure.FileStorage(str(file), read_only=True)
        try:
            yield storage
        finally:
            storage.close()
    except (POSError, OSError) as error:
        raise click.ClickException(str(error)) from error


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(file: Path, *, as_json: bool) -> None:
    """Tell what the data file FILE holds. It is only read.

    Example: perdure info Data.fs
    """
    with _reading(file) as storage:
        last = storage.lastTransaction()
        facts = {
            "file": str(file),
            "size_bytes": storage.getSize(),
            "objects": len(storage),
            "last_tid": last.hex(),
            "last_transaction": _time(last),
        }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(
        f"{facts['file']}: {facts['objects']:,} objects, {size(facts['size_bytes'])}\n"
        f"last transaction {facts['last_transaction']} (tid {facts['last_tid']})"
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def log(file: Path, limit: int, *, as_json: bool) -> None:
    """List the last transactions of the data file FILE, the newest first. It is only read.

    Example: perdure log --limit 5 Data.fs
    """
    with _reading(file) as storage, progressing("reading") as progress:
        tids: deque[bytes] = deque(maxlen=limit)
        for number, each in enumerate(storage.iterator(), 1):
            tids.append(each.tid)
            progress(number, 0)
        transactions = [_transaction(each) for each in storage.iterator(tids[0])] if tids else []
    transactions.reverse()
    if as_json:
        click.echo(json.dumps([asdict(each) for each in transactions], indent=2))
        return
    for each in transactions:
        who = f" by {each.user}" if each.user else ""
        click.echo(
            f"{each.time}  tid {each.tid}  {each.records:,} records, {size(each.data_bytes)}{who}"
        )
        for line in each.description.splitlines():
            click.echo(f"    {line}")


def _transaction(found: Any) -> Transaction:
    records = list(found)
    return Transaction(
        tid=found.tid.hex(),
        time=_time(found.tid),
        status=found.status,
        user=found.user.decode(errors="replace"),
        description=found.description.decode(errors="replace"),
        records=len(records),
        data_bytes=sum(len(record.data or b"") for record in records),
    )


def _time(tid: bytes) -> str:
    if not any(tid):
        return "never"
    seconds = TimeStamp(tid).timeTime()
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
