"""`perdure check`, `perdure recover` and `perdure copy`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import perdure
from perdure.cli.collections import data_files, is_collection, members, oid_in, opened
from perdure.cli.opening import FILE, JSON, errors_reported, print_json, progressing
from perdure.ids import oid_repr

__all__ = ["check", "copy", "recover", "referrers"]

FOUND_SOMETHING = 3
"""The exit code of a check that found something wrong."""


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--blob-dir", type=FILE, help="The folder of its blobs, to check them, too.")
@JSON
def check(files: tuple[Path, ...], *, blob_dir: Path | None, as_json: bool) -> None:
    """Read everything in data files, and say what is wrong. They are only read.

    Several files are checked as a collection, by the names NAME=FILE or the files' own; so are the
    members that a perdure.toml describes. References to what isn't there are told with all who
    refer to it, and the way from a root object.

    Exit code 0: nothing is wrong; 3: something is; 1: a file can't be read.

    Example: perdure check packages=packages.fs maintainers=maintainers.fs
    """
    if blob_dir is not None and is_collection(files):
        raise click.UsageError("the blobs of a member are given as NAME=FILE,BLOB_DIR")
    with errors_reported(), progressing("checking") as progress:
        if not is_collection(files):
            reports = [perdure.check(perdure.DataFile(files[0], blob_dir), progress)]
        else:
            with members(files) as given:
                reports = list(perdure.check_collection(given, progress).values())
    if as_json:
        print_json([asdict(report) | {"ok": report.ok} for report in reports])
    else:
        for report in reports:
            click.echo(str(report))
            for finding in report.findings:
                click.echo(f"  {finding.kind}: {finding}")
    if not all(report.ok for report in reports):
        sys.exit(FOUND_SOMETHING)


@click.command()
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@JSON
def recover(source: Path, target: Path, *, as_json: bool) -> None:
    """Copy every whole transaction of the damaged file SOURCE into the new file TARGET.

    Exit code 0: everything was whole; 3: something was lost; 1: nothing could be done.

    Example: perdure recover Data.fs Data.new.fs
    """
    with errors_reported(), progressing("recovering") as progress:
        done = perdure.recover(source, target, progress)
    if as_json:
        print_json(asdict(done) | {"ok": done.ok})
    else:
        click.echo(f"{target}: {done.transactions:,} transactions, {done.records:,} records")
        for lost in done.lost:
            click.echo(f"  lost: {lost}")
        for record in done.lost_records:
            click.echo(f"  left out: {record}")
        for finding in done.remaining.findings if done.remaining else ():
            click.echo(f"  remaining: {finding.kind}: {finding}")
    if not done.ok:
        sys.exit(FOUND_SOMETHING)


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=FILE)
@click.argument("target", type=FILE)
@JSON
def copy(sources: tuple[Path, ...], target: Path, *, as_json: bool) -> None:
    """Copy the transactions of the data file SOURCE that TARGET hasn't yet.

    Interrupted, it can be called again: it goes on where it was. SOURCE may also be a collection
    (a perdure.toml, or NAME=FILE for each member), TARGET is a folder then, in which the member
    NAME gets NAME.fs, and all members are copied up to one moment.

    Example: perdure copy Data.fs copies/Data.fs
    """
    if is_collection(sources):
        _copy_collection(sources, target, as_json=as_json)
        return
    with errors_reported(), progressing("copying") as progress:
        done = perdure.copy(sources[0], target, progress)
    if as_json:
        print_json(asdict(done))
    else:
        click.echo(f"{target}: {done.transactions:,} transactions copied")


def _copy_collection(sources: Sequence[Path], target: Path, *, as_json: bool) -> None:
    with errors_reported(), progressing("copying") as progress:
        done = perdure.copy_collection(data_files(sources), target, progress)
    if as_json:
        print_json({"tid": done.tid, "members": {k: asdict(v) for k, v in done.members.items()}})
        return
    for name, member in done.members.items():
        click.echo(f"{name}: {member.transactions:,} transactions copied")
    click.echo(f"{target}: {len(done.members)} members up to {done.tid.hex()}")


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.argument("oid")
@JSON
def referrers(files: tuple[Path, ...], oid: str, *, as_json: bool) -> None:
    """Tell which objects refer to the object OID (such as 0x2a).

    The index of references is kept beside the file, in FILE.refs. In a collection (a perdure.toml,
    or NAME=FILE for each member), the object is MEMBER:OID, and those of all members are told.

    Example: perdure referrers Data.fs 0x2a

    Example: perdure referrers orders=orders.fs customers=customers.fs customers:0x2a
    """
    member, colon, text = oid.rpartition(":")
    wanted = oid_in(text)
    with errors_reported(), progressing("reading") as progress:
        if bool(colon) != is_collection(files):
            raise click.UsageError("in a collection, and only there, the object is MEMBER:OID")
        if not colon:
            found: list[Any] = list(perdure.refers_to(files[0], wanted, progress))
        else:
            with opened(files) as given:
                if member not in given:
                    raise click.UsageError(f"no member {member!r} among {', '.join(given)}")
                found = perdure.References(given, progress).referrers(member, wanted)
    if as_json:
        print_json([each._asdict() if colon else each for each in found])
    else:
        for each in found:
            click.echo(f"{each.member}:{oid_repr(each.oid)}" if colon else oid_repr(each))
