"""`perdure info FILE` and `perdure log FILE`: what a data file holds, and its transactions."""

import json
from collections import deque
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import click

from perdure._messages import encoded_message, encoding_of
from perdure.cli.collections import SOURCE, Source
from perdure.cli.opening import JSON, MEMBER, progressing, reading
from perdure.cli.output import size
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


@click.command()
@click.argument("file", type=SOURCE)
@MEMBER
@JSON
def info(file: Source, *, member: str | None, as_json: bool) -> None:
    """Tell what FILE holds: a data file, a perdure.toml, a ZConfig file or a URI. It is only read.

    Example: perdure info Data.fs

    Example: perdure info 'file:///srv/Data.fs?blob_dir=/srv/blobs'
    """
    with reading(file, member) as storage:
        last = storage.lastTransaction()
        facts = {
            "file": str(file),
            "size_bytes": storage.getSize(),
            "objects": len(storage),
            "last_tid": last.hex(),
            "last_transaction": _time(last),
        }
        encoding = encoding_of(storage.record_iternext()[2]) if len(storage) else None
    if as_json:
        click.echo(json.dumps(facts | {"encoding": encoding}, indent=2))
        return
    click.echo(
        f"{facts['file']}: {facts['objects']:,} objects, {size(facts['size_bytes'])}\n"
        f"last transaction {facts['last_transaction']} (tid {facts['last_tid']})"
    )
    if encoding is not None:
        click.echo(f"its first record can't be read here: {encoded_message(encoding)}")


@click.command()
@click.argument("file", type=SOURCE)
@click.option("-n", "--limit", type=click.IntRange(1, 10**9), default=20, show_default=True)
@MEMBER
@JSON
def log(file: Source, limit: int, *, member: str | None, as_json: bool) -> None:
    """List the last transactions of FILE (see `perdure info`), the newest first. It is only read.

    Example: perdure log --limit 5 Data.fs
    """
    with reading(file, member) as storage, progressing("reading") as progress:
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
        records = "1 record" if each.records == 1 else f"{each.records:,} records"
        click.echo(f"{each.time}  tid {each.tid}  {records}, {size(each.data_bytes)}{who}")
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
